"""How fast can a network learn? Seconds of training to a test accuracy, on two cores.

    python recipes/sprint.py                     the three races, once
    python recipes/sprint.py --seeds 0,1,2,3,4,5,6,7,8,9          ten times
    python recipes/sprint.py --race digits-99.0  one of them
    python recipes/sprint.py --race digits-99.0 --validate  …without test images
    python recipes/sprint.py --race digits-99.0 --ladder    …step by step

The idea: a small network (for digits its first layer reads cells of 2×2 pixels, which
saves most of the time), a few epochs and a learning rate that rises and falls, each
chosen for the goal. A race's length is fixed before it starts: it ends after its
last epoch, and only then is the test set read. A goal is reached if the mean of ten
seeds has that accuracy; the target is to reach it within these seconds.

Targets on two cores, seconds of training without reading and scoring:
* digits-99.0: 99.0% of MNIST's test images in 5 s (we hope for 3)
* digits-99.5: 99.5% of them in 40 s
* clothes-92.0: 92.0% of Fashion-MNIST's in 45 s (we hope for 30)

Measured on two cores, in 32-bit floats, with nothing beside, ten seeds: all goals are
reached, those of the digits in time. digits-99.0 ends at 99.05 ± 0.06% after
4.1 ± 0.3 s, digits-99.5 at 99.53 ± 0.05% after 36.9 ± 2.5 s, clothes-92.0 at
92.09 ± 0.25% after 55.1 ± 3.8 s.

The foot of each ladder is document 3's network and training, for as many epochs
as the race has. Networks and training are those of `recipes/fashion.py`. Numbers
were chosen on 10,000 training images held out, as --validate does; earlier versions of
the races were scored on the same test images (EXPERIMENTS.md).
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # a race is run alone: see common/begin.py
import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from common.cli import add_data_flag, add_run_flags, guarded, make_parser
from common.data import load_images
from common.errors import UsageError
from common.runs import Run
from common.start import start_run
from common.training import accuracy_on
from recipes import fashion, ladder
from recipes.fashion import Recipe, train
from recipes.images import SCORED_AT_ONCE, parts
from recipes.training import seconds_of_training
from reports import recipe_sprint as report
from reports.ladder import ladder as show_ladder

# 1. The races: a goal, the seconds allowed, and the steps that lead there


@dataclass(frozen=True)
class Race:
    """A data set, a test accuracy to reach, and how."""

    dataset: str
    goal: float  # a fraction
    within: float  # seconds, our target
    stretch: float | None  # seconds that we hope for
    epochs: int
    steps: ladder.Steps  # from document 3's network, trained for as many epochs

    @property
    def foot(self) -> Recipe:
        return replace(Recipe(), epochs=self.epochs)

    @property
    def recipe(self) -> Recipe:
        return ladder.everything(self.foot, self.steps)


DIGITS = (0.1307, 0.3081)  # mean and standard deviation of the pixels of the training images, 0..1
TRAINING: ladder.Steps = {
    "batch norm": {"batch_norm": True},
    # Momentum of 0.9 makes updates about 10 times as large: so the rate must fall.
    "momentum": {"momentum": 0.9, "lr": 0.01},
    "one cycle": {"one_cycle": True, "lr": 0.1},  # its maximum: it starts at 0.004, ends near 0
    "soft labels": {"label_smoothing": 0.1},
    "bfloat16": {"bfloat16": True},
}
# Of longer races: in a single epoch shuffling and weight decay give nothing (EXPERIMENTS.md).
LONGER: ladder.Steps = {
    "shuffled": {"shuffle": True},
    "larger batches": {"batch_size": 128},
    "weight decay": {"weight_decay": 5e-4},
}
# What each field means stands beside it in recipes/fashion.py, in Recipe.
RACES = {
    "digits-99.0": Race("MNIST", 0.99, within=5, stretch=3, epochs=1, steps={
        "cells": {"cells": True, "kernel_size": 3, "channels": (16, 48)},
        **TRAINING,
        "larger batches": {"batch_size": 128},
        "higher rate": {"lr": 0.2, "warm_up": 0.3},  # the maximum; reached later
        "moved looks": {"moved_looks": True},
    }),
    "digits-99.5": Race("MNIST", 0.995, within=40, stretch=None, epochs=4, steps={
        "cells": {"cells": True, "kernel_size": 3, "channels": (24, 64)},
        "residual block": {"residual_blocks": (1, 0)},
        "normalised": {"normalised": True, "pixels": DIGITS},
        **TRAINING,
        **LONGER,
        "crops": {"crop": 1},
        "mean weights": {"averaging": 0.99},
        "moved looks": {"moved_looks": True},
    }),
    "clothes-92.0": Race("FashionMNIST", 0.92, within=45, stretch=30, epochs=4, steps={
        "third stage": {
            "kernel_size": 3, "channels": (8, 32, 64), "residual_blocks": (0, 0, 0),
        },
        "residual block": {"residual_blocks": (0, 0, 1)},
        "normalised": {"normalised": True},
        **TRAINING,
        **LONGER,
        "flips": {"flips": True},
        "mirrored looks": {"mirrored_looks": True},
    }),
}  # fmt: skip
INSTEAD: ladder.Steps = {
    "flips": fashion.INSTEAD["flips"],
    "third stage": {"residual_blocks": (0, 1)},  # without it the block ends the second stage
    "one cycle": {"lr": 0.01},  # momentum's rate: the higher one of a later step needs the cycle
}

# 2. Choosing: on images held out from the training images


def train_one(run: Run, recipe: Recipe) -> None:
    """Trains for the chosen race without the images held out, and scores those each epoch."""
    dataset = RACES[run.options.race].dataset
    train(run, recipe, *parts(dataset, run.options.data_dir, run.options.limit))


def climb(run: Run, race: Race) -> str:
    """Trains the race's recipe after each step, and without each; returns the closing sentence."""
    parts(race.dataset, run.options.data_dir, run.options.limit)  # one error if files are missing
    trainings = ladder.run_ladder(run, run.options, train_one, race.foot, race.steps, INSTEAD)
    return show_ladder(run, trainings)


