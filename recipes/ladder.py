"""What the recipes share: a ladder of named steps, the trainings on it, and the options.

A recipe is a frozen dataclass that describes a network and its training, with at least `epochs`,
`batch_size` and `lr`. Its defaults are the chapter's. A step is a name with the fields that it
changes; a later step may change a field again. With all steps together the recipe is complete.

What is on the ladder is chosen on images held out from the training set; no test image is read.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from common.checkpoint import delete_checkpoint
from common.cli import add_shared_flags, whole_number, whole_numbers
from common.config import read_options
from common.errors import RunError, UsageError
from common.jobs import Job
from common.parser import all_seeds, check_predict
from common.ranks import default_jobs, rank, run_on_all_ranks, under_torchrun
from common.rows import Row, read_rows
from common.runs import Run
from common.terminal import say
from recipes.training import HELD_OUT, SHIPPED, WEIGHTS

DOCUMENT = "document"  # the ladder's foot: the document's network and training
SHOWN = ("val_accuracy",)  # shown beside a training's progress bar
IN_16_BITS = "bfloat16"  # the step that changes nothing where numbers have 32 bits
NAMED = 3  # trainings that failed; of more only the number is said
SEEDS = (0, 1, 2, 3, 4)  # of the ladder, and of the numbers that are stated (sprint's: ten)


class Trainable(Protocol):
    """Any recipe."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def epochs(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def lr(self) -> float: ...


Recipe = TypeVar("Recipe", bound=Trainable)
Steps = Mapping[str, Mapping[str, Any]]  # a step's name → the fields that it changes
# A recipe's name → seed → a row for each epoch; no rows where the training diverged.
Trainings = Mapping[str, Mapping[int, Sequence[Row]]]


# The recipes on a ladder


def everything(base: Recipe, steps: Steps) -> Recipe:
    """The base with the changes of all steps."""
    for changes in steps.values():
        base = replace(base, **changes)
    return base


def climb(base: Recipe, steps: Steps) -> dict[str, Recipe]:
    """The base, as `document`, and after each step what has become of it by then."""
    recipes = {DOCUMENT: base}
    for name, changes in steps.items():
        base = replace(base, **changes)
        recipes[name] = base
    return recipes


def without(step: str) -> str:
    """The name of the complete recipe without this step."""
    return f"without {step}"


def without_each(
    base: Recipe, steps: Steps, instead: Steps | None = None
) -> dict[str, Recipe]:
    """For each step the recipe of all the others, as `without <step>`.

    `instead` has what else changes without a step, where numbers of later steps fit only with it.
    Raises ValueError for a step without which the recipe is the same.
    """
    recipes = {}
    for name in steps:
        others = {other: changes for other, changes in steps.items() if other != name}
        recipe = replace(everything(base, others), **(instead or {}).get(name, {}))
        if recipe == everything(base, steps):
            raise ValueError(f"step {name!r}: later steps overwrite all that it changes")
        recipes[without(name)] = recipe
    return recipes


# The trainings of a ladder


def run_ladder(
    run: Run,
    options: argparse.Namespace,
    train_one: Callable[[Run, Any], object],
    base: Recipe,
    steps: Steps,
    instead: Steps | None = None,
) -> Trainings:
    """Trains the base, the recipe after each step, and the complete one without each step.

    Each with every seed, several side by side; returns their histories. `train_one(run, recipe)`
    trains one with the run's seed in the run's folder, by `run.epochs`, on the training part of the
    training set; it logs `val_accuracy` after each epoch. It is called in a process of its own, so
    it is a function at the top of a module. Equal recipes are trained once; with --resume those
    that are finished are not trained again. RunError names those that failed; one that diverged has
    no rows instead. `instead`: see `without_each`.
    """
    if run.dtype == torch.float32 and IN_16_BITS in steps:
        say("This run does not compute in bfloat16: that step is left out.")
        steps = {name: changes for name, changes in steps.items() if name != IN_16_BITS}
    full = everything(base, steps).epochs
    asked = options.epochs if "epochs" in options else full
    recipes = _shortened(climb(base, steps) | without_each(base, steps, instead), asked, full)
    jobs: dict[tuple[Recipe, int], Job] = {}
    for seed in options.seeds:
        for name, recipe in recipes.items():
            if (recipe, seed) not in jobs:
                folder = f"{name.lower().replace(' ', '-')}-seed{seed}"
                subrun = run.subrun(folder, asdict(recipe), seed)
                jobs[recipe, seed] = Job(subrun, recipe.epochs, recipe)
    unfinished = [job for job in jobs.values() if not job.finished]
    # The longest first: at the end no process waits long for the last one.
    unfinished.sort(key=lambda job: -job.epochs)
    failures = run_on_all_ranks(unfinished, partial(_work, train_one), options.jobs, SHOWN)
    _raise_unless_diverged(run, failures)
    trainings: dict[str, dict[int, Sequence[Row]]] = {}
    for name, recipe in recipes.items():
        trainings[name] = {seed: _history(jobs[recipe, seed]) for seed in options.seeds}
    return trainings


def _shortened(
    recipes: Mapping[str, Recipe], asked: int, full: int
) -> dict[str, Recipe]:
    """The recipes with `asked` epochs instead of `full`, others in proportion."""
    changed = {}
    for name, recipe in recipes.items():
        changed[name] = replace(recipe, epochs=math.ceil(recipe.epochs * asked / full))
    return changed


def helps_rank_0(options: argparse.Namespace, train_one: Callable[[Run, Any], object]) -> bool:
    """Under torchrun (several processes) all but the first help: True when they are done.

    They train what the first gives them. False in the first, and without torchrun.
    """
    if rank() == 0:
        return False
    run_on_all_ranks(None, partial(_work, train_one), options.jobs)
    return True


