"""Document 3's claims, figures and tables, from what `fashion_cnn.py` measures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from common.bounds import above, at_least, at_most, below, exactly
from common.claims import Claim
from common.data import LabelledImages
from common.figures import image_grid
from common.layers import count_parameters
from common.metrics import confusion_matrix
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say
from reports.classification import (
    comparison_figure,
    confused_pairs,
    confusion_figure,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)

History = Sequence[Row]
NAMES = FashionMNIST.classes
PULLOVER, COAT, SANDAL, SNEAKER, BAG = (
    NAMES.index(name) for name in ("Pullover", "Coat", "Sandal", "Sneaker", "Bag")
)

# The options of the document's run, and of the runs that test its proposals.
DOCUMENT = {
    "epochs": 6, "batch_size": 100, "lr": 0.1, "limit": None, "precision": "fp32",
    "shuffle": False, "kernel_size": 5, "batch_norm": False, "compare": False,
}  # fmt: skip
PROPOSALS = {**DOCUMENT, "compare": True}

CLAIMS = (
    Claim("3.1a", "layers whose size differs from the formula", "none",
          "sizes_off", exactly(0), "{:.0f}"),
    Claim("3.1b", "inputs of the last layer", "32·7·7",
          "flat_features", exactly(1568), "{:,.0f}"),
    Claim("3.1c", "stride of the max-pooling", "printed as 0",
          "pool_stride", exactly(0), "{:.0f}"),
    Claim("3.2", "validation accuracy after 6 epochs", "almost 90%",
          "val_accuracy", at_least(0.88), "{:.1%}", DOCUMENT),
    Claim("3.3a", "loss, change from the first epoch to the last", "cost falls",
          "cost_change", below(0), "{:+.3f}", DOCUMENT),
    Claim("3.3b", "validation accuracy, change from the first epoch to the last", "accuracy rises",
          "accuracy_change", above(0), "{:+.1f} points", DOCUMENT),
    Claim("3.5a", "sandal and sneaker: rank among the 45 pairs (1 = most confused)",
          "hard to tell apart", "rank_sandal_sneaker", at_most(2), "{:.0f}", DOCUMENT),
    Claim("3.5b", "pullover and coat: rank among the 45 pairs (1 = most confused)",
          "hard to tell apart", "rank_pullover_coat", at_most(2), "{:.0f}", DOCUMENT),
    Claim("3.5c", "sneakers taken for a bag", "happens",
          "sneakers_taken_for_bags", at_least(1), "{:.0f}", DOCUMENT),
    Claim("3.6a", "3×3 kernels: change of the accuracy, minimum of the seeds", "higher",
          "small_kernel_least_gain", above(0), "{:+.2f} points", PROPOSALS),
    Claim("3.6b", "3×3 kernels: time per epoch, relative to 5×5", "longer",
          "small_kernel_time", above(1), "{:.2f}×", PROPOSALS),
    Claim("3.6c", "batch norm: change of the accuracy, minimum of the seeds", "higher",
          "batch_norm_least_gain", above(0), "{:+.2f} points", PROPOSALS),
    Claim("3.6d", "batch norm: epochs to reach the final accuracy of the plain network, "
          "maximum of the seeds", "fewer epochs",
          "batch_norm_most_epochs", below(6), "{:.0f}", PROPOSALS),
)  # fmt: skip


def classes(run: Run, training: LabelledImages) -> None:
    """Saves the first training image of each of the ten classes, under its name."""
    labels = training.labels.tolist()
    present = sorted(set(labels))
    firsts = [labels.index(label) for label in present]
    image_grid(
        training.images[firsts],
        run.file("classes.png"),
        title="Fashion-MNIST: what an image of each class looks like",
        columns=5,
        captions=[NAMES[label] for label in present],
    )


def sides(run: Run, model: nn.Module, by_formula: Sequence[int], measured: Sequence[int]) -> None:
    """Prints the side of the image after each layer, by the formulas and measured."""
    rows = []
    layers = ("convolution 1", "pooling 1", "convolution 2", "pooling 2")
    for layer, formula, real in zip(layers, by_formula, measured, strict=True):
        rule = "I + 2p − k + 1" if layer.startswith("conv") else "(I − k)/s + 1"
        rows.append([layer, rule, formula, real])
    print_table(
        "The side of an image after each layer "
        "(I: side before it, k: kernel, p: padding, s: stride)",
        ["layer", "formula", "by the formula", "measured"], rows,
    )  # fmt: skip
    (pool, *_) = [layer for layer in model.modules() if isinstance(layer, nn.MaxPool2d)]
    (linear, *_) = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    say(
        f"{measured[-1]}×{measured[-1]} pixels of 32 channels are {linear.in_features} numbers for "
        f"the last layer. The document prints the pooling's stride as 0; it is {pool.stride}."
    )
    run.metrics |= {
        "sizes_off": sum(a != b for a, b in zip(by_formula, measured, strict=True)),
        "pool_stride": float(str(pool.stride)),
        "flat_features": linear.in_features,
    }


def training(run: Run) -> None:
    """Saves the document's figure, loss and accuracy per epoch; measures how they change."""
    first, last = run.history[0], run.history[-1]
    learning_curves(
        run.history,
        run.file("loss_and_accuracy.png"),
        title="Does the network also improve on images it was not trained on?",
        unseen="validation",
    )
    run.metrics |= {
        "train_loss": last["train_loss"],
        "val_accuracy": last["val_accuracy"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in run.history),
    }
    if len(run.history) > 1:
        run.metrics |= {
            "cost_change": last["train_loss"] - first["train_loss"],
            "accuracy_change": last["val_accuracy"] - first["val_accuracy"],
        }


