"""Times the documents' own ways against this project's, in pairs."""
