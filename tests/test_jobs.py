"""Trainings in worker processes: all are done, on one thread each; deaths and errors are named."""

from __future__ import annotations

from common.begin import signals_wait
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock

import common.epochs
from common.errors import UsageError
from common.folders import LOCK, RunFolder
from common.jobs import Job, Work, _Worker, run_jobs
from common.rows import Row, read_rows
from tests.helpers import make_run
from tests.toy_trainings import ignore, train, work

PROJECT = Path(__file__).parent.parent


def make_jobs(folder: Path, settings: list[str], epochs: int = 2) -> list[Job]:
    run = make_run(folder)
    jobs = []
    for seed, name in enumerate(settings):
        jobs.append(Job(run.subrun(name, {"name": name}, seed), epochs, name))
    return jobs


def test_a_death_and_an_error_are_named_and_the_others_are_done(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["dies", "one", "fails", "two", "deleted"])
    shutil.rmtree(tmp_path / "deleted")
    seen: list[tuple[str, float, float]] = []

    def note(job: Job, row: Row) -> None:
        seen.append((job.run.name, row["epoch"], row["threads"]))

    (tmp_path / "one" / "error.txt").write_text("of an earlier try")
    failures = run_jobs(jobs, work, 2, note)
    assert set(failures) == {"dies", "fails", "deleted"}
    assert not (tmp_path / "deleted").exists()  # a run that nobody could continue
    assert "deleted" in failures["deleted"]
    assert not (tmp_path / "one" / "error.txt").exists()
    assert jobs[0].run.is_part
    assert "its process died (exit code " in failures["dies"]
    kept = tmp_path / "fails" / "error.txt"
    assert failures["fails"] == f"ValueError: no such thing (see {kept})"
    assert 'raise ValueError("no such thing")' in kept.read_text()
    assert [job.run.name for job in jobs if job.finished] == ["one", "two"]
    expected = [(name, epoch, 1.0) for name in ("one", "two", "fails") for epoch in (1, 2)]
    assert sorted(seen) == sorted(expected)


def test_no_process_is_started_without_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Dying(_Worker):
        def __init__(self, work: Work) -> None:
            self.pipe, self.theirs = Pipe()
            self.process, self.job = Mock(exitcode=-9), None
            started.append(self)

        def take(self, waiting: deque[Job]) -> None:
            super().take(waiting)
            self.theirs.close()

    monkeypatch.setattr("common.jobs._Worker", Dying)
    assert run_jobs([], work, 4, ignore) == {}
    assert not started
    jobs = make_jobs(tmp_path, ["one", "two", "three"])
    assert set(run_jobs(jobs, work, 2, ignore)) == {"one", "two", "three"}
    assert len(started) == 3
    assert all(worker.pipe.closed for worker in started)


LONG = """
import sys
from pathlib import Path
from common.jobs import run_jobs
from tests.toy_trainings import ignore, work

if __name__ == "__main__":
    from tests.test_jobs import make_jobs

    jobs = make_jobs(Path(sys.argv[1]), ["long"], epochs=1_000_000)
    run_jobs(jobs, work, 1, ignore)
"""


def start(
    script: Path, source: str, *arguments: object, session: bool = False
) -> subprocess.Popen[str]:
    script.write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(script), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=session,
        # Ctrl-C may be ignored where the tests run in the background; a child would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL) if session else None,
    )  # fmt: skip


