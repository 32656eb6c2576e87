"""Document 2's loss functions, by hand: a part of what `mnist_cnn.py --explain` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from common.bounds import at_most, exactly
from common.claims import Claim
from common.figures import COLOURS, new_figure, save_figure
from common.runs import Run
from common.terminal import print_table, say
from reports.mnist_cnn_blocks import QUESTIONS, ROUNDING

PREDICTIONS, EXPECTED = 1000, 100  # random predictions, and expected distributions
Distributions = Mapping[str, Sequence[float]]

CLAIMS = (
    Claim("2.4d", "MSELoss and the mean of (y − y_hat)² by hand: difference",
          "the squared difference of y and y_hat", "mse_difference", at_most(ROUNDING), "{:.1g}",
          QUESTIONS),
    Claim("2.4e", "loss functions of torch.nn that are no Module",
          "subclasses of Module", "losses_without_module", exactly(0), "{:.0f}", QUESTIONS),
    Claim("2.4f", "CrossEntropyLoss and −Σ p·log q by hand: largest difference",
          "CrossEntropyLoss: the cross-entropy", "cross_entropy_difference", at_most(ROUNDING),
          "{:.1g}", QUESTIONS),
    Claim("2.4g", "1,000 predictions for a label: pairs of which the one with the smaller "
          "cross-entropy is farther away", "the smaller, the closer the two distributions",
          "pairs_in_the_wrong_order", exactly(0), "{:.0f}", QUESTIONS),
    Claim("2.4h", "predictions, of 100,000, whose cross-entropy is below that of the expected "
          "distribution itself", "the distance of two distributions",
          "predictions_below_the_entropy", exactly(0), "{:.0f}", QUESTIONS),
)  # fmt: skip

# What is expected of three classes A, B and C, and three predictions each.
LABEL = (0.0, 1.0, 0.0)
FOR_A_LABEL = {"right": (0.1, 0.8, 0.1), "undecided": (0.4, 0.3, 0.3), "wrong": (0.8, 0.1, 0.1)}
SHARES = (0.7, 0.2, 0.1)
FOR_SHARES = {"equal": (0.7, 0.2, 0.1), "near": (0.5, 0.3, 0.2), "far": (0.1, 0.2, 0.7)}


def loss_functions(run: Run) -> None:
    """Prints what the document's two losses compute, by hand and by PyTorch; saves a figure."""
    squared_difference(run)
    names = [name for name in dir(nn) if name.endswith("Loss")]
    modules = [name for name in names if issubclass(getattr(nn, name), nn.Module)]
    run.metrics["losses_without_module"] = len(names) - len(modules)
    say(f"A loss function is a Module: {len(modules)} of the {len(names)} in torch.nn are.")
    cross_entropies(run)
    closer_or_farther(run)
    draw_cross_entropy(run)


# 1. The squared difference

def squared_difference(run: Run) -> None:
    """Prints the squares of three differences, and compares their mean with MSELoss."""
    truth, answers = [20.0, 3.0, -1.0], [22.0, 2.5, -1.0]
    squares = [(y - y_hat) ** 2 for y, y_hat in zip(truth, answers, strict=True)]
    rows = [[y, y_hat, y - y_hat, square]
            for y, y_hat, square in zip(truth, answers, squares, strict=True)]  # fmt: skip
    print_table(
        "MSELoss: the squared difference of y and y_hat",
        ["y", "y_hat", "y − y_hat", "squared"], rows,
    )  # fmt: skip
    mean = sum(squares) / len(squares)
    loss = nn.MSELoss()(torch.tensor(answers), torch.tensor(truth)).item()
    run.metrics["mse_difference"] = abs(loss - mean)
    say(f"The mean of the squares is {mean:.4f}, nn.MSELoss gives {loss:.4f}.")


# 2. Cross-entropy: the distance of a prediction q from what is expected, p

