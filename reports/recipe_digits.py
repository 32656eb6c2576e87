"""What `recipes/digits_mlp.py` and `recipes/digits_cnn.py` print, draw and claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.claims import Target
from common.data import LabelledImages, to_unit_range
from common.figures import image_grid
from common.runs import Run
from reports import recipes
from reports.recipes import SCORE, judged, targets
from reports.recipes import validated as validated

if TYPE_CHECKING:
    from recipes.ladder import Trainable

TARGETS = {"digits_mlp": (0.99, 0.993), "digits_cnn": (0.997, 0.9976)}  # and stretch targets
WITHIN = 10 * 60  # seconds
COPIES = 4
DIGITS = [str(digit) for digit in range(10)]


def claims(name: str, run: Run, recipe: Trainable) -> list[Target]:
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
        title=f"Training images, and below each {COPIES} versions like those the network is shown",
        columns=len(images),
        width=0.9,
    )


def tested(
    run: Run,
    runs: Sequence[Run],
    network: nn.Module,
    test: LabelledImages,
    logits: Sequence[Tensor],
) -> str:
    """What `recipes.tested` does, for the ten digits."""
    return recipes.tested(run, runs, network, test, logits, DIGITS)