STARTING = """
import sys
from pathlib import Path
from common.cli import guarded
from common.jobs import run_jobs
from tests.toy_trainings import ignore, work

@guarded
def main(argv=None):
    from tests.test_jobs import make_jobs

    jobs = make_jobs(Path(sys.argv[1]), ["a", "b", "c", "d"], epochs=1_000_000)
    print("starts", flush=True)
    run_jobs(jobs, work, 4, ignore)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("after", [pytest.param(0.1, marks=pytest.mark.full), 0.4])
def test_ctrl_c_while_workers_start_is_one_line(after: float, tmp_path: Path) -> None:
    """A terminal sends it to all processes, also to those that are still importing torch."""
    parent = start(tmp_path / "script.py", STARTING, tmp_path / "run", session=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "starts\n"
    time.sleep(after)
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=60)
    assert (parent.returncode, err) == (130, "script.py: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_a_process_is_started(number: signal.Signals) -> None:
    done, before = [], signal.signal(number, lambda *_: done.append("handled"))
    try:
        with signals_wait():
            signal.raise_signal(number)
            done.append("started")
    finally:
        signal.signal(number, before)
    assert done == ["started", "handled"]


def is_running(process: int) -> bool:
    """Also of a process that is nobody's child any more; a zombie has ended."""
    with contextlib.suppress(OSError):
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc for another process")
def test_a_worker_holds_its_folder_and_ends_with_its_killed_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.epochs, "LOCK_SECONDS", 0.1)
    folder = tmp_path / "run"
    metrics, note = folder / "long" / "metrics.csv", folder / "long" / "worker.txt"
    parent = start(tmp_path / "script.py", LONG, folder)
    worker = 0
    try:
        deadline = time.monotonic() + 60
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            assert parent.poll() is None, parent.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        worker = int(note.read_text())

        # While the worker trains, neither a run nor another worker may write there.
        with pytest.raises(UsageError, match="another run is writing there"):
            make_run(folder, resume=True)
        other = make_run(tmp_path / "other")
        other.run_folder = RunFolder(folder / "long", other.script)
        with pytest.raises(UsageError, match="another run is writing there"):
            train(other, 1)
        assert len(read_rows(metrics)) > 3, "what the worker wrote is still there"

        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while is_running(worker):
            assert time.monotonic() < deadline, "the worker outlives its parent"
            time.sleep(0.02)
        written = metrics.read_bytes()
        time.sleep(0.3)
        assert metrics.read_bytes() == written
    finally:
        parent.kill()
        parent.communicate()
        if worker and is_running(worker):
            os.kill(worker, signal.SIGKILL)

    # Whoever comes next may have the folder.
    subrun = make_run(folder, resume=True).subrun("long", {"name": "long"}, 0)
    rows = len(subrun.history)
    train(subrun, 2)
    assert (rows, len(subrun.history)) == (0, 2)


def test_a_training_waits_for_a_worker_that_is_ending(tmp_path: Path) -> None:
    """As after a kill: `run.epochs` waits for the lock, and then has the folder to itself."""
    subrun = make_run(tmp_path / "run").subrun("one", {"name": "one"}, 0)
    held = FileLock(subrun.folder / LOCK, thread_local=False)
    held.acquire()
    threading.Timer(0.5, held.release).start()
    started = time.monotonic()
    train(subrun, 1)
    assert time.monotonic() - started > 0.4
    assert (subrun.folder / "model.pt").exists()


RANKS = """
import sys
from pathlib import Path
from common.ranks import rank, run_on_all_ranks
from tests.test_jobs import make_jobs
from tests.toy_trainings import work

folder = Path(sys.argv[1])
if __name__ == "__main__":
    if rank():
        run_on_all_ranks(None, work, 1)
    else:
        jobs = make_jobs(folder, ["a", "fails", "b", "c"])
        failures = run_on_all_ranks(jobs, work, 1, ("train_loss",))
        (folder / "failures.txt").write_text(str(failures))
"""


@pytest.mark.full
def test_two_ranks_of_torchrun_share_the_jobs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(RANKS)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), str(tmp_path / "out")],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "2/2 b: 2 epochs, train_loss" in done.stdout
    trained = {path.parent.name for path in (tmp_path / "out").glob("*/model.pt")}
    assert trained == {"a", "b", "c"}
    failures = (tmp_path / "out" / "failures.txt").read_text()
    assert "{'fails': 'ValueError: no such thing (see " in failures
