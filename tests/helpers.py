"""What several test files use: a run in a folder of the test's, a chapter as a command."""

from __future__ import annotations

import argparse
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from common.cli import PROJECT
from common.jobs import Job, OnEpoch, Work
from common.runs import Run
from common.start import start_run

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]
TIMES = {"drawing_share", "seconds_per_epoch", "small_kernel_time",
         "small_kernel_time_trained_longer", "bottleneck_time"}  # fmt: skip


def in_full(*values: object) -> list[object]:
    """Values of `parametrize` that are tried with `-m full` only."""
    return [pytest.param(value, marks=pytest.mark.full) for value in values]


def make_run(folder: Path, *, threads: int | None = None, **options: object) -> Run:
    """A run as a script starts it, on the CPU; `options` are those of a command line."""
    defaults = {"seed": 0, "device": "cpu", "precision": "fp32", "limit": None, "out_dir": folder,
                "overwrite": False, "resume": False}  # fmt: skip
    parsed = argparse.Namespace(**{**defaults, **options})
    return start_run("script.py", parsed, [], threads=threads)


def run_script(folder: Path, script: str, *arguments: object) -> tuple[str, Path]:
    """Runs a chapter as a learner does, from a folder of their own, where it makes runs/.

    In this process, which has imported torch: a new one needs seconds for that (`run_command`).
    Gives what it printed and the folder of its run, and checks what every chapter promises.
    """
    path = str(PROJECT / script)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")
    return out.getvalue(), finished_run(folder, script, out.getvalue(), err.getvalue())


def run_command(folder: Path, script: str, *arguments: object) -> None:
    """The same in a process of its own."""
    command = [sys.executable, str(PROJECT / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    finished_run(folder, script, done.stdout, done.stderr)


def finished_run(folder: Path, script: str, out: str, err: str) -> Path:
    """The folder of the run that a chapter has just left; checks what it printed."""
    assert err == ""
    assert "What the document states, and what this run measured" in out
    (run,) = (folder / "runs" / Path(script).stem).iterdir()
    assert (run / "summary.json").exists()
    assert out.rstrip().endswith(run.name), "the last line says where everything is"
    for line in out.splitlines():
        assert len(line) <= 80 or "epoch" in line or "runs/" in line
    return run


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


@dataclass
class Training:
    """What a script's first `run.epochs` was given, and the precision of its first batch."""

    run: Run
    epochs: int
    model: nn.Module
    optimizer: Optimizer
    batches: DataLoader[Any]
    dtype: torch.dtype | None = None


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
