"""What document 5 shows without training a network: sigmoids, batch norm, dropout, batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.figures import new_figure, save_figure
from common.runs import Run
from common.terminal import print_table, say

UNSCALED, SCALED, TINY = 255.0, 1.0, 1e-4
WEIGHTS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.5, 1.0)
TRAINING_IMAGES = 60_000


# 5.6: how far a sigmoid moves when its weight does


def sigmoid_change(value: float) -> float:
    """How far sigmoid(w·value) moves when w goes from 0.1 to 1."""
    low = torch.tensor(0.1 * value, dtype=torch.float64).sigmoid()
    high = torch.tensor(1 * value, dtype=torch.float64).sigmoid()
    return float(high) - float(low)


def sigmoid_change_unscaled() -> float:
    return sigmoid_change(UNSCALED)


def sigmoid_change_scaled() -> float:
    return sigmoid_change(SCALED)


def sigmoid_change_tiny() -> float:
    return sigmoid_change(TINY)


def show_sigmoids(run: Run) -> None:
    """Prints and draws sigmoid(w·x) over a range of weights for a large, a scaled and a tiny x."""
    values = (UNSCALED, SCALED, TINY)
    rows = []
    for weight in WEIGHTS:
        answers = [f"{torch.tensor(weight * value).sigmoid():.5f}" for value in values]
        rows.append([f"{weight:g}", *answers])
    say(
        "A sigmoid turns any number z into one between 0 and 1: 1 ÷ (1 + e^−z). Here it answers "
        "for one input x with one weight w. With a large x it is almost 1 from a small w on, with "
        "a tiny x it stays near 0.5: in both, changing w changes almost nothing."
    )
    print_table("sigmoid(w·x)", ["w", *(f"x = {value:g}" for value in values)], rows)
    figure, (axes,) = new_figure(
        "sigmoid(w·x): where a curve is flat, a change of the weight changes nothing"
    )
    weights = torch.logspace(-5, 1, 200)
    for value, kind in zip(values, ("unscaled", "scaled", "tiny"), strict=True):
        axes.plot(weights, (weights * value).sigmoid(), label=f"x = {value:g} ({kind})")
    axes.set(xscale="log", xlabel="weight w", ylabel="sigmoid(w·x)", ylim=(0.45, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, run.file("sigmoid.png"))


# 5.7: updates per epoch


def updates_per_epoch(batch_size: int) -> int:
    """The number of batches of 60,000 images."""
    return len(range(0, TRAINING_IMAGES, batch_size))


def updates_with_32() -> int:
    return updates_per_epoch(32)


def updates_with_10000() -> int:
    return updates_per_epoch(10_000)


# 5.14: what batch norm divides by


def batch_norm_error(by_variance: bool) -> float:
    """The largest difference between `BatchNorm1d` and (x − mean) ÷ variance on a batch of numbers.

    Without `by_variance`: between it and (x − mean) ÷ √(variance + 0.00001), as PyTorch states it.
    """
    values = 3 * torch.randn(64, 5, generator=torch.Generator().manual_seed(0)) + 1
    variance = values.var(0, correction=0) + 1e-5  # which PyTorch adds lest it divide by zero
    by_hand = (values - values.mean(0)) / (variance if by_variance else variance.sqrt())
    normed: Tensor = nn.BatchNorm1d(5)(values)
    return (normed - by_hand).abs().max().item()


def batch_norm_error_by_variance() -> float:
    return batch_norm_error(by_variance=True)


def show_batch_norm() -> None:
    """Says what batch norm divides by, and where γ and β begin."""
    say(
        "Batch norm works on each hidden unit alone. It takes the unit's value x for every image "
        "of a batch, subtracts their mean and divides by √(variance + 0.00001), nearly their "
        "standard deviation. With the tiny inputs of 5.14 the values deviate by about 0.00002 at "
        "first: they become about 300 times as large, which is still far below 1. In evaluation "
        "it uses means and variances kept from training."
    )
    say(
        "BatchNorm1d differs from that by "
        f"{batch_norm_error(by_variance=False):.1e} at most, from (x − mean) ÷ variance by up to "
        f"{batch_norm_error(by_variance=True):.2f}. The quotient is multiplied by γ, and β is "
        "added; the network learns both, from γ = 1 and β = 0."
    )


# 5.15: dropout in training and in evaluation mode


def dropout_network() -> nn.Sequential:
    """The document's network with dropout before both linear layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Dropout(0.25),
        nn.Linear(784, 1000),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(1000, 10),
    )


def dropout_answers(training: bool) -> int:
    """How many different answers ten passes of the same input give."""
    network = dropout_network().train(training)
    answers = [network(torch.ones(1, 784)) for _ in range(10)]
    return len({tuple(answer.flatten().tolist()) for answer in answers})


def dropout_answers_in_training() -> int:
    return dropout_answers(training=True)


def dropout_answers_in_evaluation() -> int:
    return dropout_answers(training=False)


def dropout_weights() -> float:
    """The size of all weights in evaluation mode as a share of that in training mode."""
    network = dropout_network()
    training = nn.utils.parameters_to_vector(network.train().parameters()).detach().norm()
    evaluation = nn.utils.parameters_to_vector(network.eval().parameters()).detach().norm()
    return float(evaluation / training)


def weights_without_gradient(images: int) -> float:
    """The share of a linear layer's weights that get no gradient from so many images, because
    dropout sets their inputs to 0 in each of them."""
    torch.manual_seed(0)
    layer = nn.Linear(1000, 10)
    layer(nn.Dropout(0.25)(torch.ones(images, 1000))).sum().backward()
    assert layer.weight.grad is not None
    return float((layer.weight.grad == 0).float().mean())


def weights_without_gradient_from_one() -> float:
    return weights_without_gradient(1)


def weights_without_gradient_from_a_batch() -> float:
    return weights_without_gradient(32)


def show_dropout() -> None:
    """Says what dropout makes of eight ones, of the answers to one input, and of the gradients."""
    torch.manual_seed(0)
    layer, ones = nn.Dropout(0.25), torch.ones(8)
    training = ", ".join(f"{value:g}" for value in layer(ones).numpy().round(3))
    evaluation = ", ".join(f"{value:g}" for value in layer.eval()(ones).tolist())
    say(
        f"Dropout(0.25) of eight ones, in training mode: {training}; in evaluation mode: "
        f"{evaluation}. In training each value is set to 0 with probability 0.25, and what is "
        "kept is divided by 0.75, so that the mean stays the same. In evaluation nothing changes. "
        "The document says that the weights are then scaled down: they keep "
        f"{dropout_weights():.0%} of their size."
    )
    say(
        f"Different answers in ten passes of one input: {dropout_answers(training=True)} in "
        f"training mode, {dropout_answers(training=False)} in evaluation mode."
    )
    say(
        f"A linear layer after dropout: from one image {weights_without_gradient(1):.0%} of its "
        "weights get no gradient, those of the inputs set to 0. From a batch of 32 images it is "
        f"{weights_without_gradient(32):.0%}: each image has other inputs set to 0."
    )
