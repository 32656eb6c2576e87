"""Document 5: one hyper-parameter at a time, on Fashion-MNIST.

    python fmnist_hyperparams.py                  its experiments, shortened
    python fmnist_hyperparams.py --all            all experiments, full length
    python fmnist_hyperparams.py scaled unscaled  these two; --list shows all
    python fmnist_hyperparams.py --section 5.9    a section's experiments and
                                                  those compared with them
    torchrun --nproc-per-node 2 fmnist_hyperparams.py --all --out-dir DIR
                                                  all, shared by two processes

A hyper-parameter is a setting that training does not learn. You learn what
happens to a network 784→1000→10 when pixels are not scaled, batches are large,
the learning rate is high or falls, layers are added, inputs are tiny, values are
set to 0 at random, or large weights add to the loss.

A network overfits if it is far better on training images than on others. Its
gap is training minus validation accuracy (of losses: validation minus training).
Experiments that are compared differ in one setting (some also in their length), a
few in two or three (5.11, 5.14). With one seed they see the images in the same
order, and networks of the same shape start from the same weights.

Measured on two cores, in two processes: about 2 minutes shortened. In full, the
798 epochs of EXPERIMENTS (below) took 59 minutes; all 1,278, in proportion, 95.
Validation accuracy with seed 0:
* learning rate 0.001, 5 epochs: 88.1%
* the same, 100 epochs: 89.0%
* 100 epochs, learning rate halved when validation loss stands still: 90.3%
* no hidden layer, 5 epochs: 84.3%

The document (5 of five) is chapter 3 of "Modern Computer Vision with PyTorch".
As there, validation is on the 10,000 test images. Its sections are numbered 5.1 to
5.17 here. For 5.12 and 5.16 it gives two learning rates: 0.001 in its notebook, and
0.01 in the code that its text refers to. EXPERIMENTS has 0.001, FURTHER has 0.01.
For 5.15 and 5.16 that code has 5 epochs. Here it is 30; the gaps between training
and validation are judged after 5 epochs too.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.checkpoint import delete_checkpoint, load_weights
from common.cli import guarded
from common.data import LabelledImages, load_images
from common.device import can_fuse, seed_everything
from common.errors import RunError
from common.jobs import Job
from common.metrics import accuracy
from common.ranks import rank, run_on_all_ranks
from common.rows import read_rows
from common.start import start_run
from common.training import Metric, accuracy_on, evaluate, train_one_epoch
from hyperparams.jobs import chosen_experiments, make_jobs
from hyperparams.options import by_section, parse
from hyperparams.results import TRAINING, VALIDATION, Result, Results, by_seed, differences

# 1. The experiments: the base, and what each of them changes


@dataclass(frozen=True)
class Experiment:
    """One setting of all hyper-parameters; the values here are the base's."""

    section: str
    epochs: int = 5
    divisor: float = 255  # the pixels, 0..255, are divided by it
    inverted: bool = False  # black clothes on white
    hidden_layers: int = 1
    hidden_bias: bool = True
    batch_norm: bool = False  # each hidden unit: minus its mean over the batch, ÷ its deviation
    dropout: float = 0.0  # this share of a linear layer's inputs is set to 0 in training
    optimizer: str = "adam"  # sgd: step = lr · gradient; adam: scaled by recent gradients
    plain_adam: bool = False  # Adam as PyTorch has it, without the two speed-ups of section 4
    lr: float = 1e-3
    annealing: bool = False  # the learning rate is halved when validation loss stands still
    batch_size: int = 32
    l1: float = 0.0  # what is added to the loss: this times the sum of all |parameter|
    l2_norm: float = 0.0  # times the length √(Σ parameter²) of each tensor, added up
    l2_square: float = 0.0  # times the sum of all parameter²


