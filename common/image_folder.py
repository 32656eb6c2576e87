"""A data set as a folder of PNG files, one subfolder for each class, and back again."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from common.data import LabelledImages
from common.errors import RunError, UsageError
from common.files import lock_for, patiently
from common.terminal import say, track

OLD = 60.0  # seconds: no image takes so long to be written
LEFT_BEHIND = re.compile(r"\d{5}\.png\.\d+")  # by an export that was killed


def export_image_folder(folder: Path, splits: Mapping[str, LabelledImages]) -> None:
    """Writes `folder/<split>/<label>/<index>.png` for the images and labels of each split.

    Files that are already there are kept, each file is whole or absent, and one process writes at a
    time: the next call completes an export that was interrupted. Raises UsageError for an image
    file or a folder that is no part of the data set, RunError where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_for(folder):
            missing = list(_missing(folder, splits))
            if missing:
                say(f"Writing {len(missing):,} images to {folder}, this once.")
            for path, image in track(missing, "images written"):
                _write_png(path, image)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error.strerror or error}); "
            "--source tensor needs no image files"
        ) from None


def _missing(folder: Path, splits: Mapping[str, LabelledImages]) -> Iterator[tuple[Path, Tensor]]:
    for split, part in splits.items():
        labels = part.labels.tolist()
        expected = {f"{label}/{index:05}.png": index for index, label in enumerate(labels)}
        classes = {str(label) for label in labels}
        for label in classes:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
        for subfolder in (folder / split).iterdir():
            if not subfolder.is_dir():
                continue
            if subfolder.name not in classes:
                raise UsageError(f"{subfolder} is no class of this data set; move it elsewhere")
            # A Path for each of 70,000 takes seconds.
            for entry in os.scandir(subfolder):
                name = entry.name
                if entry.is_dir():  # `ImageFolder` would read what is in it too
                    raise UsageError(f"{entry.path} is a folder; move it out of {folder}")
                known = expected.pop(f"{subfolder.name}/{name}", None) is not None
                if not known and name.lower().endswith(IMG_EXTENSIONS):
                    raise UsageError(
                        f"{subfolder / name} is not an image of this data set; "
                        f"move it out of {folder}"
                    )
                if LEFT_BEHIND.fullmatch(name):
                    _delete_if_old(subfolder / name)
        for name, index in expected.items():
            yield folder / split / name, part.images[index, 0]


def _delete_if_old(path: Path) -> None:
    """Deletes what a killed export left; what is new may be written now, on another machine."""
    with suppress(FileNotFoundError):  # renamed there just now
        if time.time() - path.stat().st_mtime > OLD:
            path.unlink()


def _write_png(path: Path, image: Tensor) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, "PNG")
    # Not `write_whole`: syncing each of 70,000 small files would take many minutes.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getbuffer())
        patiently(lambda: temporary.replace(path))
    finally:
        temporary.unlink(missing_ok=True)


def decode_images(dataset: ImageFolder) -> Tensor:
    """Every image of an image folder (uint8, N×1×H×W, grey 0..255), in the data set's order.

    The grey values are those of `Grayscale` and, divided by 255, of `ToTensor`. Raises RunError for
    files that are no image or have another size than the first.
    """
    images: list[np.ndarray] = []
    damaged: list[str] = []
    for path, _ in track(dataset.samples, "images read"):
        try:
            with Image.open(path) as image:
                grey = np.asarray(image.convert("L"))
        except MemoryError:
            raise
        except Exception:  # on damaged files Pillow raises errors of a dozen types
            damaged.append(path)
            continue
        images.append(grey)
        if grey.shape != images[0].shape:
            damaged.append(path)
    if len(damaged) == 1:
        raise RunError(f"{damaged[0]} is damaged; delete it and run again, which writes it anew")
    if damaged:
        raise RunError(
            f"{damaged[0]} and {len(damaged) - 1:,} more are damaged; delete the folder "
            f"{dataset.root} and run again, which writes it anew"
        )
    return torch.from_numpy(np.stack(images)).unsqueeze(1)


def check_images(decoded: LabelledImages, part: LabelledImages) -> None:
    """Raises RunError where a file's image or label is not that of the data set.

    `decoded` is of a folder that `export_image_folder` made from `part`.
    """
    places = torch.tensor([int(Path(file).stem) for file in decoded.files])
    same_image = (decoded.images == part.images[places]).flatten(1).all(1)
    wrong = (~same_image | (decoded.labels != part.labels[places])).nonzero()
    if len(wrong):
        file = decoded.files[int(wrong[0])]
        raise RunError(f"{file} is another image; delete it and run again, which writes it anew")
