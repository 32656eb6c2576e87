"""Scores against scikit-learn, NumPy and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from common.metrics import accuracy, accuracy_within, confusion_matrix, misclassified, rows_within

classes = st.integers(2, 6)


@given(st.integers(0, 2**32), st.integers(1, 40), classes)
def test_accuracy_equals_scikit_learn(seed: int, count: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, width, generator=generator)
    labels = torch.randint(width, (count,), generator=generator)
    assert accuracy(logits, labels) == pytest.approx(
        accuracy_score(labels, logits.argmax(1)), abs=1e-12
    )


@given(st.integers(0, 2**32), st.integers(0, 40), classes)
def test_confusion_matrix_equals_scikit_learn(seed: int, count: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, predictions = torch.randint(width, (2, count), generator=generator)
    expected = (
        sklearn_confusion_matrix(labels, predictions, labels=range(width))
        if count
        else np.zeros((width, width), int)
    )
    assert np.array_equal(confusion_matrix(labels, predictions, width).numpy(), expected)


def test_a_prediction_within_the_deviation_is_right() -> None:
    truth, predicted = torch.tensor([[20.0, 20.0]]), torch.tensor([[22.0, 22.0]])
    assert accuracy_within(predicted, truth, 2) == 1  # document 1's example
    assert accuracy_within(predicted, truth, 1) == 0


@given(st.integers(0, 2**32), st.integers(1, 30), st.sampled_from([0.5, 1, 2, 5]))
def test_shares_within_equal_numpy(seed: int, count: int, tolerance: float) -> None:
    predictions, targets = 5 * torch.randn(
        2, count, 4, generator=torch.Generator().manual_seed(seed)
    )
    right = np.abs(predictions.numpy() - targets.numpy()) <= tolerance
    assert accuracy_within(predictions, targets, tolerance) == pytest.approx(right.mean())
    assert rows_within(predictions, targets, tolerance) == pytest.approx(right.all(1).mean())


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(2, 10))
def test_misclassified_equals_numpy(seed: int, count: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    wrong, predicted, confidences = misclassified(logits, labels)
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    rows = [
        (-shares[n].max(), n, shares[n].argmax())
        for n in range(count)
        if shares[n].argmax() != labels[n]
    ]
    assert wrong.tolist() == [n for _, n, _ in sorted(rows)]
    assert predicted.tolist() == [guess for *_, guess in sorted(rows)]
    assert confidences.tolist() == pytest.approx([-share for share, *_ in sorted(rows)], rel=1e-5)


def test_nan_is_never_right() -> None:
    nothing = torch.full((2, 3), torch.nan)
    assert accuracy(nothing, torch.zeros(2, dtype=torch.long)) == 0
    assert misclassified(nothing, torch.zeros(2, dtype=torch.long))[0].tolist() == [0, 1]
    predictions = torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])
    assert accuracy_within(predictions, torch.ones(2, 2), 10) == 0.75
    assert rows_within(predictions, torch.ones(2, 2), 10) == 0.5


@pytest.mark.parametrize("count", [0, 3])
def test_what_cannot_be_scored_is_refused(count: int) -> None:
    two = torch.zeros(count, 2)
    with pytest.raises(ValueError, match="got"):
        accuracy(two, torch.zeros(count + (count > 0), dtype=torch.int64))
    with pytest.raises(ValueError, match="got"):
        accuracy_within(two, torch.zeros(count, 2 + (count > 0)), 1)
    with pytest.raises(ValueError, match="got"):
        confusion_matrix(
            torch.zeros(count, dtype=torch.int64), torch.zeros(count + 1, dtype=torch.int64), 2
        )


def test_a_class_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        confusion_matrix(torch.tensor([0]), torch.tensor([2]), 2)
