"""The numbers that test document 5's statements, each a function of one or two results."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import torch
from torch import nn

from hyperparams.results import TRAINING, VALIDATION, Result
from hyperparams.schedule import THRESHOLD, best_before

WEIGHTS = ("hidden.weight", "output.weight")


def ratio(number: float, other: float) -> float:
    """Their quotient; NaN by 0, which the loss of a few images can be."""
    return number / other if other else math.nan


# Of one experiment


def training_accuracy(result: Result) -> float:
    return result.last(TRAINING)


def highest_training_accuracy(result: Result) -> float:
    """The highest after any epoch."""
    return max(result.column(TRAINING))


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
    return ratio(result.last("train_loss"), result.history[0]["train_loss"])


def loss_left_after_second(result: Result) -> float:
    """Training loss of the last epoch as a share of that of the second."""
    return ratio(result.last("train_loss"), result.at(2, "train_loss"))


def rises(result: Result) -> int:
    """The number of epochs in which training loss is higher than in the one before."""
    return sum(after > before for before, after in pairwise(result.column("train_loss")))


def stalls(result: Result) -> int:
    """The number of epochs in which training loss falls by less than 1%, or rises."""
    losses = result.column("train_loss")
    return sum(after > 0.99 * before for before, after in pairwise(losses))


def loss_above_lowest(result: Result) -> float:
    """Validation loss at the end ÷ the lowest after any epoch."""
    return ratio(result.last("validation_loss"), min(result.column("validation_loss")))


def gap_after_5(result: Result) -> float:
    """Training minus validation accuracy after five epochs."""
    return result.accuracy_gap(5)


def weights_within(result: Result, limit: float = 0.05) -> float:
    """The share of both layers' weights between −limit and limit."""
    weights = torch.cat([result.parameters()[name].flatten() for name in WEIGHTS])
    return (weights.abs() <= limit).float().mean().item()


def weights_within_1(result: Result) -> float:
    return weights_within(result, 1)


def weights_grown(result: Result) -> float:
    """Standard deviation of the weights ÷ that at the start, the minimum of both layers.

    At the start PyTorch draws the weights of a layer with n inputs between −1/√n and 1/√n.
    """
    ratios = []
    for layer in WEIGHTS:
        inputs = result.parameters()[layer].shape[1]
        ratios.append(result.width(layer) * math.sqrt(3 * inputs))
    return min(ratios)


def largest_to_typical(result: Result) -> float:
    """The first layer's largest weight ÷ its typical, the median, both without their signs."""
    sizes = result.parameters()["hidden.weight"].abs()
    return (sizes.max() / sizes.median()).item()


def largest_weight(result: Result) -> float:
    """The largest of the first layer's weights, without their signs."""
    return result.parameters()["hidden.weight"].abs().max().item()


def rises_without_halving(result: Result, lowest: float = 1e-5) -> int:
    """The number of epochs whose validation loss was at least 0.001 above that before, and after
    which the rate, not at the lowest yet, was not halved. The last epoch does not count."""
    losses, halvings = result.column("validation_loss"), result.halvings()
    count = 0
    for epoch in range(2, result.epochs):
        rose = losses[epoch - 1] - losses[epoch - 2] >= THRESHOLD
        count += rose and result.at(epoch, "lr") > lowest and epoch not in halvings
    return count


def halved_without_rise(result: Result) -> int:
    """The number of halvings after an epoch whose loss was less than 0.001 above that before it."""
    losses = result.column("validation_loss")
    count = 0
    for epoch in result.halvings():
        rise = losses[epoch - 1] - losses[epoch - 2] if epoch > 1 else 0.0
        count += rise < THRESHOLD
    return count


def halved_against_rule(result: Result, lowest: float = 1e-5) -> int:
    """The number of epochs after which the rate was halved, or kept, against the rule: halved, down
    to the lowest, unless validation loss has fallen by more than 0.001 below its best."""
    halvings, count = result.halvings(), 0
    for epoch in range(1, result.epochs):  # what follows the last epoch is not known
        loss, rate = result.at(epoch, "validation_loss"), result.at(epoch, "lr")
        fell = loss < best_before(result, epoch) - THRESHOLD
        due = not fell and rate > lowest
        count += due != (epoch in halvings)
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


