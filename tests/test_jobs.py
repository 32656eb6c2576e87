"""Trainings in processes of their own: all are done, on one thread each; deaths and errors are named."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from common.study import Job, Row, run_jobs
from tests.conftest import make_run

Report = Callable[[Row], None]


def make_jobs(folder: Path, settings: list[str]) -> list[Job]:
    run = make_run(folder)
    return [Job(dataclasses.replace(run, folder=folder / name, name=name, seed=seed), 2, name)
            for seed, name in enumerate(settings)]


def work(job: Job, report: Report) -> None:
    """Stands for a training; its settings say how it ends."""
    if job.settings.startswith("dies"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    for epoch in (1, 2):
        report({"epoch": epoch, "loss": 1 / epoch, "threads": torch.get_num_threads()})
    if job.settings.startswith("fails"):
        raise ValueError("no such thing")
    (job.run.folder / "model.pt").write_bytes(b"")


def test_a_death_and_an_error_are_named_and_the_others_are_done(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["dies", "one", "fails", "two"])
    seen: list[tuple[str, float, float]] = []
    failures = run_jobs(jobs, work, 2, lambda job, row: seen.append((job.run.name, row["epoch"], row["threads"])))
    assert set(failures) == {"dies", "fails"}
    assert "its process died (exit code -" in failures["dies"]
    assert failures["fails"] == "ValueError: no such thing"
    assert [job.run.name for job in jobs if job.finished] == ["one", "two"]
    assert sorted(seen) == sorted((name, epoch, 1) for name in ("one", "two", "fails") for epoch in (1, 2))


def test_no_jobs_are_no_processes() -> None:
    assert run_jobs([], work, 4, lambda job, row: None) == {}


SCRIPT = """
import sys
from pathlib import Path
from common.study import run_study, rank
from tests.test_study import make_jobs, work

folder = Path(sys.argv[1])
if __name__ == "__main__":
    if rank():
        run_study(None, work, 1)
    else:
        failures = run_study(make_jobs(folder, ["a", "fails", "b", "c"]), work, 1, {"loss": "loss"})
        (folder / "failures.txt").write_text(str(failures))
"""


def test_two_ranks_of_torchrun_share_the_jobs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    project = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         str(tmp_path / "out")], cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2/2 b: 2 epochs  loss" in done.stdout
    assert {path.parent.name for path in (tmp_path / "out").glob("*/model.pt")} == {"a", "b", "c"}
    assert (tmp_path / "out" / "failures.txt").read_text() == "{'fails': 'ValueError: no such thing'}"