def cross_entropy_by_hand(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """−Σ p·log q; a class that is not expected (p = 0) adds nothing."""
    pairs = zip(expected, predicted, strict=True)
    return -sum(p * math.log(q) for p, q in pairs if p > 0)


def cross_entropy(expected: Tensor, predicted: Tensor) -> Tensor:
    """PyTorch's, for distributions (…×C); it takes logits, for which log q may stand."""
    loss_function = nn.CrossEntropyLoss(reduction="none")
    losses: Tensor = loss_function(predicted.log(), expected.expand_as(predicted))
    return losses


def distance(expected: Tensor, predicted: Tensor) -> Tensor:
    """Half the sum of |p − q|, 0..1, of distributions (…×C): how far apart they are."""
    return (expected - predicted).abs().sum(-1) / 2


def cross_entropies(run: Run) -> None:
    """Prints the cross-entropy of three predictions for a label and three for shares."""
    differences = []
    for title, expected, predictions in (
        ("the image is a B", LABEL, FOR_A_LABEL),
        ("A 0.7, B 0.2, C 0.1", SHARES, FOR_SHARES),
    ):
        rows = []
        for name, predicted in predictions.items():
            p, q = torch.tensor(expected), torch.tensor(predicted)
            by_hand = cross_entropy_by_hand(expected, predicted)
            loss = cross_entropy(p, q[None]).item()
            differences.append(abs(loss - by_hand))
            rows.append([name, *predicted, f"{distance(p, q).item():.2f}",
                         f"{by_hand:.4f}", f"{loss:.4f}"])  # fmt: skip
        print_table(
            f"Cross-entropy of three predictions. Expected: {title}",
            ["prediction", "A", "B", "C", "distance", "by hand", "CrossEntropyLoss"], rows,
        )  # fmt: skip
    run.metrics["cross_entropy_difference"] = max(differences)
    say(
        "Distance: half the sum of |p − q| over the classes; p is expected, q predicted. "
        "Cross-entropy: −Σ p·log q. CrossEntropyLoss takes logits; here they are log q."
    )


# 3. Is the smaller cross-entropy always the closer prediction?

def random_distributions(count: int) -> Tensor:
    """`count`×3 random distributions of three classes, in double precision."""
    return (2 * torch.randn(count, 3, dtype=torch.float64)).softmax(1)


def wrong_order(expected: Tensor, predicted: Tensor) -> float:
    """The share of pairs of predictions (N×C) whose smaller cross-entropy is farther away."""
    entropies, distances = cross_entropy(expected, predicted), distance(expected, predicted)
    higher = entropies[:, None] > entropies  # N×N
    nearer = distances[:, None] < distances
    pairs = len(predicted) * (len(predicted) - 1) / 2
    return (higher & nearer).sum().item() / pairs


def closer_or_farther(run: Run) -> None:
    """Compares the order by cross-entropy with that by distance, and looks for a lower minimum."""
    predicted = random_distributions(PREDICTIONS)
    for_label = wrong_order(torch.tensor(LABEL, dtype=torch.float64), predicted)
    for_shares = wrong_order(torch.tensor(SHARES, dtype=torch.float64), predicted)
    below = 0
    for expected in random_distributions(EXPECTED):
        lowest = cross_entropy(expected, expected[None])
        below += int((cross_entropy(expected, predicted) < lowest).sum())
    pairs = PREDICTIONS * (PREDICTIONS - 1) // 2
    run.metrics |= {
        "pairs_in_the_wrong_order": round(for_label * pairs),
        "wrong_order_for_shares": for_shares,
        "predictions_below_the_entropy": below,
    }
    entropy = cross_entropy_by_hand(SHARES, SHARES)
    say(
        f"\nIs the smaller cross-entropy the smaller distance? Of {pairs:,} pairs of random "
        f"predictions, {for_label:.1%} are in the opposite order where a label is expected, and "
        f"{for_shares:.1%} where the shares 0.7, 0.2, 0.1 are: cross-entropy measures distance in "
        f"another way. Of {PREDICTIONS * EXPECTED:,} predictions, {below} have a smaller "
        "cross-entropy than the expected distribution itself. That smallest value is its entropy: "
        f"0 for a label, {entropy:.4f} for these shares."
    )


def draw_cross_entropy(run: Run) -> None:
    """Saves the cross-entropy by the predicted probability of A, for three expected ones."""
    figure, (panel,) = new_figure(
        "Cross-entropy is lowest where the prediction equals what is expected", width=7.5
    )
    steps = [step / 1000 for step in range(5, 996)]
    for colour, expected in zip(COLOURS, (1.0, 0.8, 0.5), strict=False):
        p = (expected, 1 - expected)
        curve = [cross_entropy_by_hand(p, (q, 1 - q)) for q in steps]
        panel.plot([100 * q for q in steps], curve, color=colour,
                   label=f"expected: A {expected:.0%}, B {1 - expected:.0%}")  # fmt: skip
        lowest = cross_entropy_by_hand(p, p) + 0.0
        panel.plot(100 * expected, lowest, "o", color=colour, clip_on=False, zorder=3)
        panel.annotate(f"{lowest:.2f}", (100 * expected, lowest), (-4, 7),
                       textcoords="offset points", ha="right")  # fmt: skip
    panel.set(xlabel="predicted probability of A (%)", ylabel="cross-entropy", xlim=(0, 100))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(title="dot: predicted = expected")
    save_figure(figure, run.file("cross_entropy.png"))
