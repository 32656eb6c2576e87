"""Document 5's base network by its own loop and by the project's; and two trainings at once or one.

The run has the document's five epochs: its own loop slows down on the way, as Adam's moments of
pixels that are seldom lit decay into denormal numbers. Each way runs in a process of its own:
whether such numbers are flushed to zero, as the project does and the document does not, is decided
when a process starts to compute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.pairs import Way, compare, options_from_command_line
from common.cli import PROJECT, guarded
from common.data import load_images
from common.device import configure_numerics
from common.jobs import Job, run_jobs
from common.rows import Row
from common.runs import Run
from common.start import start_run
from fmnist_hyperparams import EXPERIMENTS, make_network, train_experiment
from hyperparams.jobs import Settings

BASE = EXPERIMENTS["hidden-1"]
Work = Callable[[int | None], dict[str, float]]
SHOWN = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class DocumentDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images as the document keeps them, given one by one."""

    def __init__(self, split: str, limit: int | None) -> None:
        clothes = load_images("FashionMNIST", split, PROJECT / "data", limit)
        self.images = (clothes.images.float() / 255).view(-1, 28 * 28)
        self.labels = clothes.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        # The document moves each to its device.
        return self.images[index].to("cpu"), self.labels[index].to("cpu")


def right(network: nn.Module, images: Tensor, labels: Tensor) -> list[bool]:
    network.eval()
    with torch.no_grad():
        answers: list[bool] = (network(images).max(-1).indices == labels).numpy().tolist()
    return answers


def document_run(limit: int | None) -> dict[str, float]:
    """Five epochs of training, accuracy on the training images and validation, as the document
    writes them."""
    torch.manual_seed(0)
    network = make_network(BASE)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    train, validation = DocumentDataset("train", limit), DocumentDataset("test", limit)
    order = torch.Generator().manual_seed(0)
    batches = DataLoader(train, batch_size=32, shuffle=True, generator=order)
    stamps = [time.perf_counter()]
    for _ in range(BASE.epochs):
        losses, trained, validated = [], [], []
        for images, labels in batches:
            network.train()
            loss = loss_fn(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        for images, labels in batches:
            trained.extend(right(network, images, labels))
        for images, labels in DataLoader(validation, batch_size=len(validation)):
            validated.extend(right(network, images, labels))
            with torch.no_grad():
                loss = loss_fn(network(images), labels).item()
        stamps.append(time.perf_counter())
    scores = (float(np.mean(losses)), float(np.mean(trained)), loss, float(np.mean(validated)))
    return {**first_and_last(stamps), **dict(zip(SHOWN, scores, strict=True))}


def first_and_last(stamps: list[float]) -> dict[str, float]:
    return {
        "first_epoch_seconds": stamps[1] - stamps[0],
        "last_epoch_seconds": stamps[-1] - stamps[-2],
    }


def start(folder: Path) -> Run:
    """A run in a temporary folder, as a script without options starts it."""
    options = argparse.Namespace(
        seed=0, device="cpu", precision="fp32", out_dir=folder, overwrite=False, resume=False
    )
    return start_run("benchmark.py", options, [])


def make_job(run: Run, limit: int | None) -> Job:
    return Job(run, BASE.epochs, Settings("hidden-1", BASE, PROJECT / "data", limit, limit))


def project_run(limit: int | None) -> dict[str, float]:
    """The same as an experiment of the chapter has it; its files go to a temporary folder."""
    rows: list[Row] = []
    stamps = [time.perf_counter()]

    def note(row: Row) -> None:
        rows.append(row)
        stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as run:
        run.listener = note
        train_experiment(make_job(run, limit))
    return {**first_and_last(stamps), **{name: rows[-1][name] for name in SHOWN}}


def prepare(threads: int, flush: bool) -> None:
    torch.set_num_threads(threads)
    if flush:
        configure_numerics()


def side_by_side(processes: int, limit: int | None) -> dict[str, float]:
    """Four experiments of five epochs each; the start of the processes counts."""
    losses: dict[str, float] = {}

    def note(job: Job, row: Row) -> None:
        losses[job.run.name] = row["validation_loss"]

    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as run:
        jobs = [make_job(run.subrun(name, {}, 0), limit) for name in "abcd"]
        failures = run_jobs(jobs, train_experiment, processes, note)
    if failures:
        raise RuntimeError(f"a training failed: {failures}")
    return losses


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = options_from_command_line(__doc__, argv)
    threads = torch.get_num_threads()
    spawn = multiprocessing.get_context("spawn")

    def alone(name: str, work: Work, threads: int, flush: bool) -> Way:
        if options.limit is not None:  # a try measures nothing: no process of its own
            return Way(name, partial(work, options.limit), BASE.epochs)
        pool = ProcessPoolExecutor(1, spawn, prepare, (threads, flush))
        return Way(name, lambda: pool.submit(work, options.limit).result(), BASE.epochs)

    several = []
    for processes in (1, threads):
        name = f"four experiments, {processes} at a time"
        several.append(Way(name, partial(side_by_side, processes, options.limit), 4 * BASE.epochs))
    one, all_at_once = several
    compare(
        "An epoch of 784→1000→10: training, accuracy on the training images, validation",
        alone("document", document_run, threads, False),
        alone("project", project_run, threads, True),
        *([alone("project, one thread", project_run, 1, True)] if options.limit is None else []),
        all_at_once,
        figures_of=dict,
        pairs=options.pairs,
        warm_up=options.limit is None,
    )
    if options.limit is not None:
        return  # a try needs no second table
    title = "The same, four experiments one after the other or at once"
    compare(title, one, all_at_once, figures_of=dict, pairs=max(1, options.pairs // 2))


if __name__ == "__main__":
    main()
