"""Many independent trainings, side by side in processes of their own."""

from __future__ import annotations

from common.begin import signals_wait
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from common.device import configure_numerics
from common.files import write_text
from common.rows import Row
from common.runs import Run
from common.terminal import QUIET_SECONDS, WINDOWS, progress_bar


@dataclass(frozen=True)
class Job:
    """One training: its run, its number of epochs, and what `work` needs to know; picklable."""

    run: Run
    epochs: int
    settings: Any

    @property
    def finished(self) -> bool:
        """Whether its folder holds the trained network, which is written last."""
        return (self.run.folder / "model.pt").exists()


Work = Callable[[Job], None]
OnEpoch = Callable[[Job, Row], None]


def run_jobs(jobs: Sequence[Job], work: Work, processes: int, on_epoch: OnEpoch) -> dict[str, str]:
    """Calls `work(job)` for each job in one of several processes; returns the failures, by name.

    Every process computes on one thread, so that no number depends on how many there are. Each
    epoch's row of a job's run reaches `on_epoch(job, row)` here. A job that raises, or whose
    process dies, is a failure; the others continue.
    """
    waiting, failures = deque(jobs), {}
    workers = [_Worker(work) for _ in range(min(processes, len(jobs)))]
    try:
        for worker in workers:
            worker.take(waiting)
        while busy := {worker.pipe: worker for worker in workers if worker.job is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]  # only pipes were waited for
                job, (kind, content) = worker.job, worker.receive()
                assert job is not None
                if kind == "epoch":
                    on_epoch(job, content)
                    continue
                if kind != "done":
                    failures[job.run.name] = content
                if kind == "died":
                    workers.remove(worker)
                    if not waiting:
                        continue
                    worker = _Worker(work)
                    workers.append(worker)
                worker.take(waiting)
    finally:
        for worker in workers:
            worker.end()
    return failures


class _Worker:
    """A process that takes one job after the other, with a pipe of its own."""

    def __init__(self, work: Work) -> None:
        # A fresh interpreter on every platform: a forked one would inherit torch's threads in
        # whatever state they are.
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(work, theirs), daemon=True)
        if not WINDOWS:  # otherwise started within, and lets Ctrl-C through again
            resource_tracker.ensure_running()
        with signals_wait():
            self.process.start()
        theirs.close()
        self.job: Job | None = None

    def take(self, waiting: deque[Job]) -> None:
        self.job = waiting.popleft() if waiting else None
        if self.job is not None:
            self.pipe.send(self.job)

    def end(self) -> None:
        """Lets an idle process go and stops a busy one; what it was writing is whole or absent."""
        self.pipe.close()
        if self.job is not None:
            self.process.terminate()
        self.process.join()

    def receive(self) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = self.pipe.recv()
            return message
        except (EOFError, OSError):
            self.pipe.close()
            self.process.join()
            return "died", f"its process died (exit code {self.process.exitcode})"


def _serve(work: Work, pipe: Connection) -> None:
    # Ctrl-C reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    configure_numerics()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            (job.run.folder / "error.txt").unlink(missing_ok=True)  # of an earlier try
            job.run.listener = lambda row: pipe.send(("epoch", row))
            work(job)
            pipe.send(("done", None))
        except Exception as error:
            pipe.send(("failed", f"{type(error).__name__}: {error}{_keep_traceback(job)}"))


def _keep_traceback(job: Job) -> str:
    """Writes where an error arose into the job's folder; gives the words that say so."""
    try:
        path = job.run.file("error.txt")
        write_text(path, traceback.format_exc())
    except OSError:  # the folder is gone or full, which the error says already
        return ""
    return f" (see {path})"


def _end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def run_and_show(
    jobs: Sequence[Job], work: Work, processes: int, show: Sequence[str] = ()
) -> dict[str, str]:
    """`run_jobs` with a bar over all epochs, and a line for each job that is finished.

    The line has the last accuracies, of the rows' columns named in `show`. In a file another line
    says every few seconds how far it is.
    """
    done: dict[str, int] = {}
    epochs = sum(job.epochs for job in jobs)
    printed = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("experiments", total=epochs, note="")

        def on_epoch(job: Job, row: Row) -> None:
            nonlocal printed
            done[job.run.name] = int(row["epoch"])
            bar.update(task, completed=sum(done.values()), note=job.run.name)
            if bar.disable and time.monotonic() - printed > QUIET_SECONDS:
                print(f"{sum(done.values())} of {epochs} epochs done", flush=True)
                printed = time.monotonic()
            if row["epoch"] == job.epochs:
                finished = sum(done.get(other.run.name) == other.epochs for other in jobs)
                scores = [f"{name.removesuffix('_accuracy')} {row[name]:.1%}" for name in show]
                length = "1 epoch" if job.epochs == 1 else f"{job.epochs} epochs"
                line = [f"{finished}/{len(jobs)} {job.run.name}: {length}", *scores]
                print(", ".join(line), flush=True)

        return run_jobs(jobs, work, processes, on_epoch)
