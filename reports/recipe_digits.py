"""What `recipes/digits_mlp.py` and `recipes/digits_cnn.py` print, draw and claim."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.claims import Claim
from common.data import LabelledImages, to_unit_range
from common.figures import image_grid
from common.layers import count_parameters
from common.metrics import accuracy
from common.runs import Run
from recipes.ladder import seconds_of_training
from reports.classification import learning_curves, mistakes_figure, right_and_confused
from reports.recipes import final, judged, targets

if TYPE_CHECKING:
    from recipes.ladder import Trainable

NAMES = [str(digit) for digit in range(10)]
SCORE = "test images classified correctly"
TARGETS = {"digits_mlp": (0.99, 0.993), "digits_cnn": (0.997, 0.9976)}  # and stretch targets
WITHIN = 10 * 60  # seconds
COPIES = 4


def claims(name: str, run: Run, recipe: Trainable) -> list[Claim]:
    """The targets of a recipe, by its name, where the run has read the test images.

    `recipe` is the complete one.
    """
    if run.options.ladder or run.options.validate:
        return []
    settings: dict[str, object] = {
        "epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr,
    }  # fmt: skip
    target, stretch = TARGETS[name]
    stated = targets(
        name, SCORE, at_least_=target, stretch=stretch, within=WITHIN, settings=settings
    )
    return judged(run, stated)


def seen(run: Run, images: Tensor, vary: Callable[[Tensor], Tensor]) -> None:
    """Draws images (uint8, N×1×28×28), and below each what training makes of it."""
    rows = [to_unit_range(images), *(vary(images) for _ in range(COPIES))]
    image_grid(
        torch.cat(rows),
        run.file("seen.png"),
        title=f"Training images, and below each {COPIES} versions of it that the network is shown",
        columns=len(images),
        width=0.9,
    )


def validated(run: Run, runs: Sequence[Run]) -> str:
    """Draws one seed's curves; measures all seeds on the images held out; the closing sentences."""
    last = [one.history[-1] for one in runs]
    shares = [row["val_accuracy"] for row in last]
    run.metrics |= {
        "val_accuracy": shares,
        "val_loss": [row["val_loss"] for row in last],
        "train_accuracy": [row["train_accuracy"] for row in last],
        "seconds_of_training": [seconds_of_training(one) for one in runs],
    }
    learning_curves(
        runs[0].history,
        run.file("loss_and_accuracy.png"),
        title="Would a longer training help? The images held out, epoch by epoch",
        unseen="validation",
    )
    seeds = f", mean of {len(shares)} seeds" if len(shares) > 1 else ""
    seconds = statistics.mean(seconds_of_training(one) for one in runs)
    return (
        f"{statistics.mean(shares):.2%} of the images held out are classified correctly after "
        f"{seconds:.0f} seconds of training{seeds}; {gap(runs)} Open loss_and_accuracy.png."
    )


def gap(runs: Sequence[Run]) -> str:
    """What the accuracy on training images says about what may help."""
    trained = statistics.mean(one.history[-1]["train_accuracy"] for one in runs)
    held_out = statistics.mean(one.history[-1]["val_accuracy"] for one in runs)
    share = f"of the training images, shown as they are, {trained:.2%}."
    if trained - held_out > (1 - held_out) / 2:  # most of the mistakes are not made in training
        return f"{share} It knows those better: it would gain by more varied images."
    return f"{share} It knows those little better: a longer training or a larger network may help."


def tested(
    run: Run,
    runs: Sequence[Run],
    network: nn.Module,
    test: LabelledImages,
    logits: Sequence[Tensor],
) -> str:
    """Prints each seed's score, draws the first seed's mistakes; returns the closing sentences.

    `logits` (N×10) are those of each seed for the test images; `network` is one of theirs.
    """
    shares = [accuracy(one, test.labels) for one in logits]
    seconds = [seconds_of_training(one) for one in runs]
    run.metrics["parameters"] = count_parameters(network)
    mistakes_figure(test.images, test.labels, logits[0], NAMES, run.file("misclassified.png"))
    ending = final(run, shares, seconds, SCORE.capitalize())
    first = "" if len(runs) == 1 else f" Seed {run.options.seeds[0]}:"
    return (
        f"{ending}{first} {right_and_confused(test.labels, logits[0], NAMES)} "
        f"Open misclassified.png. Next: python {run.script} --ladder, which shows what each step "
        "gives."
    )
