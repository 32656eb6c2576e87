"""The ways in which a run ends early, and how each is told to the person at the terminal."""

from __future__ import annotations


class UsageError(Exception):
    """Something the user gave cannot work: one line, what is accepted; exit code 2."""


class RunError(Exception):
    """The run cannot continue although its options were fine: one line; exit code 1."""


class Diverged(RunError):
    """The loss or a weight is no longer finite, or a score is NaN."""


class Terminated(KeyboardInterrupt):
    """Another program asked this one to stop (SIGTERM)."""


# How torch's errors say it, on a GPU and on the CPU; they are RuntimeErrors.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def failure_of_the_machine(error: BaseException) -> str | None:
    """What failed, in a line: disk, memory, GPU. None for any other error."""
    if isinstance(error, OSError | MemoryError):
        return str(error) or type(error).__name__
    if isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY):
        return "out of memory; a lower --limit or --batch-size helps, on a GPU also --device cpu"
    if type(error).__name__ == "AcceleratorError":  # torch's: after sleep, or a driver's reset
        return f"the GPU failed ({str(error).splitlines()[0]})"
    return None
