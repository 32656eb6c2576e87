"""A folder of the learner's own images, a subfolder for each class, instead of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data import CLOTHES, LabelledImages, to_unit_range
from common.errors import UsageError
from common.files import write_text
from common.given_files import say_left_out
from common.image_files import Colours, OwnImage, own_image, read_image, to_bytes
from common.terminal import one_line, say, track

SIDE = 28
UNSEEN_SHARE = 5  # one image of so many is kept for the test where the script splits a folder
MOST_CLASSES = 200  # a figure with more would be too large to look at
CLASSES = "classes.json"


@dataclass(frozen=True)
class ClassImages:
    """Images to train on, images to test on, and the names of their classes, by label."""

    training: LabelledImages
    unseen: LabelledImages
    names: Sequence[str]


def load_own_classes(train: Path, test: Path | None, limit: int | None) -> ClassImages:
    """The images of two folders (or of one) of classes, in an order mixed once, always alike.

    Images of any size and colour become 28×28 grey pixels. Without a test folder every fifth image
    of each class is kept for the test. `limit` takes so many of each part. A file that is no image
    is named and left out. Raises UsageError for folders that cannot be used.
    """
    names = class_names("--train-folder", train)
    training = _read_classes(train, names)
    for label, name in enumerate(names):
        if not (training.labels == label).any():
            raise UsageError(f"{train / name}: there is no image that can be read")
    if test is None:
        training, unseen = _split(training, names, train)
    else:
        others = set(class_names("--test-folder", test)) - set(names)
        if others:
            raise UsageError(
                f"--test-folder {test} has classes that {train} lacks "
                f"({', '.join(sorted(others))}); accepted: {', '.join(names)}"
            )
        unseen = _read_classes(test, names)
    count = limit or max(len(training), len(unseen))
    return ClassImages(training.first(count), unseen.first(count), [*map(one_line, names)])


def class_names(flag: str, folder: Path) -> list[str]:
    """The names of the subfolders, without hidden ones, sorted.

    Raises UsageError, with the flag's name, if there are fewer than 2 or more than 200.
    """
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{flag} {folder} is no folder that can be read ({reason})") from None
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UsageError(
            f"{flag} {folder}: subfolders found: {len(names)}; one for each class is needed, 2 to "
            f"{MOST_CLASSES} of them"
        )
    return sorted(names)


def as_network_sees(colours: Colours) -> Tensor:
    """An image (H×W×3, 0..1) as 28×28 grey bytes (1×28×28), in its proportions, in the middle.

    What is left over has the grey that most of the image's border has. An image of 28×28 grey
    pixels stays as it is.
    """
    grey = Image.fromarray(to_bytes(colours)).convert("L")
    values = np.asarray(grey)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    factor = SIDE / max(grey.size)
    size = (max(1, round(factor * grey.width)), max(1, round(factor * grey.height)))
    field = Image.new("L", (SIDE, SIDE), round(float(np.median(border))))
    scaled = grey if factor == 1 else grey.resize(size, Image.Resampling.BICUBIC)
    field.paste(scaled, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return torch.from_numpy(np.array(field)).unsqueeze(0)


def read_own(path: Path) -> list[OwnImage]:
    """An image file for a network trained on a folder of classes; UsageError like `read_image`."""
    colours = read_image(path)
    return [own_image(path.name, colours, to_unit_range(as_network_sees(colours)))]


def save_names(path: Path, names: Sequence[str]) -> None:
    """Writes the classes' names beside a network's weights, for `saved_names`."""
    write_text(path, json.dumps(list(names), ensure_ascii=False) + "\n")


def saved_names(weights: Path, classes: int) -> list[str] | None:
    """The names of the `classes` that a network was trained on; None if they are Fashion-MNIST's.

    Ten classes without a file of names are taken for those, and it says so. Raises UsageError for a
    file of names that is damaged or, for other than ten classes, missing.
    """
    path = weights.parent / CLASSES
    try:
        names: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if classes != len(CLOTHES):
            raise UsageError(
                f"{path} is missing: it names the {classes} classes of {weights.name}"
            ) from None
        say(f"{path} is missing: the ten classes of {weights.name} are taken for Fashion-MNIST's.")
        return None
    except (OSError, ValueError):
        names = None
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not valid or len(names) != classes:
        raise UsageError(f"{path} is damaged: it names the classes of {weights.name}; train again")
    return None if tuple(names) == CLOTHES else list(names)


def _read_classes(folder: Path, names: Sequence[str]) -> LabelledImages:
    files = []
    for label, name in enumerate(names):
        for path in sorted((folder / name).rglob("*")):
            parts = path.relative_to(folder / name).parts
            if path.is_file() and not any(part.startswith(".") for part in parts):
                files.append((path, label))
    images, labels, paths, refusals = [], [], [], []
    for path, label in track(files, f"images of {folder} read"):
        try:
            images.append(as_network_sees(read_image(path)))
        except UsageError as error:
            refusals.append(str(error))
            continue
        labels.append(label)
        paths.append(str(path))
    if not images:
        raise UsageError(f"{folder}: there is no image that can be read in {', '.join(names)}")
    say_left_out(refusals)
    # Sorted by class, the images of a batch would all be of one class.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return _chosen(LabelledImages(torch.stack(images), torch.tensor(labels), paths), order)


def _split(
    images: LabelledImages, names: Sequence[str], folder: Path
) -> tuple[LabelledImages, LabelledImages]:
    """Every fifth image of each class, at least one, for the test; the rest to train on."""
    unseen = torch.zeros(len(images), dtype=torch.bool)
    for label, name in enumerate(names):
        places = (images.labels == label).nonzero().flatten()
        if len(places) < 2:
            raise UsageError(
                f"{folder / name} has {len(places)} image that can be read; at least two are "
                "needed, one of them for the test"
            )
        unseen[places[::UNSEEN_SHARE]] = True
    to_train_on, to_test_on = ((~unseen).nonzero().flatten(), unseen.nonzero().flatten())
    return _chosen(images, to_train_on), _chosen(images, to_test_on)


def _chosen(images: LabelledImages, places: Tensor) -> LabelledImages:
    files = [images.files[place] for place in places.tolist()]
    return LabelledImages(images.images[places], images.labels[places], files)
