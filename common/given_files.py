"""The files that a learner names: each is read, those that cannot be used are named; batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from common.errors import UsageError
from common.image_files import OwnImage
from common.terminal import one_line, say, track

Found = TypeVar("Found")
NAMED = 10  # files left out that are named; of more only the number is said


def read_each(
    paths: Sequence[Path], read: Callable[[Path], Sequence[Found]]
) -> list[Found]:
    """What `read` finds in all the files; a file that it refuses is named and left out.

    A pattern, such as `*.png`, stands for all files that fit it: PowerShell hands it on as it was
    typed. Raises UsageError where all files are refused, with the reason of the first.
    """
    found: list[Found] = []
    refusals = []
    paths = [file for path in paths for file in _fitting(path)]
    for path in track(paths, "files read"):
        try:
            found += read(path)
        except UsageError as error:
            refusals.append(str(error))
    if not found:
        others = f" (and {len(paths) - 1} more that cannot be used)" if len(paths) > 1 else ""
        raise UsageError(refusals[0] + others)
    say_left_out(refusals)
    return found


def _fitting(path: Path) -> list[Path]:
    """The files that fit a pattern; the path itself where it exists, or where none fits."""
    # Not by Path, which raises errors for names that no file can have.
    names = [] if os.path.exists(path) else sorted(glob.glob(str(path)))  # noqa: PTH110, PTH207
    return [Path(name) for name in names] or [path]


def say_left_out(refusals: Sequence[str]) -> None:
    """Names the first ten files that cannot be used, and says how many more there are."""
    for refusal in refusals[:NAMED]:
        say(f"Left out: {one_line(refusal)}.")
    if len(refusals) > NAMED:
        say(f"Left out: {len(refusals) - NAMED} more that cannot be used.")


def as_batch(own: Sequence[OwnImage]) -> Tensor:
    """The images as a network takes them, N×1×28×28."""
    return torch.stack([one.image for one in own])


def as_batches(own: Sequence[OwnImage]) -> list[tuple[Tensor, Tensor]]:
    """Batches of up to 200 images (B×1×28×28) for `training.predict`, with zeros as labels."""
    return [(part, torch.zeros(len(part))) for part in as_batch(own).split(200)]