BASE = Experiment("")
EXPERIMENTS = {
    "unscaled": Experiment("5.4", divisor=1, optimizer="sgd", lr=1e-2),
    "scaled": Experiment("5.5", optimizer="sgd", lr=1e-2),
    "batch-32": Experiment("5.7", lr=1e-2),
    "batch-10000": Experiment("5.7", lr=1e-2, batch_size=10_000),
    "sgd": Experiment("5.8", epochs=10, optimizer="sgd", lr=1e-2),
    "adam": Experiment("5.8", epochs=10, lr=1e-2),
    "lr-high": Experiment("5.9", lr=1e-1),
    "lr-medium": Experiment("5.9", epochs=8),
    "lr-low": Experiment("5.9", epochs=100, lr=1e-5),
    "unscaled-lr-high": Experiment("5.11", divisor=1, lr=1e-1),
    "unscaled-lr-medium": Experiment("5.11", divisor=1),
    "unscaled-lr-low": Experiment("5.11", divisor=1, lr=1e-5),
    "lr-annealing": Experiment("5.12", epochs=30, annealing=True),
    "lr-annealing-100": Experiment("5.12", epochs=100, annealing=True),
    "no-annealing-100": Experiment("5.12", epochs=100),
    "hidden-0": Experiment("5.13", hidden_layers=0),
    "hidden-1": Experiment("5.13"),
    "hidden-2": Experiment("5.13", hidden_layers=2),
    "tiny-input": Experiment("5.14", epochs=100, divisor=255 * 10_000),
    "tiny-input-batchnorm": Experiment("5.14", epochs=100, divisor=255 * 10_000, batch_norm=True),
    # Ours: batch norm subtracts the batch's mean, and with it any bias before it. So that bias has
    # no gradient but rounding errors, and Adam makes steps of about lr of them. In validation batch
    # norm uses a mean kept from many training batches; it lags behind a bias that moves so fast.
    "tiny-input-batchnorm-no-bias": Experiment(
        "5.14", epochs=30, divisor=255 * 10_000, batch_norm=True, hidden_bias=False),
    "dropout": Experiment("5.15", epochs=30, dropout=0.25),
    "no-dropout": Experiment("5.15", epochs=30),
    "l1": Experiment("5.16", epochs=30, l1=1e-4),
    "l2-norm": Experiment("5.16", epochs=30, l2_norm=1e-2),
    "l2-square": Experiment("5.16", epochs=30, l2_square=1e-2),
    "inverted": Experiment("5.17", inverted=True),
}  # fmt: skip
# Other readings of the document, longer trainings and more batch sizes. The short form of all
# experiments, which a bare command runs, leaves them out.
FURTHER = {
    "unscaled-100": Experiment("5.4", epochs=100, divisor=1, optimizer="sgd", lr=1e-2),
    "batch-8": Experiment("5.7", lr=1e-2, batch_size=8),
    "batch-128": Experiment("5.7", lr=1e-2, batch_size=128),
    "batch-1000": Experiment("5.7", lr=1e-2, batch_size=1000),
    "batch-8-0.001": Experiment("5.7", batch_size=8),
    "batch-128-0.001": Experiment("5.7", batch_size=128),
    "batch-1000-0.001": Experiment("5.7", batch_size=1000),
    "batch-10000-0.001": Experiment("5.7", batch_size=10_000),
    "lr-annealing-0.01": Experiment("5.12", epochs=30, annealing=True, lr=1e-2),
    "lr-annealing-100-0.01": Experiment("5.12", epochs=100, annealing=True, lr=1e-2),
    "no-annealing-100-0.01": Experiment("5.12", epochs=100, lr=1e-2),
    "tiny-input-batchnorm-plain-adam": Experiment(
        "5.14", epochs=100, divisor=255 * 10_000, batch_norm=True, plain_adam=True),
    "l1-0.01": Experiment("5.16", lr=1e-2, l1=1e-4),
    "l2-norm-0.01": Experiment("5.16", lr=1e-2, l2_norm=1e-2),
    "l2-square-0.01": Experiment("5.16", lr=1e-2, l2_square=1e-2),
}  # fmt: skip
EVERY_EXPERIMENT = EXPERIMENTS | FURTHER
OPTIMIZERS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}

# 2. The data: 60,000 images to train on and 10,000 for validation, 28×28 grey pixels, ten classes


@functools.cache
def load_clothes(split: str, data_dir: Path, limit: int | None = None) -> LabelledImages:
    """The `train` or `test` images, at most `limit`; read once in each process."""
    return load_images("FashionMNIST", split, data_dir, limit)


def make_inputs(experiment: Experiment, images: Tensor) -> Tensor:
    """What the network sees of images (uint8, N×1×28×28, 0..255): a row of 784 floats of each."""
    pixels = images.flatten(1).float()
    if experiment.inverted:
        pixels = 255 - pixels
    return pixels / experiment.divisor


# 3. The model: 784 → 1000 → 10, or with no hidden layer, or with two


def make_network(experiment: Experiment) -> nn.Sequential:
    """Inputs B×784 → logits B×10: for each class a score, the higher the likelier."""
    network, size = nn.Sequential(), 784
    for number in range(1, experiment.hidden_layers + 1):  # B×784, then B×1000
        if experiment.dropout:
            network.add_module(f"dropout{number}", nn.Dropout(experiment.dropout))
        linear = nn.Linear(size, 1000, bias=experiment.hidden_bias)  # B×1000
        network.add_module("hidden" if number == 1 else f"hidden{number}", linear)
        if experiment.batch_norm:
            network.add_module(f"batch_norm{number}", nn.BatchNorm1d(1000))
        network.add_module(f"relu{number}", nn.ReLU())
        size = 1000
    if experiment.dropout:
        network.add_module("dropout", nn.Dropout(experiment.dropout))
    network.add_module("output", nn.Linear(size, 10))  # B×10
    return network


# 4. Training: the loss with its penalty, the optimizer, the learning rate that falls, the epochs


