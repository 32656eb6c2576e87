"""What several test files use: a run folder without a command line, and a main() that may end with an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from common.runs import Run

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]
TIMES = {"drawing_share", "seconds_per_epoch", "small_kernel_time", "bottleneck_time"}


def make_run(folder: Path, *, resume: bool = False, seed: int = 0) -> Run:
    """A Run as `start_run` makes it, on the CPU, in a folder of the test's."""
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder, "script.py", "script", seed, torch.device("cpu"), torch.float32, resume, ())


def read_summary(folder: Path) -> dict[str, Any]:
    """What a run wrote at its end."""
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return content


def numbers(folder: Path) -> dict[str, float]:
    """A run's metrics without those that are times, which no two runs share."""
    return {name: value for name, value in read_summary(folder)["metrics"].items() if name not in TIMES}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
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


@pytest.fixture
def refused(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Calls a script's main with what cannot work; returns the one line it ends with.

    Checks that it ends with exit code 2, prints nothing else and leaves nothing behind in the current folder.
    """

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        before = {path.name for path in tmp_path.iterdir()}
        code, out, err = call(main, *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert {path.name for path in tmp_path.iterdir()} == before, "a refused command left something behind"
        return err

    return run
