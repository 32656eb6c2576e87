"""The rest of document 5: results, figures and answers of its experiments."""
