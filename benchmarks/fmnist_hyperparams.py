"""Document 5's base network by its own loop and by the study's; and two experiments at once against one.

The run has the document's five epochs: its own loop slows down on the way, as Adam's moments of pixels that are seldom
lit decay into denormal numbers. Each way runs in a process of its own: whether such numbers are flushed to zero,
as the project does and the document does not, is decided when a process starts to compute.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.pairs import Way, compare, pairs_from_command_line
from common.cli import PROJECT
from common.data import load_images
from common.device import configure_numerics
from common.runs import Run
from common.study import Job, run_jobs
from common.training import Row
from fmnist_hyperparams import BASE, Task, make_network, train_experiment

THREADS = torch.get_num_threads()


class DocumentDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pictures as the document keeps them, given one by one."""

    def __init__(self, split: str) -> None:
        images, self.labels = load_images("FashionMNIST", split, PROJECT / "data")
        self.images = (images.float() / 255).view(-1, 28 * 28)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index].to("cpu"), self.labels[index].to("cpu")  # device, in the document


def right(network: nn.Module, images: Tensor, labels: Tensor) -> list[bool]:
    network.eval()
    with torch.no_grad():
        answers: list[bool] = (network(images).max(-1).indices == labels).numpy().tolist()
    return answers


def document_run() -> dict[str, float]:
    """Five epochs of training, accuracy pass over the training pictures and validation, as the document writes them."""
    torch.manual_seed(0)
    network = make_network(BASE)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    train, validation = DocumentDataset("train"), DocumentDataset("test")
    batches = DataLoader(train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
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
    return {**first_and_last(stamps), "train_loss": float(np.mean(losses)), "train_accuracy": float(np.mean(trained)),
            "validation_loss": loss, "validation_accuracy": float(np.mean(validated))}


def first_and_last(stamps: list[float]) -> dict[str, float]:
    return {"first_epoch_seconds": stamps[1] - stamps[0], "last_epoch_seconds": stamps[-1] - stamps[-2]}


def make_job(folder: Path, name: str) -> Job:
    run = Run(folder / name, "benchmark", name, 0, torch.device("cpu"), torch.float32, False, ())
    run.folder.mkdir(exist_ok=True)
    return Job(run, BASE.epochs, Task("hidden-1", BASE, PROJECT / "data", None, None))


def project_run() -> dict[str, float]:
    """The same as an experiment of the study has it; its files go to a temporary folder."""
    rows: list[Row] = []
    stamps = [time.perf_counter()]

    def note(row: Row) -> None:
        rows.append(row)
        stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train_experiment(make_job(Path(folder), "one"), note)
    return {**first_and_last(stamps),
            **{name: value for name, value in rows[-1].items() if name.startswith(("train", "validation"))}}


def start(threads: int, flush: bool) -> None:
    torch.set_num_threads(threads)
    if flush:
        configure_numerics()


def study(processes: int) -> dict[str, float]:
    """Four experiments of five epochs each; the start of the processes counts."""
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [make_job(Path(folder), name) for name in "abcd"]
        failures = run_jobs(jobs, train_experiment, processes,
                            lambda job, row: losses.update({job.run.name: row["validation_loss"]}))
    assert not failures, failures
    return losses


def main() -> None:
    pairs = pairs_from_command_line(__doc__)
    spawn = multiprocessing.get_context("spawn")

    def alone(name: str, work: Callable[[], dict[str, float]], threads: int, flush: bool) -> Way:
        pool = ProcessPoolExecutor(1, spawn, start, (threads, flush))
        return Way(name, lambda: pool.submit(work).result(), BASE.epochs)

    one, all_at_once = (Way(f"study, {processes} at a time", partial(study, processes), 4 * BASE.epochs)
                        for processes in (1, THREADS))
    compare("An epoch of 784→1000→10: training, accuracy on the training pictures, validation",
            alone("document", document_run, THREADS, False), alone("project", project_run, THREADS, True),
            alone("project, one thread", project_run, 1, True), all_at_once, figures_of=dict, pairs=pairs)
    compare("The same in a study of four experiments", one, all_at_once, figures_of=dict, pairs=max(1, pairs // 2))



if __name__ == "__main__":
    main()
