"""How long an epoch takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader


class TimedBatches:
    """A loader's batches, which are counted on a progress bar, and timed from first to last."""

    def __init__(
        self, batches: DataLoader[Any], bar: Progress, epoch: int, device: torch.device
    ) -> None:
        self.batches, self.bar, self.epoch, self.device = batches, bar, epoch, device
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = time.perf_counter()
        for batch in self.batches:
            yield batch
            for task in self.bar.task_ids:
                self.bar.advance(task)
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds += time.perf_counter() - start