def _work(train_one: Callable[[Run, Any], object], job: Job) -> None:
    train_one(job.run, job.settings)
    delete_checkpoint(job.run.folder)


def _history(job: Job) -> Sequence[Row]:
    return read_rows(job.run.folder / "metrics.csv", job.epochs) if job.finished else []


def _raise_unless_diverged(run: Run, failures: Mapping[str, str]) -> None:
    """A training that diverges is a result of the ladder; any other failure is an error."""
    failed = [f"{name}: {reason}" for name, reason in failures.items()
              if not reason.startswith("Diverged: ")]  # fmt: skip
    if failed:
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        again = f"{run.continued()} trains them again"
        raise RunError(f"trainings that failed: {'; '.join(failed[:NAMED])}{more}; {again}")


# The main run


def each_seed(run: Run, options: argparse.Namespace, recipe: Trainable) -> list[Run]:
    """The run to train in for each seed: a subrun for each of several, or the run itself."""
    if len(options.seeds) == 1:
        return [run]
    return [run.subrun(f"seed{seed}", asdict(recipe), seed) for seed in options.seeds]


def train_each_seed(run: Run, recipe: Recipe, train_one: Callable[[Run, Any], object]) -> list[Run]:
    """Trains with each seed by `train_one`, one after the other; returns their runs."""
    runs = each_seed(run, run.options, recipe)
    for one in runs:
        train_one(one, recipe)
    return runs


# Options


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of every recipe; the shared ones follow, then `complete`."""
    add = parser.add_argument_group("flags of every recipe").add_argument
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="train with each of these random seeds (default: --seed alone; with --ladder five, "
             "from --seed on)")  # fmt: skip
    add("--validate", action="store_true",
        help="train without the images held out to choose by, score those after each epoch, and "
             "no test image")  # fmt: skip
    add("--ladder", action="store_true",
        help="train with the steps up to each one, and with all but each one; score the images "
             "held out; --epochs (sprint.py has none) shortens all in proportion")  # fmt: skip
    add("--jobs", type=whole_number(1), metavar="N",
        help="trainings of --ladder at the same time, one thread each (default: one for each CPU "
             "core; on a GPU, and for each rank of torchrun, one)")  # fmt: skip


def add_predict_flags(parser: argparse.ArgumentParser, recipe: str, question: str) -> None:
    """Adds --predict, which answers the question about each file, and --weights.

    `recipe` is the name of the script, and of the file of weights that comes with it.
    """
    add = parser.add_argument
    add("--predict", type=Path, nargs="+", metavar="FILE", help=question)
    shipped = SHIPPED / f"{recipe}.safetensors"
    comes = "the one in recipes/weights" if shipped.exists() else "none comes with this recipe yet"
    add("--weights", type=Path, metavar="FILE", default=shipped,
        help="the network for --predict: model.safetensors of a run of yours "
             f"(default: {comes})")  # fmt: skip


def complete(options: argparse.Namespace) -> argparse.Namespace:
    """Fills in `seeds` and `jobs`; UsageError for flags that exclude each other."""
    if options.ladder and options.validate:
        raise UsageError("--ladder scores the images held out anyway: no --validate")
    if (options.ladder or options.validate) and (options.limit or HELD_OUT) < HELD_OUT:
        raise UsageError(
            f"--limit {options.limit}: too few to hold some out; accepted: {HELD_OUT} or more"
        )
    if under_torchrun() and not options.ladder:
        raise UsageError("torchrun shares the trainings of --ladder; without it use python")
    options.seeds = all_seeds(options, len(SEEDS) if options.ladder else 1)
    if options.jobs is None:
        options.jobs = default_jobs(options.device)
    elif not options.ladder:
        raise UsageError("--jobs belongs to --ladder")
    return options


def parse_recipe(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, recipe: Trainable,
    precision: str = "auto", device: str = "auto",
) -> argparse.Namespace:  # fmt: skip
    """The options of a recipe: its own, which `parser` has already, those of all, the shared ones.

    `recipe` is the complete one. Raises UsageError for options that do not go together.
    """
    add_recipe_flags(parser)
    add_shared_flags(parser, epochs=recipe.epochs, batch_size=recipe.batch_size, lr=recipe.lr,
                     device=device)  # fmt: skip
    parser.set_defaults(precision=precision)
    options = parser.parse_args(argv)
    if "predict" in options:
        _check_predict(options, parser)
    options = complete(options)
    if options.ladder and (options.batch_size, options.lr) != (recipe.batch_size, recipe.lr):
        raise UsageError("--ladder: each step has its own numbers; no --batch-size, no --lr")
    before = (read_options(options.out_dir) if options.resume and options.out_dir else None) or {}
    if before.get("epochs", options.epochs) != options.epochs:
        raise UsageError(f"--resume: --epochs was {before['epochs']}, and the learning rates of "
                         "all epochs follow from it")  # fmt: skip
    options.recipe = asdict(as_chosen(recipe, options))  # a run is resumed with the same one only
    return options


def _check_predict(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises UsageError where --predict and --weights do not fit each other or the other flags."""
    check_predict(options, parser)
    shipped = parser.get_default("weights")
    if not options.predict:
        options.weights = None  # no network is read: a run does not depend on where this clone is
        return
    if options.weights == shipped and not shipped.exists():
        raise UsageError(
            f"no weights come with this recipe yet; accepted: --weights FILE, the {WEIGHTS} of a "
            "run of yours"
        )


def as_chosen(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the epochs, batch size and learning rate of the command line."""
    return replace(recipe, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr)
