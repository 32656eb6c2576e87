"""The numbers that test document 5's statements, each a function of one or two results."""

from __future__ import annotations

from itertools import pairwise

import torch

from hyperparams.results import GROUPS, TRAINING, VALIDATION, Result

WEIGHTS = ("hidden.weight", "output.weight")
STATED_HALVINGS = (5, 8, 11, 12, 13, 15, 16)


# Of one experiment


def training_accuracy(result: Result) -> float:
    return result.last(TRAINING)


def validation_accuracy(result: Result) -> float:
    return result.last(VALIDATION)


def validation_accuracy_after_5(result: Result) -> float:
    return result.at(5, VALIDATION)


def validation_accuracy_after_8(result: Result) -> float:
    return result.at(8, VALIDATION)


def validation_accuracy_after_10(result: Result) -> float:
    return result.at(10, VALIDATION)


def loss_left(result: Result) -> float:
    """Training loss of the last epoch as a share of that of the first."""
    return result.last("train_loss") / result.history[0]["train_loss"]


def rises(result: Result) -> int:
    """The number of epochs in which training loss is higher than in the one before."""
    return sum(after > before for before, after in pairwise(result.column("train_loss")))


def weights_within(result: Result, limit: float = 0.05) -> float:
    """The share of both layers' weights between −limit and limit."""
    weights = torch.cat([result.parameters()[name].flatten() for name in WEIGHTS])
    return (weights.abs() <= limit).float().mean().item()


def halvings_as_stated(result: Result) -> int:
    """How many of the seven epochs that the document names are epochs of a halving here."""
    return len({*STATED_HALVINGS} & {*result.halvings()})


def halved_without_rise(result: Result) -> int:
    """The halvings after an epoch whose validation loss was not 0.001 above that before it."""
    losses = result.column("validation_loss")
    count = 0
    for epoch in result.halvings():
        rise = losses[epoch - 1] - losses[epoch - 2] if epoch > 1 else 0.0
        count += rise < 0.001
    return count


# Of one experiment compared with another


def accuracy_gain(one: Result, other: Result) -> float:
    """Validation accuracy at the one's end minus the other's after as many epochs."""
    return one.last(VALIDATION) - other.at(one.epochs, VALIDATION)


def first_epoch_gain(one: Result, other: Result) -> float:
    """Validation accuracy after one epoch minus the other's."""
    return one.at(1, VALIDATION) - other.at(1, VALIDATION)


def gap_change(one: Result, other: Result) -> float:
    """Training minus validation accuracy, minus the same of the other after as many epochs."""
    return one.accuracy_gap() - other.accuracy_gap(one.epochs)


def loss_gap_change(low: Result, medium: Result) -> float:
    """Validation minus training loss at the end, minus the same of the other after 8 epochs."""
    return low.loss_gap() - medium.loss_gap(8)


def validation_loss_change(one: Result, other: Result) -> float:
    """Validation loss minus the other's."""
    return one.last("validation_loss") - other.last("validation_loss")


def smallest_width_ratio(wide: Result, narrow: Result) -> float:
    """How many times as wide the parameters are: the minimum of the four groups."""
    return min(wide.width(group) / narrow.width(group) for group in GROUPS)


def largest_weight_ratio(one: Result, other: Result) -> float:
    """How many times as wide the weights are: the maximum of both layers."""
    return max(one.width(layer) / other.width(layer) for layer in WEIGHTS)


def output_weight_ratio(one: Result, other: Result) -> float:
    """How many times as wide the last layer's weights are."""
    return one.width("output.weight") / other.width("output.weight")


def hidden_width_ratio(one: Result, other: Result) -> float:
    """How many times as wide the hidden values are."""
    return one.hidden_width() / other.hidden_width()
