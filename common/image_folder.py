"""A data set as a folder of PNG files, one subfolder for each class, and back again."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from common.errors import RunError, UsageError


def export_image_folder(folder: Path, splits: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Writes `folder/<split>/<label>/<index>.png` for the images (uint8, N×1×H×W) and labels (N) of
    each split.

    Files that are there already are left alone, each file is whole or absent, and one process
    writes at a time: an export that was interrupted is completed by the next call. Raises
    UsageError where a file is in the way that is no part of the data set, RunError where the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            missing = list(_missing(folder, splits))
            if missing:
                print(f"writing {len(missing):,} pictures to {folder}, once")
            for path, image in tqdm(
                missing, desc="export", unit="picture", disable=not sys.stderr.isatty()
            ):
                _write_png(path, image)
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror or error})") from None


def _missing(
    folder: Path, splits: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[tuple[Path, Tensor]]:
    for split, (images, labels) in splits.items():
        expected = {f"{label}/{index:05}.png": index for index, label in enumerate(labels.tolist())}
        for label in labels.unique().tolist():  # type: ignore[no-untyped-call]
            subfolder = folder / split / str(label)
            subfolder.mkdir(parents=True, exist_ok=True)
            for name in os.listdir(subfolder):  # noqa: PTH208 - strings: a Path for each of 70,000 takes seconds
                if expected.pop(f"{label}/{name}", None) is None and name.endswith(".png"):
                    raise UsageError(
                        f"{subfolder / name} is not a picture of this data set; move it out of {folder}"
                    )
        for name, index in expected.items():
            yield folder / split / name, images[index, 0]


def _write_png(path: Path, image: Tensor) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, "PNG")
    # Not `write_whole`: syncing each of 70,000 small files would take many minutes.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getbuffer())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def decode_images(dataset: ImageFolder) -> Tensor:
    """Every picture of an image folder (uint8, N×1×H×W, grey 0..255), in the data set's order.

    The grey values are those of `Grayscale` and, divided by 255, of `ToTensor`. Raises RunError for
    a file that is no picture or is of another size than the first.
    """
    images: list[np.ndarray] = []
    samples = tqdm(dataset.samples, desc="decode", unit="picture", disable=not sys.stderr.isatty())
    for path, _ in samples:
        try:
            with Image.open(path) as picture:
                images.append(np.asarray(picture.convert("L")))
        except (OSError, SyntaxError):  # a broken PNG is a SyntaxError to Pillow
            images.append(np.empty(0))
        if images[-1].shape != images[0].shape or not images[-1].size:
            raise RunError(f"{path} is damaged; delete it and run again: it is then written anew")
    return torch.from_numpy(np.stack(images)).unsqueeze(1)
