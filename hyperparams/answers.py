"""The document's closing questions (5.17) answered with what a run measured.

Every sentence says only what the numbers of the run bear out: it gives them in neutral words, or
its words are chosen by comparing them. Those whose experiments were not run are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hyperparams.measures import largest_weight
from hyperparams.results import LAST, TRAINING, VALIDATION, Result, Results


class Means:
    """Means over the random seeds, as they stand in a sentence."""

    def __init__(self, results: Results, device: str) -> None:
        """`results` holds the same experiments for each seed."""
        self.device = device
        self.seeds = list(results)
        self.results = list(results.values())

    def of(self, name: str, measure: Callable[[Result], float]) -> float:
        """The mean of a number of an experiment."""
        return statistics.fmean(measure(found[name]) for found in self.results)

    def at(self, name: str, column: str, epoch: int = LAST) -> float:
        """The mean of a quantity after an epoch, or after the last."""
        return statistics.fmean(found[name].at(epoch, column) for found in self.results)

    def epochs(self, name: str) -> int:
        return self.results[0][name].epochs

    def right(self, name: str, column: str = VALIDATION, epoch: int = LAST) -> str:
        """An accuracy; of the validation images unless told otherwise."""
        return f"{self.at(name, column, epoch):.1%}"

    def loss(self, name: str, column: str = "validation_loss", epoch: int = LAST) -> str:
        return f"{self.at(name, column, epoch):.3g}"

    def gap(self, name: str) -> float:
        """Training minus validation accuracy after the last epoch, in points."""
        return 100 * self.of(name, Result.accuracy_gap)

    def loss_gap(self, name: str, epoch: int = LAST) -> str:
        """Validation loss minus training loss after an epoch, or after the last."""
        gaps = [found[name].loss_gap(epoch) for found in self.results]
        return f"{statistics.fmean(gaps):.3f}"

    def width(self, name: str) -> str:
        """Standard deviation of the first layer's weights."""
        return f"{self.of(name, first_layer_width):.3g}"

    def times_as_wide(self, name: str, other: str, group: str) -> str:
        """How many times as wide a group of parameters is as another experiment's."""
        ratios = [found[name].width(group) / found[other].width(group) for found in self.results]
        return f"{statistics.fmean(ratios):.1f}×"

    def near_zero(self, name: str) -> str:
        return f"{self.of(name, share_near_zero):.0%}"

    def largest(self, name: str) -> str:
        return f"{self.of(name, largest_weight):.2g}"

    def seconds(self, name: str) -> str:
        return f"{self.of(name, Result.seconds_per_epoch):.1f} s"


def first_layer_width(result: Result) -> float:
    return result.width("hidden.weight")


def share_near_zero(result: Result) -> float:
    """The share of the first layer's weights between −0.001 and 0.001."""
    return (result.parameters()["hidden.weight"].abs() < 1e-3).float().mean().item()


def lowest_validation_loss(result: Result) -> float:
    return min(result.column("validation_loss"))


@dataclass(frozen=True)
class Answer:
    """A question or a section, the experiments that the answer needs, and the answer."""

    title: str
    needs: tuple[str, ...]
    sentence: Callable[[Means], str]


def answered(answers: Sequence[Answer], results: Results, device: str) -> list[str]:
    """The answers whose experiments were run with every seed, each behind its title."""
    means = Means(results, device)
    lines = []
    for answer in answers:
        if results and all(name in found for name in answer.needs for found in results.values()):
            lines.append(f"{answer.title} {answer.sentence(means)}")
    return lines


# The closing questions


def unscaled_inputs(m: Means) -> str:
    return (
        "SGD with learning rate 0.01 classifies "
        f"{m.right('unscaled', TRAINING)} of the training images correctly with pixels 0–255, "
        f"{m.right('scaled', TRAINING)} with pixels 0–1. Adam with learning rate 0.001 classifies "
        f"{m.right('unscaled-lr-medium')} and {m.right('hidden-1')} of the validation images "
        "correctly (0–255 and 0–1). With learning rate 0.00001 and pixels 0–255 it is "
        f"{m.right('unscaled-lr-low')}."
    )


def white_background(m: Means) -> str:
    return (
        f"Validation accuracy after {m.epochs('inverted')} epochs: {m.right('inverted')} with a "
        f"white background, {m.right('hidden-1')} with a black one. On white, most inputs are far "
        "from zero, so each image also changes the weights of its background."
    )


