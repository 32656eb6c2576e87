"""Trainings without a step, and how they end: what worker processes of `test_jobs.py` import.

Nothing of pytest is imported here: it would take each process a second more to start.
"""

from __future__ import annotations

import os
import signal
import time
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from common.jobs import Job
from common.rows import Row
from common.runs import Run


class Still:
    """An optimizer that changes nothing. Each of torch's own takes a process a second to import."""

    param_groups = ({"lr": 0.1},)

    def state_dict(self) -> dict[str, object]:
        return {}


def train(run: Run, epochs: int) -> None:
    """Stands for a training: its epochs, without one step."""
    batches = DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4, 1)), 2)
    optimizer = cast(Optimizer, Still())
    for epoch in run.epochs(epochs, nn.Linear(1, 1), optimizer, batches):
        time.sleep(0.001)
        epoch.log(train_loss=1 / epoch.number, threads=torch.get_num_threads())


def work(job: Job) -> None:
    """What a worker does with a job; the settings say how it ends."""
    if job.settings == "dies":
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if job.settings == "long":
        (job.run.folder / "worker.txt").write_text(str(os.getpid()))
    train(job.run, job.epochs)
    if job.settings == "fails":
        (job.run.folder / "model.pt").unlink()
        raise ValueError("no such thing")


def ignore(job: Job, row: Row) -> None:
    pass