def mistakes(run: Run, validation: LabelledImages, logits: Tensor) -> str:
    """Draws the mistakes and prints the pairs confused most; returns the closing sentences."""
    labels = validation.labels
    mistakes_figure(validation.images, labels, logits, NAMES, run.file("misclassified.png"))
    counts = confusion_matrix(labels, logits.argmax(1), len(NAMES))
    confusion_figure(counts, NAMES, run.file("confusion_matrix.png"))
    pairs = confused_pairs(counts)
    rows = [[NAMES[a], NAMES[b], int(counts[a, b]), int(counts[b, a])] for _, a, b in pairs[:8]]
    print_table(
        "The pairs of classes most often confused",
        ["class A", "class B", "A taken for B", "B taken for A"], rows,
    )  # fmt: skip
    ranks = {frozenset(pair): rank for rank, (_, *pair) in enumerate(pairs, 1)}
    run.metrics |= {
        "rank_sandal_sneaker": ranks[frozenset((SANDAL, SNEAKER))],
        "rank_pullover_coat": ranks[frozenset((PULLOVER, COAT))],
        "sneakers_taken_for_bags": int(counts[SNEAKER, BAG]),
    }
    return (
        f"{right_and_confused(labels, logits, NAMES)} Open misclassified.png. "
        "Next: python fashion_cnn.py --compare, which trains the networks the document proposes."
    )


def comparison(
    run: Run, histories: Mapping[str, Sequence[History]], models: Mapping[str, nn.Module]
) -> str:
    """Prints and draws what each network reaches; returns the closing sentence.

    `histories` has a training for each network and seed. Measures what each proposal gains.
    """
    plain, small, normed, _ = histories
    last = {name: [rows[-1]["val_accuracy"] for rows in runs] for name, runs in histories.items()}
    rows = []
    for name, trainings in histories.items():
        gain = statistics.mean(differences(last[name], last[plain]))
        rows.append([
            name,
            f"{statistics.mean(last[name]):.2%}",
            f"{min(last[name]):.2%}",
            f"{max(last[name]):.2%}",
            f"{100 * gain:+.2f}",
            f"{statistics.median(seconds(trainings)):.1f}",
            count_parameters(models[name]),
        ])  # fmt: skip
    epochs, seeds = len(histories[plain][0]), len(histories[plain])
    print_table(
        f"Validation accuracy after {epochs} epochs, {seeds} seeds",
        ["network", "mean", "min", "max", "gain (points)", "s per epoch", "parameters"],
        rows,
    )
    comparison_figure(
        histories,
        run.file("comparison.png"),
        title="Do smaller kernels or batch norm help, and do they take longer to train?",
        column="val_accuracy",
        label="validation accuracy (%)",
        sizes={name: f"{count_parameters(model):,} parameters" for name, model in models.items()},
    )
    needed = []
    for goal, history in zip(last[plain], histories[normed], strict=True):
        needed.append(epochs_to_reach(goal, history))
    times = zip(seconds(histories[small]), seconds(histories[plain]), strict=True)
    run.metrics |= {
        "small_kernel_least_gain": min(differences(last[small], last[plain])),
        "small_kernel_time": statistics.median(one / other for one, other in times),
        "batch_norm_least_gain": min(differences(last[normed], last[plain])),
        "batch_norm_most_epochs": max(needed),
    }
    best = max(last, key=lambda name: statistics.mean(last[name]))
    return (
        f"Most accurate, on average over {seeds} seeds: {best} "
        f"({statistics.mean(last[best]):.1%} of the validation images). Open comparison.png."
    )


def seconds(trainings: Sequence[History]) -> list[float]:
    """The seconds of every epoch of several trainings."""
    return [row["seconds"] for history in trainings for row in history]


def differences(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each value minus the other at the same position."""
    return [value - other for value, other in zip(values, others, strict=True)]


def epochs_to_reach(goal: float, history: History) -> int:
    """The first epoch whose validation accuracy is at least the goal; one more than all if none."""
    for row in history:
        if row["val_accuracy"] >= goal:
            return int(row["epoch"])
    return len(history) + 1
