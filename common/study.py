"""Many independent trainings: side by side in processes of their own, and over the ranks that torchrun starts."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from types import MappingProxyType
from typing import IO, Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from common.checkpoint import write_whole
from common.device import configure_numerics
from common.runs import Run

Row = dict[str, float]
OnEpoch = Callable[["Job", Row], None]
KEPT = ("config.json", "metrics.csv", "model.pt")


@dataclass(frozen=True)
class Job:
    """One training: the run with its folder and seed, its epochs, and the settings that make it; must be picklable."""

    run: Run
    epochs: int
    settings: Any

    @property
    def finished(self) -> bool:
        """Whether its folder holds the trained network, which `fit` writes last."""
        return (self.run.folder / "model.pt").exists()


Work = Callable[[Job, Callable[[Row], None]], None]


def run_jobs(jobs: Sequence[Job], work: Work, processes: int, on_epoch: OnEpoch) -> dict[str, str]:
    """Calls `work(job, report)` for each job in one of several processes; returns what went wrong, by the run's name.

    Every process computes on one thread, so that no number depends on how many there are. `report(row)` reaches
    `on_epoch(job, row)` here. A job that raises or whose process dies is named in the answer; the others go on.
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
                    workers.append(worker := _Worker(work))
                worker.take(waiting)
    finally:
        for worker in workers:
            worker.end()
    return failures


class _Worker:
    """A process that takes one job after the other. Each has its own pipe: a death harms no other."""

    def __init__(self, work: Work) -> None:
        # A fresh interpreter on every platform: a forked one would inherit torch's threads in whatever state they are.
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(work, theirs), daemon=True)
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
            self.process.join()
            return "died", f"its process died (exit code {self.process.exitcode})"


def _serve(work: Work, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    tqdm.set_lock(threading.RLock())  # its own lock, for several processes, would outlive one that is stopped
    torch.set_num_threads(1)
    configure_numerics()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            job.run.folder.mkdir(parents=True, exist_ok=True)  # another rank's machine does not have it yet
            work(job, lambda row: pipe.send(("epoch", row)))
            pipe.send(("done", None))
        except Exception as error:
            pipe.send(("failed", f"{type(error).__name__}: {error}"))


def rank() -> int:
    """This process's number among those that torchrun started; 0 without torchrun."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def run_study(
    jobs: Sequence[Job] | None, work: Work, processes: int, show: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """`run_jobs` with a display of its progress, over all ranks of a torchrun or here alone without one.

    Rank 0 gives the jobs and gets every failure; the others give None. Each rank takes its share, and rank 0 displays
    its own, with the values of the rows named in `show`. Folders that rank 0 does not see, on another machine, are sent
    to it at the end.
    """
    if not dist.is_torchelastic_launched():
        return _run_and_display(jobs or (), work, processes, show)
    # The default limit of half an hour would end a study whose ranks finish at different times.
    dist.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    try:
        ranks = dist.get_world_size()
        mine: list[Sequence[Job]] = [()]
        dist.scatter_object_list(mine, None if jobs is None else [jobs[first::ranks] for first in range(ranks)])
        failures = run_jobs(mine[0], work, processes, _ignore) if jobs is None else _run_and_display(
            mine[0], work, processes, show)
        gathered: list[Any] | None = None if jobs is None else [None] * ranks
        dist.gather_object((failures, [_read_folder(job) for job in mine[0]]), gathered)
        if gathered is None or jobs is None:
            return failures
        for first, (_, folders) in enumerate(gathered):
            for job, files in zip(jobs[first::ranks], folders, strict=True):
                _write_folder(job, files)
        return {name: wrong for failed, _ in gathered for name, wrong in failed.items()}
    finally:
        dist.destroy_process_group()


def _ignore(job: Job, row: Row) -> None:
    pass


def _run_and_display(
    jobs: Sequence[Job], work: Work, processes: int, show: Mapping[str, str]
) -> dict[str, str]:
    """One bar over the epochs of all jobs on a terminal; elsewhere a plain line for each that is finished."""
    done: dict[str, int] = {}
    epochs = sum(job.epochs for job in jobs)
    with tqdm(total=epochs, desc="study", unit="epoch", disable=not sys.stderr.isatty()) as bar:

        def on_epoch(job: Job, row: Row) -> None:
            done[job.run.name] = int(row["epoch"])
            scores = "  ".join(f"{shown} {row[name]:.3g}" for name, shown in show.items())
            bar.set_postfix_str(f"{job.run.name} {scores}", refresh=False)
            bar.update(sum(done.values()) - bar.n)
            if bar.disable and row["epoch"] == job.epochs:
                finished = sum(done.get(other.run.name) == other.epochs for other in jobs)
                print(f"{finished}/{len(jobs)} {job.run.name}: {job.epochs} epochs  {scores}", flush=True)

        return run_jobs(jobs, work, processes, on_epoch)


def _read_folder(job: Job) -> dict[str, bytes]:
    paths = [job.run.folder / name for name in KEPT] if job.finished else []
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def _write_folder(job: Job, files: Mapping[str, bytes]) -> None:
    if job.finished:  # all ranks share this folder
        return
    for name, content in files.items():
        write_whole(job.run.folder / name, partial(_write, content))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
