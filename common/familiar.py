"""Is an image like those that a network was trained on? A network answers to any image at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.data import LabelledImages, load_images
from common.given_files import as_batch
from common.image_files import OwnImage

TRAINING, UNSEEN = 20_000, 1_000  # images that are looked at: enough, and half a second
RARE = 0.05  # of the test images are called strange too; so are half of all letters


def warnings_for(own: Sequence[OwnImage], data_set: str, data_dir: Path) -> list[str]:
    """For each image a warning, or "": its own note, or that it is strange.

    Strange is what is less like every one of the first 20,000 training images of `data_set`
    (`MNIST` or `FashionMNIST`) than 95 of 100 test images are.
    """
    training = load_images(data_set, "train", data_dir, TRAINING)
    unseen = load_images(data_set, "test", data_dir, UNSEEN)
    usual = likeness(unseen.images, training).quantile(RARE)
    warnings = []
    for one, value in zip(own, likeness(as_batch(own), training).tolist(), strict=True):
        strange = f"less like {data_set} than 95% of its own images are" if value < usual else ""
        warnings.append(one.note or strange)
    return warnings


def likeness(images: Tensor, training: LabelledImages) -> Tensor:
    """How like each image (N×1×28×28, any scale) is to the training image most like it: N, 0..1.

    It is the cosine between their pixels: 1 for the same image, 0 where they share no lit pixel.
    """
    directions = torch.nn.functional.normalize(training.images.flatten(1).float())
    own = torch.nn.functional.normalize(images.flatten(1).float())
    return torch.cat([(part @ directions.T).amax(1) for part in own.split(500)])
