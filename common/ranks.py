"""Trainings shared among the ranks of a torchrun, on one machine or on several."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any

import torch
import torch.distributed as dist

from common.device import own_share_of, select_device
from common.files import write_whole
from common.jobs import Job, Work, run_and_show, run_jobs
from common.rows import Row

KEPT = ("config.json", "metrics.csv", "model.pt")


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's number among those that torchrun started; 0 without torchrun."""
    return int(os.environ["RANK"]) if under_torchrun() else 0


def default_jobs(device: str) -> int:
    """How many trainings a process has at the same time: one for each CPU core; one on a GPU, and
    as a rank of torchrun. Raises UsageError where `device` (an option) is none."""
    if under_torchrun() or select_device(device).type != "cpu":
        return 1
    return torch.get_num_threads()


def run_on_all_ranks(
    jobs: Sequence[Job] | None, work: Work, processes: int, show: Sequence[str] = ()
) -> dict[str, str]:
    """`run_and_show` over all ranks of a torchrun, or here alone without one; returns the failures.

    Rank 0 gives the jobs and gets every failure; the others give None. Each rank takes its share,
    and rank 0 shows its own. Folders that rank 0 does not see, on another machine, are sent to it
    at the end.
    """
    if not under_torchrun():
        return run_and_show(jobs or (), work, processes, show)
    # The default limit of half an hour would end trainings of ranks that finish at different times.
    dist.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    try:
        ranks = dist.get_world_size()
        shares = None if jobs is None else [jobs[first::ranks] for first in range(ranks)]
        mine: list[Sequence[Job]] = [()]
        dist.scatter_object_list(mine, shares)
        for job in mine[0]:
            job.run.device = own_share_of(job.run.device)  # rank 0 chose its own
            job.run.run_folder.start()  # another machine does not have it yet
        if jobs is None:
            failures = run_jobs(mine[0], work, processes, _ignore)
        else:
            failures = run_and_show(mine[0], work, processes, show)
        gathered: list[Any] | None = None if jobs is None else [None] * ranks
        dist.gather_object((failures, [_read_folder(job) for job in mine[0]]), gathered)
        if gathered is None or shares is None:
            return failures
        everywhere: dict[str, str] = {}
        for share, (failed, folders) in zip(shares, gathered, strict=True):
            everywhere |= failed
            for job, files in zip(share, folders, strict=True):
                _write_folder(job, files)
        return everywhere
    finally:
        dist.destroy_process_group()


def _ignore(job: Job, row: Row) -> None:
    pass


def _read_folder(job: Job) -> dict[str, bytes]:
    paths = [job.run.folder / name for name in KEPT] if job.finished else []
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def _write_folder(job: Job, files: Mapping[str, bytes]) -> None:
    if job.finished:  # all ranks share this folder
        return
    for name, content in files.items():
        write_whole(job.run.file(name), partial(_write, content))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
