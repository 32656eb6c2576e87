"""What several test files use: a run in a folder of the test's, a main() with its exit code."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile

# One thread, here and in the processes that tests start: threads of small computations that wait
# for each other are many times slower on a busy machine. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from common.cli import PROJECT
from common.jobs import Job, OnEpoch, Work
from common.runs import Run
from common.start import start_run

# How long an example takes says nothing on a machine that does other work too. No folder of
# examples is kept: the clone may be read-only.
settings.register_profile("untimed", deadline=None, database=None)
settings.load_profile("untimed")

# No test can see whether a file survives a power cut; waiting for the disk takes seconds.
os.fsync = lambda _: None

# Many tests read the same eight archives; unpacking the largest takes half a second.
gzip.decompress = lru_cache(maxsize=8)(gzip.decompress)

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]
TIMES = {"drawing_share", "seconds_per_epoch", "small_kernel_time",
         "small_kernel_time_trained_longer", "bottleneck_time"}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lock files, which nothing deletes, lie among the tests' files, of which pytest keeps few."""
    tempfile.tempdir = str(tmp_path_factory.getbasetemp())
    yield
    tempfile.tempdir = None


def in_full(*values: object) -> list[object]:
    """Values of `parametrize` that are tried with `-m full` only."""
    return [pytest.param(value, marks=pytest.mark.full) for value in values]


def make_run(folder: Path, *, threads: int | None = None, **options: object) -> Run:
    """A run as a script starts it, on the CPU; `options` are those of a command line."""
    defaults = {"seed": 0, "device": "cpu", "precision": "fp32", "limit": None, "out_dir": folder,
                "overwrite": False, "resume": False}  # fmt: skip
    parsed = argparse.Namespace(**{**defaults, **options})
    return start_run("script.py", parsed, [], threads=threads)


def run_command(folder: Path, script: str, *arguments: object) -> tuple[str, Path]:
    """Runs a chapter as a learner does, from a folder of their own, where it makes runs/.

    Gives what it printed and the folder of its run, and checks what every chapter promises.
    """
    command = [sys.executable, str(PROJECT / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What the document states, and what this run measured" in done.stdout
    (run,) = (folder / "runs" / Path(script).stem).iterdir()
    assert (run / "summary.json").exists()
    assert done.stdout.rstrip().endswith(run.name), "the last line says where everything is"
    for line in done.stdout.splitlines():
        assert len(line) <= 80 or "epoch" in line or "runs/" in line
    return done.stdout, run


def run_jobs_here(
    jobs: Sequence[Job], work: Work, processes: int, on_epoch: OnEpoch
) -> dict[str, str]:
    """`common.jobs.run_jobs` without processes, each of which takes seconds to import torch."""
    failures = {}
    for job in jobs:
        job.run.listener = partial(on_epoch, job)
        try:
            work(job)
        except Exception as error:
            failures[job.run.name] = f"{type(error).__name__}: {error}"
    return failures


@contextmanager
def no_processes() -> Iterator[None]:
    """Within it the trainings of a study or a ladder run here, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.jobs.run_jobs", run_jobs_here)
        patch.setattr("benchmarks.fmnist_hyperparams.run_jobs", run_jobs_here)
        yield


def read_summary(folder: Path) -> dict[str, Any]:
    """What a run wrote at its end."""
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return content


def numbers(folder: Path) -> dict[str, float]:
    """A run's metrics without those that are times, which no two runs share."""
    metrics = read_summary(folder)["metrics"]
    return {name: value for name, value in metrics.items() if name not in TIMES}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a script's main with arguments; gives its exit code, standard output and error."""

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
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not painted, and grids of images not made: most of a small run's time.

    Their files are there, and empty.
    """
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    for report in ("classification", "fashion_cnn", "line_regression", "line_regression_draft",
                   "line_regression_question", "mnist_mlp", "recipe_digits"):  # fmt: skip
        monkeypatch.setattr(f"reports.{report}.image_grid", lambda *_, **__: None)


@pytest.fixture
def refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., str]:
    """Calls a script's main with what cannot work; gives the one line it ends with.

    Checks that it ends with exit code 2, prints nothing else and leaves nothing behind in the
    current folder.
    """

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        before = {path.name for path in tmp_path.iterdir()}
        code, out, err = call(main, *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        after = {path.name for path in tmp_path.iterdir()}
        assert after == before, "a refused command left something behind"
        return err

    return run


@dataclass
class Training:
    """What a script's first `run.epochs` was given, and the precision of its first batch."""

    run: Run
    epochs: int
    model: nn.Module
    optimizer: Optimizer
    batches: DataLoader[Any]
    dtype: torch.dtype | None = None


@pytest.fixture
def first_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Training]:
    """Calls a script's main, which is ended at the first batch of its first `run.epochs`."""

    class Found(Exception):
        pass

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> Training:
        found: list[Training] = []
        epochs = Run.epochs

        def note(run: Run, count: int, *rest: Any, **others: Any) -> Any:
            found.append(Training(run, count, *rest))
            return epochs(run, count, *rest, **others)

        def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.nullcontext[None]:
            if found:
                found[0].dtype = dtype
                raise Found
            return contextlib.nullcontext()

        monkeypatch.setattr(Run, "epochs", note)
        for module in ("common.training", "mnist_mlp"):
            monkeypatch.setattr(f"{module}.autocast", autocast)
        with pytest.raises(Found):
            main([str(argument) for argument in arguments])
        return found[0]

    return run


@dataclass
class Peak:
    """The most memory that was used within a `with peak_memory()`, beside what there was before."""

    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measures the memory of this process; skips the test where the system (not Linux) does not."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process's memory is measured on Linux only")

    def kilobytes(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before, peak = kilobytes("VmRSS"), Peak()
    yield peak
    peak.megabytes = (kilobytes("VmHWM") - before) / 1024