# 3. The races: the clock runs in `train`; afterwards the test images


def run_races(run: Run, races: dict[str, Race]) -> str:
    """Trains for each race with each seed, then scores them; returns the closing sentence."""
    networks: dict[str, list[nn.Module]] = {}
    seconds: dict[str, list[float]] = {}
    for name, race in races.items():
        training = load_images(race.dataset, "train", run.options.data_dir, run.options.limit)
        networks[name], seconds[name] = [], []
        for seed in run.options.seeds:
            subrun = run.subrun(f"{name}-seed{seed}", asdict(race.recipe), seed)
            networks[name].append(train(subrun, race.recipe, training))
            seconds[name].append(seconds_of_training(subrun))
    return report.raced(run, races, score_once(run, races, networks), seconds)


def score_once(
    run: Run, races: dict[str, Race], networks: dict[str, list[nn.Module]]
) -> dict[str, list[float]]:
    """Each network's accuracy on its race's test images, read only here, after all training.

    Every number was chosen on images held out; earlier versions were scored here (EXPERIMENTS.md).
    """
    accuracies = {}
    for name, race in races.items():
        test = load_images(race.dataset, "test", run.options.data_dir, run.options.limit)
        dtype = run.dtype if race.recipe.bfloat16 else torch.float32
        batches = test.batches(SCORED_AT_ONCE)
        accuracies[name] = [accuracy_on(network, batches, dtype) for network in networks[name]]
    return accuracies


# 4. Options and main


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--race", choices=RACES, help="one race (default: all three)")
    add_data_flag(parser)
    ladder.add_recipe_flags(parser)
    add_run_flags(parser, resumable=True)
    parser.set_defaults(precision="auto")
    options = ladder.complete(parser.parse_args(argv))
    options.recipe = {name: asdict(race.recipe) for name, race in RACES.items()}
    if (options.ladder or options.validate) and options.race is None:
        raise UsageError(f"--ladder and --validate need --race, one of {', '.join(RACES)}")
    return options


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if ladder.helps_rank_0(options, train_one):  # torchrun's other processes: they are done
        return
    races = {name: race for name, race in RACES.items() if options.race in (None, name)}
    with start_run(__file__, options, argv) as run:
        if options.ladder:
            ending = climb(run, RACES[options.race])
        elif options.validate:
            race = RACES[options.race]
            runs = ladder.train_each_seed(run, race.recipe, train_one)
            ending = report.validated(run, runs, race)
        else:
            ending = run_races(run, races)
        run.finish(document=3, claims=report.claims(run, RACES), ending=ending)


if __name__ == "__main__":
    main()
