"""What several test files use: a run folder without a command line, and a main() that may end with an exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from common.runs import Run

Outcome = tuple[int, str, str]


def make_run(folder: Path, *, resume: bool = False, seed: int = 0) -> Run:
    """A Run as `start_run` makes it, on the CPU, in a folder of the test's."""
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder, "script.py", "script", seed, torch.device("cpu"), torch.float32, resume, ())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Calls a script's main with arguments; returns its exit code, standard output and standard error."""

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> Outcome:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