def batch_size(m: Means) -> str:
    return (
        f"An epoch with batches of 32 takes {m.seconds('batch-32')}, with batches of 10,000 "
        f"{m.seconds('batch-10000')}. Validation accuracy after {m.epochs('batch-32')} epochs: "
        f"{m.right('batch-32')} and {m.right('batch-10000')}."
    )


def range_of_inputs(m: Means) -> str:
    return (
        "The standard deviation of the first layer's weights is "
        f"{m.width('unscaled-lr-medium')} for pixels 0–255 and {m.width('hidden-1')} for pixels "
        f"0–1 (after {m.epochs('hidden-1')} epochs); {m.width('tiny-input')} for pixels 0–0.0001 "
        f"and {m.width('no-annealing-100')} for pixels 0–1 (after {m.epochs('tiny-input')} epochs)."
    )


def batch_norm(m: Means) -> str:
    plain, normed, no_bias = "tiny-input", "tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"
    return (
        "Validation accuracy with tiny inputs, after one epoch and after the last: "
        f"{m.right(plain, epoch=1)} and {m.right(plain)} without batch norm, "
        f"{m.right(normed, epoch=1)} and {m.right(normed)} with it, {m.right(no_bias, epoch=1)} "
        f"and {m.right(no_bias)} with it but without the hidden layer's bias, which batch norm "
        "subtracts again."
    )


def seeing_overfitting(m: Means) -> str:
    name = "no-annealing-100"
    best = m.of(name, Result.best_epoch)
    return (
        "Training accuracy continues to rise while validation loss no longer falls. In "
        f"{name}, after {m.epochs(name)} epochs: {m.right(name, TRAINING)} in training and "
        f"{m.right(name)} in validation; validation loss was lowest after epoch {best:.3g} "
        f"({m.of(name, lowest_validation_loss):.3g}) and is {m.loss(name)} at the end."
    )


def regularisation(m: Means) -> str:
    names = ("no-dropout", "l1", "l2-norm", "l2-square")
    gaps = ", ".join(f"{m.gap(name):.1f} with {name}" for name in names[1:])
    rights = ", ".join(f"{m.right(name)} with {name}" for name in names[1:])
    narrowest = min(names, key=m.gap)
    kept = "no penalty" if narrowest == names[0] else narrowest
    return (
        f"Training minus validation accuracy: {m.gap(names[0]):.1f} points without a penalty, "
        f"{gaps}; smallest with {kept}. Validation accuracy: {m.right(names[0])} without, {rights}."
    )


def l1_and_l2(m: Means) -> str:
    names = {"with l1": "l1", "with the square of l2": "l2-square", "with neither": "no-dropout"}
    near = ", ".join(f"{m.near_zero(name)} {words}" for words, name in names.items())
    largest = ", ".join(f"{m.largest(name)} {words}" for words, name in names.items())
    return (
        "L1 pulls every weight towards zero with the same force, the square of L2 with a force in "
        f"proportion to the weight. First layer's weights smaller than 0.001: {near}. The largest: "
        f"{largest}."
    )


def dropout(m: Means) -> str:
    with_it, without = m.gap("dropout"), m.gap("no-dropout")
    change = "smaller" if with_it < without else "not smaller"
    return (
        "No neuron can rely on another one being there. Training minus validation accuracy is "
        f"{change}: {with_it:.1f} points with dropout, {without:.1f} without. Validation accuracy: "
        f"{m.right('dropout')} and {m.right('no-dropout')}."
    )


QUESTIONS = (
    Answer(
        "1. What happens if inputs are not scaled?",
        ("unscaled", "scaled", "unscaled-lr-medium", "hidden-1", "unscaled-lr-low"),
        unscaled_inputs,
    ),
    Answer(
        "2. What if the background is white and the object black?",
        ("inverted", "hidden-1"),
        white_background,
    ),
    Answer(
        "3. What does the batch size do to time and accuracy?",
        ("batch-32", "batch-10000"),
        batch_size,
    ),
    Answer(
        "4. What does the range of the inputs do to the weights?",
        ("unscaled-lr-medium", "hidden-1", "tiny-input", "no-annealing-100"),
        range_of_inputs,
    ),
    Answer(
        "5. How does batch norm help?",
        ("tiny-input", "tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"),
        batch_norm,
    ),
    Answer("6. How does one see overfitting?", ("no-annealing-100",), seeing_overfitting),
    Answer(
        "7. How does regularisation help?",
        ("no-dropout", "l1", "l2-norm", "l2-square"),
        regularisation,
    ),
    Answer("8. How do L1 and L2 differ?", ("l1", "l2-square", "no-dropout"), l1_and_l2),
    Answer("9. How does dropout reduce overfitting?", ("dropout", "no-dropout"), dropout),
)
