"""Which strokes of an image belong to one digit: parts are joined, specks left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]

NEAR = 0.15  # of the tallest part's height: a small part so near to a large one belongs to it
SMALL = 0.45  # of the tallest part's height: lower parts are no digits
DUST = 0.01  # of the largest part's pixels: what is smaller is left out
THIN = 0.03  # likewise, for a whole digit: pens differ, but not by more


@dataclass(eq=False)
class Box:
    """A rectangle of pixels: rows from `top` to below `bottom`, columns likewise."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


class Part(Box):
    """Connected strokes: their pixels on the whole image, their box, and how many they are."""

    def __init__(self, mask: Mask) -> None:
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        super().__init__(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        self.mask = mask
        self.size = int(mask.sum())

    def grown(self, margin: int) -> tuple[slice, slice]:
        """The box with a margin, on the image padded by as much."""
        rows = slice(self.top, self.bottom + 2 * margin)
        return rows, slice(self.left, self.right + 2 * margin)

    def scaled(self, factor: float) -> Box:
        """The box on an image `factor` times as large: of all pixels that it touches."""
        top, left = math.floor(factor * self.top), math.floor(factor * self.left)
        return Box(top, math.ceil(factor * self.bottom), left, math.ceil(factor * self.right))

    def shared_width(self, other: Part) -> float:
        """The columns above or below each other, relative to the narrower of the two."""
        shared = min(self.right, other.right) - max(self.left, other.left)
        return shared / min(self.width, other.width)

    def distance(self, other: Part) -> float:
        """The pixels between the boxes; 0 where they touch or overlap."""
        across = max(self.left - other.right, other.left - self.right, 0)
        down = max(self.top - other.bottom, other.top - self.bottom, 0)
        return float(np.hypot(across, down))


def find_digits(mask: Mask) -> list[Part]:
    """The digits among the strokes (a mask H×W), line by line from the left."""
    parts = _connected(mask)
    tallest = max(max(part.height, part.width) for part in parts)
    large = [part for part in parts if max(part.height, part.width) >= SMALL * tallest]
    small = [part for part in parts if max(part.height, part.width) < SMALL * tallest]
    digits = _join_stacked(large, tallest)
    most = max(digit.size for digit in digits)
    for part in small:
        nearest = min(digits, key=part.distance)
        if part.distance(nearest) <= NEAR * tallest and part.size > DUST * most:
            digits[digits.index(nearest)] = Part(nearest.mask | part.mask)
    digits = [digit for digit in digits if digit.size > THIN * most]
    return _in_reading_order(digits)


def _connected(mask: Mask) -> list[Part]:
    """The connected parts; a thin stroke that broke into dots is put together again.

    The dots are joined over wider and wider gaps until one part has a third of the height (or
    width) of all; where all are wider than high, half of their height is enough.
    """
    whole = Part(mask)
    goal = max(whole.height, whole.width) / 3
    if whole.width > whole.height:
        goal = min(goal, whole.height / 2)
    parts: list[Part] = []
    for gap in (1, 2, 4, 8, 16):
        grown = mask
        if gap > 1:  # scipy takes 0 iterations for "until nothing changes"
            grown = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool), iterations=gap // 2)
        labelled, count = ndimage.label(grown, structure=np.ones((3, 3)))
        labelled = np.where(mask, labelled, 0)
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        sizes[0] = 0
        kept = np.flatnonzero(sizes > DUST * sizes.max())
        parts = [Part(labelled == number) for number in kept]
        if max(max(part.height, part.width) for part in parts) >= goal:
            break
    return parts


def _join_stacked(parts: list[Part], tallest: int) -> list[Part]:
    """Large parts that stand close above each other, or into each other, are one digit."""
    joined: list[Part] = []
    for part in parts:
        others = []
        for other in joined:
            if part.shared_width(other) >= 0.5 and part.distance(other) <= NEAR * tallest:
                part = Part(part.mask | other.mask)
            else:
                others.append(other)
        joined = [*others, part]
    return joined


def _in_reading_order(digits: list[Part]) -> list[Part]:
    """Line by line, each from the left; a digit whose middle is below all boxes starts a line."""
    lines: list[list[Part]] = []
    for digit in sorted(digits, key=lambda digit: digit.top + digit.bottom):
        middle = (digit.top + digit.bottom) / 2
        if lines and middle < max(part.bottom for part in lines[-1]):
            lines[-1].append(digit)
        else:
            lines.append([digit])
    return [digit for line in lines for digit in sorted(line, key=lambda digit: digit.left)]
