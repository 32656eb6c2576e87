"""What `recipes/fashion.py` prints, draws and claims: our targets, the mistakes, the curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from common.claims import Target
from common.data import CLOTHES, LabelledImages
from common.metrics import confusion_matrix
from common.runs import Run
from reports import recipes
from reports.classification import confusion_figure
from reports.recipes import SCORE, judged, targets
from reports.recipes import validated as validated

if TYPE_CHECKING:
    from recipes.fashion import Recipe


def claims(run: Run, recipe: Recipe) -> list[Target]:
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
    counts = confusion_matrix(test.labels, logits[0].argmax(1), len(CLOTHES))
    confusion_figure(counts, CLOTHES, run.file("confusion_matrix.png"))
    return recipes.tested(run, runs, network, test, logits, CLOTHES)