def penalty(experiment: Experiment, network: nn.Module) -> Tensor | float:
    """What large parameters add to the loss, so that training keeps them small; 0 without."""
    parameters = list(network.parameters())
    if experiment.l1:
        return experiment.l1 * torch.stack([p.norm(1) for p in parameters]).sum()
    if experiment.l2_norm:  # as in the document's code
        return experiment.l2_norm * torch.stack([p.norm(2) for p in parameters]).sum()
    if experiment.l2_square:  # as in its text and its formula
        return experiment.l2_square * torch.stack([p.square().sum() for p in parameters]).sum()
    return 0.0


def train_experiment(job: Job) -> None:
    """Trains a job (one experiment, one seed) in its run's folder; scores it after each epoch."""
    run, settings = job.run, job.settings
    experiment: Experiment = settings.experiment
    seed_everything(run.seed)
    training = load_clothes("train", settings.data_dir, settings.training_limit)
    validation = load_clothes("test", settings.data_dir, settings.validation_limit)
    # Images stay bytes in memory; only one batch at a time becomes floats, four times as large.
    transform = functools.partial(make_inputs, experiment)
    batches = training.batches(
        experiment.batch_size, shuffle=True, seed=run.seed, no_single=experiment.batch_norm,
        transform=transform)  # no_single: no batch of one image, which batch norm cannot use
    training_in_order = training.batches(2000, transform=transform)
    validation_batches = validation.batches(2000, transform=transform)
    metrics: dict[str, Metric] = {"validation_loss": cross_entropy, VALIDATION: accuracy}

    network = make_network(experiment).to(run.device)
    # Two speed-ups: numbers below 1e-38 (slow on a CPU) become 0; fused: an update is one call.
    torch.set_flush_denormal(not experiment.plain_adam)
    fused = None if experiment.plain_adam else can_fuse(run.device)
    optimizer_class = OPTIMIZERS[experiment.optimizer]
    optimizer = optimizer_class(network.parameters(), lr=experiment.lr, fused=fused)
    annealing = None
    if experiment.annealing:  # halves lr unless validation loss is 0.001 below its best
        annealing = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=0, threshold=0.001, threshold_mode="abs", min_lr=1e-5)

    def loss_function(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels) + penalty(experiment, network)

    for epoch in run.epochs(experiment.epochs, network, optimizer, batches, scheduler=annealing):
        loss = train_one_epoch(network, epoch.batches, loss_function, optimizer, dtype=run.dtype)
        scores = evaluate(network, validation_batches, metrics, run.dtype)
        train_accuracy = accuracy_on(network, training_in_order, run.dtype)
        epoch.log(train_loss=loss, train_accuracy=train_accuracy, **scores)
        if annealing is not None:
            annealing.step(scores["validation_loss"])
    delete_checkpoint(run.folder)  # with Adam it is three times as large as the network


# 5. Evaluation: each network with its history, and what its hidden layer makes of images


def load_result(job: Job, images: Tensor) -> Result:
    """The result of a finished job, with its hidden values for these images."""
    name, experiment = job.settings.name, job.settings.experiment
    network = make_network(experiment)
    path, again = job.run.folder / "model.pt", "delete its folder, and --resume trains it again"
    network.load_state_dict(load_weights(path, job.run.script, again))
    network.eval()
    with torch.inference_mode():
        # All layers but the last: N×1000, or the inputs (N×784) without a hidden layer.
        hidden_values = network[:-1](make_inputs(experiment, images))
    number, changes = list(EVERY_EXPERIMENT).index(name), differences(experiment, BASE)
    history = read_rows(job.run.folder / "metrics.csv", job.epochs)
    return Result(name, experiment.section, changes, number, history, network, hidden_values)


def load_results(jobs: Sequence[Job], options: argparse.Namespace) -> Results:
    """The results of the finished jobs: for each seed, by name, in the order of the table."""
    images = load_clothes("test", options.data_dir, options.limit).images[:1000]
    finished = [(job.run.seed, load_result(job, images)) for job in jobs if job.finished]
    return by_seed(options.seeds, finished)


# 6. Options and main


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__, argv, EVERY_EXPERIMENT)
    if rank() > 0:  # torchrun's other processes train what the first one gives them
        run_on_all_ranks(None, train_experiment, options.jobs)
        return
    # Imported here, not at the top: each worker process imports this file, but draws no figures.
    from reports import fmnist_hyperparams as report

    if options.list:
        report.contents(EXPERIMENTS, FURTHER, BASE)
        return
    with start_run(__file__, options, argv) as run:
        report.without_training(run, load_clothes("train", options.data_dir))
        chosen = chosen_experiments(options, EXPERIMENTS, FURTHER)
        jobs = make_jobs(run, options, chosen)
        unfinished = [job for job in jobs if not job.finished]
        shown = (TRAINING, VALIDATION)
        failures = run_on_all_ranks(unfinished, train_experiment, options.jobs, shown)
        results = load_results(jobs, options)
        options.experiments = [*chosen]  # which the claims' settings ask for
        ending = report.experiments(run, results, by_section(EVERY_EXPERIMENT))
        run.finish(document=5, claims=report.claims_of(run), ending=ending)
        if failures:
            raise RunError(report.failed(run, failures))


if __name__ == "__main__":
    main()
