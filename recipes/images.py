"""What the recipes that classify images share: what is held out, the scores, your own images."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from common.data import LabelledImages, load_images
from common.familiar import warnings_for
from common.given_files import as_batches, read_each
from common.image_files import OwnImage
from common.metrics import accuracy
from common.rows import Row
from common.start import start_run
from common.training import Metric, accuracy_on, evaluate, predict
from recipes.training import load_weights, split
from reports import own_images

SCORED_AT_ONCE = 500
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # pixels to the right and down


@functools.cache
def parts(
    data_set: str, data_dir: Path, limit: int | None
) -> tuple[LabelledImages, LabelledImages]:
    """The training images to train on, and those held out; read once in each process."""
    return split(load_images(data_set, "train", data_dir, limit))


def scores(
    network: nn.Module, training: LabelledImages, held_out: LabelledImages, dtype: torch.dtype
) -> Row:
    """Accuracy on as many training images as are held out; accuracy and loss on those held out."""
    metrics: dict[str, Metric] = {"val_loss": nn.CrossEntropyLoss(), "val_accuracy": accuracy}
    numbers = evaluate(network, held_out.batches(SCORED_AT_ONCE), metrics, dtype)
    sample = training.first(len(held_out)).batches(SCORED_AT_ONCE)
    return {**numbers, "train_accuracy": accuracy_on(network, sample, dtype)}


def moved_copies(images: Tensor) -> list[Tensor]:
    """The images (B×C×H×W) as they are, and moved by a pixel to each side: five times B×C×H×W.

    Zeros are added on one side, and as many pixels are cut off on the other.
    """
    return [pad(images, (right, -right, down, -down)) for right, down in MOVES]


def middle(images: Tensor, side: int) -> Tensor:
    """The middle of square images (B×C×H×H): `side` pixels of each row and column."""
    first = (images.shape[-1] - side) // 2
    return images[:, :, first : first + side, first : first + side]


def classify_own(
    script: str,
    options: argparse.Namespace,
    argv: Sequence[str] | None,
    network: nn.Module,
    data_set: str,
    read: Callable[[Path], list[OwnImage]],
    names: Sequence[str],
    document: int,
) -> None:
    """Classifies the images of --predict by the network, with the weights in --weights.

    `read` makes of a file what the network sees; `data_set` is what it was trained on.
    """
    load_weights(options.weights, network)
    own = read_each(options.predict, read)
    warnings = warnings_for(own, data_set, options.data_dir)
    # The run starts only now: nothing is left behind for an image that cannot be read.
    with start_run(script, options, argv) as run:
        logits, _ = predict(network.to(run.device), as_batches(own))
        ending = own_images.answers(run, own, logits, names, warnings)
        run.finish(document=document, claims=(), ending=ending)