def gap_change_after_5(one: Result, other: Result) -> float:
    """The same, each after five epochs."""
    return one.accuracy_gap(5) - other.accuracy_gap(5)


def accuracy_gain_after_8(one: Result, other: Result) -> float:
    """Validation accuracy minus the other's, each after eight epochs."""
    return one.at(8, VALIDATION) - other.at(8, VALIDATION)


def gap_change_at_the_ends(one: Result, other: Result) -> float:
    """Training minus validation accuracy, less the other's, each after its own last epoch."""
    return one.accuracy_gap() - other.accuracy_gap()


def loss_gap_change(one: Result, other: Result) -> float:
    """Validation minus training loss at the end, minus the same of the other at its end."""
    return one.loss_gap() - other.loss_gap()


def loss_gap_ratio(one: Result, other: Result) -> float:
    """Validation minus training loss at the end, as a multiple of the other's at its end."""
    return ratio(one.loss_gap(), other.loss_gap())


def loss_gap_ratio_after_8(one: Result, other: Result) -> float:
    """The same, each after eight epochs."""
    return ratio(one.loss_gap(8), other.loss_gap(8))


def loss_gap_change_from_4(one: Result, other: Result) -> float:
    """Validation minus training loss at the end, minus the same of the other after 4 epochs."""
    return one.loss_gap() - other.loss_gap(4)


def accuracy_gain_from_10(one: Result, other: Result) -> float:
    """Validation accuracy at the end minus the other's after 10 epochs."""
    return one.last(VALIDATION) - other.at(10, VALIDATION)


def validation_loss_change(one: Result, other: Result) -> float:
    """Validation loss minus the other's."""
    return one.last("validation_loss") - other.last("validation_loss")


def smallest_weight_ratio(wide: Result, narrow: Result) -> float:
    """How many times as wide the weights are: the minimum of both layers."""
    return min(wide.width(layer) / narrow.width(layer) for layer in WEIGHTS)


def largest_weight_ratio(one: Result, other: Result) -> float:
    """How many times as wide the weights are: the maximum of both layers."""
    return max(one.width(layer) / other.width(layer) for layer in WEIGHTS)


def output_weight_ratio(one: Result, other: Result) -> float:
    """How many times as wide the last layer's weights are."""
    return one.width("output.weight") / other.width("output.weight")


def hidden_width_ratio(one: Result, other: Result) -> float:
    """How many times as wide the hidden values are."""
    return one.hidden_width() / other.hidden_width()


def largest_to_typical_ratio(one: Result, other: Result) -> float:
    """`largest_to_typical` as a multiple of the other's."""
    return largest_to_typical(one) / largest_to_typical(other)


def time_ratio(one: Result, other: Result) -> float:
    """How many times as long an epoch of training takes."""
    return one.seconds_per_epoch() / other.seconds_per_epoch()


def largest_with_penalty(*results: Result) -> float:
    """The largest weight with any of the penalties ÷ that without one, whose result is the last."""
    *penalised, without = results
    return max(largest_weight(one) for one in penalised) / largest_weight(without)


def pairs_won_by_smaller_batches(*by_size: Result) -> int:
    """Of all pairs of batch sizes, given from large to small, those in which the smaller size has
    the higher validation accuracy."""
    return sum(smaller.last(VALIDATION) > larger.last(VALIDATION)
               for larger, smaller in combinations(by_size, 2))  # fmt: skip


# Without an experiment


def kept_value_in_prediction() -> float:
    """What dropout makes of a value in prediction ÷ what it makes of one it keeps in training."""
    dropout, value = nn.Dropout(0.25), torch.ones(1000)
    kept = dropout.train()(value).max()
    return float(dropout.eval()(value)[0] / kept)
