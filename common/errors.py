"""The two ways in which a run ends early, and how each is told to the person at the terminal."""

from __future__ import annotations


class UsageError(Exception):
    """Something the user gave cannot work: one line that says what was wrong and what is accepted; exit code 2."""


class RunError(Exception):
    """The run cannot go on although its options were fine: one line; exit code 1."""
