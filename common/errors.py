"""The ways in which a run ends early, and how each is told to the person at the terminal."""

from __future__ import annotations


class UsageError(Exception):
    """Something the user gave cannot work: one line, what is accepted; exit code 2."""


class RunError(Exception):
    """The run cannot continue although its options were fine: one line; exit code 1."""


class Diverged(RunError):
    """The loss or a weight is no longer a finite number."""


class Terminated(KeyboardInterrupt):
    """Another program asked this one to stop (SIGTERM)."""
