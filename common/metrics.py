"""Scores of predictions against the truth. Each is tested against an independent implementation."""

from __future__ import annotations

import torch
from torch import Tensor


def share_of(flags: Tensor) -> float:
    """The share of a bool tensor's values, at least one, that are true: 0..1, exact everywhere."""
    return int(flags.sum()) / flags.numel()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit stands at the label; logits N×C, labels N; a fraction in
    0..1. A row with NaN is wrong.

    Raises ValueError where there is nothing to score or the shapes do not fit.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"accuracy needs logits N×C and labels N, N > 0; got {_shapes(logits, labels)}"
        )
    return share_of((logits.argmax(1) == labels) & ~logits.isnan().any(1))


def accuracy_within(predictions: Tensor, targets: Tensor, tolerance: float) -> float:
    """Share of numbers at most `tolerance` from their target, in the targets' unit; a fraction in
    0..1.

    Document 1, "precision metric": a prediction within a given deviation of the truth counts as
    right. A prediction that is NaN is wrong. Raises ValueError where there is nothing to score or
    the shapes differ.
    """
    return share_of(_within(predictions, targets, tolerance))


def rows_within(predictions: Tensor, targets: Tensor, tolerance: float) -> float:
    """Share of rows (N×M×…) in which every number is at most `tolerance` from its target; a
    fraction in 0..1.

    Raises ValueError where there is nothing to score or the shapes differ.
    """
    return share_of(_within(predictions, targets, tolerance).flatten(1).all(1))


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts of examples, classes×classes: row = true class, column = predicted class.

    Raises ValueError for a class outside 0..classes-1 or where the shapes differ.
    """
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(
            f"labels and predictions must both have shape N; got {_shapes(labels, predictions)}"
        )
    pairs = torch.stack([labels, predictions])
    if len(labels) and not 0 <= int(pairs.min()) <= int(pairs.max()) < classes:
        raise ValueError(f"a class lies outside 0..{classes - 1}")
    return torch.bincount(labels * classes + predictions, minlength=classes**2).view(
        classes, classes
    )


def misclassified(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows of the logits (N×C) do not give the labels (N): their indices, predicted classes
    and confidences (M each), worst first.

    The confidence is the probability (softmax, 0..1) of the class predicted; the surest error is
    the worst. A row with NaN is wrong, and its confidence is NaN.
    """
    confidences, predicted = logits.softmax(1).max(1)
    wrong = ((predicted != labels) | logits.isnan().any(1)).nonzero()[:, 0]
    wrong = wrong[confidences[wrong].argsort(descending=True, stable=True)]
    return wrong, predicted[wrong], confidences[wrong]


def _within(predictions: Tensor, targets: Tensor, tolerance: float) -> Tensor:
    if predictions.shape != targets.shape or predictions.numel() == 0:
        raise ValueError(
            "predictions and targets must have one shape, not empty; "
            f"got {_shapes(predictions, targets)}"
        )
    return (predictions - targets).abs() <= tolerance


def _shapes(a: Tensor, b: Tensor) -> str:
    return f"{tuple(a.shape)} and {tuple(b.shape)}"
