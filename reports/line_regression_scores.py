"""Document 1's scores, of a network's answers and of two that need no learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.metrics import accuracy_within, rows_within
from common.rows import Row

if TYPE_CHECKING:
    from line_regression import Lines


def line_scores(part: str, found: Tensor, ends: Tensor) -> Row:
    """Scores `part`_… of the ends found (N×4, pixels): by coordinate, by point and by line."""
    scores: Row = {}
    for pixels in (1, 2, 5, 10):
        points = rows_within(found.reshape(-1, 2), ends.reshape(-1, 2), pixels)
        scores[f"{part}_coordinates_within_{pixels}"] = accuracy_within(found, ends, pixels)
        scores[f"{part}_points_within_{pixels}"] = points
        scores[f"{part}_lines_within_{pixels}"] = rows_within(found, ends, pixels)
    scores[f"{part}_either_order_within_10"] = within_in_either_order(found, ends, 10)
    errors = (found - ends).abs().flatten()
    scores[f"{part}_squared_error"] = errors.square().mean().item()
    scores[f"{part}_median_error"] = errors.median().item()
    scores[f"{part}_error_at_94_percent"] = errors.quantile(0.94).item()
    return scores


def within_in_either_order(found: Tensor, ends: Tensor, pixels: float) -> float:
    """Share of the coordinates (N×4, pixels) within so many pixels, 0..1, with the ends of each
    line in the order that is nearer to those found."""
    exchanged = ends.roll(2, dims=1)
    is_nearer = (found - exchanged).abs().amax(1) < (found - ends).abs().amax(1)
    return accuracy_within(found, torch.where(is_nearer[:, None], exchanged, ends), pixels)


def outermost_pixels(images: Tensor) -> Tensor:
    """The ends (N×4) without learning: the outermost lit pixels along the line's longer axis."""
    ends = []
    for image in images[:, 0]:
        points = image.nonzero().flip(1)  # x, y of each lit pixel
        extents = points.amax(0) - points.amin(0)
        along = points[:, extents.argmax()]  # a line has one pixel for each place on this axis
        two = points[[int(along.argmin()), int(along.argmax())]].tolist()
        left, right = sorted(two)  # of a vertical line: the upper one, the lower one
        ends.append(left + right)
    return torch.tensor(ends, dtype=torch.float32)


def final_scores(training: Lines, found_training: Tensor, unseen: Lines, found: Tensor) -> Row:
    """The scores of the ends found (N×4, pixels) on training and on unseen lines, and of two
    answers without learning: `mean_`… is always the mean of the training ends."""
    mean = training.ends.double().mean(0).expand(found.shape)
    return {
        **line_scores("train", found_training, training.ends),
        **line_scores("unseen", found, unseen.ends),
        **line_scores("mean", mean, unseen.ends),
        **line_scores("outermost", outermost_pixels(unseen.images), unseen.ends),
    }
