"""What `recipes/fashion.py` prints, draws and claims: our targets, the mistakes, the curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from common.claims import Claim
from common.data import LabelledImages
from common.layers import count_parameters
from common.metrics import accuracy, confusion_matrix
from common.runs import Run
from recipes.ladder import seconds_of_training
from reports.classification import (
    confusion_figure,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)
from reports.recipes import final, judged, targets

if TYPE_CHECKING:
    from recipes.fashion import Recipe

NAMES = FashionMNIST.classes
SCORE = "test images classified correctly"


def claims(run: Run, recipe: Recipe) -> list[Claim]:
    """Our targets, where the run has read the test images; `recipe` is the complete one."""
    if run.options.ladder or run.options.validate:
        return []
    settings: dict[str, object] = {
        "epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr,
    }  # fmt: skip
    stated = targets(
        "fashion", SCORE, at_least_=0.945, stretch=0.95, within=15 * 60, settings=settings,
        parameters=1_000_000,
    )  # fmt: skip
    return judged(run, stated)


def validated(run: Run, runs: Sequence[Run]) -> str:
    """Draws one seed's curves; measures all seeds on the images held out; the closing sentence."""
    last = [one.history[-1] for one in runs]
    shares = [row["val_accuracy"] for row in last]
    run.metrics |= {
        "val_accuracy": shares,
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
        f"{seconds:.0f} seconds of training{seeds}. Open loss_and_accuracy.png."
    )


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
    counts = confusion_matrix(test.labels, logits[0].argmax(1), len(NAMES))
    confusion_figure(counts, NAMES, run.file("confusion_matrix.png"))
    ending = final(run, shares, seconds, SCORE.capitalize())
    first = "" if len(runs) == 1 else f" Seed {run.options.seeds[0]}:"
    return (
        f"{ending}{first} {right_and_confused(test.labels, logits[0], NAMES)} "
        "Open misclassified.png. Next: python recipes/fashion.py --ladder, which shows what each "
        "step gives."
    )
