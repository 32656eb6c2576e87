"""The document's closing questions (5.17) answered, and its statements beside the measurements.

Every sentence says only what the numbers of the run bear out: it gives them in neutral words, or
its words are chosen by comparing them. Those whose experiments were not run are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hyperparams.measures import halved_without_rise
from hyperparams.results import LAST, TRAINING, VALIDATION, Result, Results


class Means:
    """Means over the random seeds, as they stand in a sentence."""

    def __init__(self, results: Results) -> None:
        """`results` holds the same experiments for each seed."""
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

    def width(self, name: str) -> str:
        """Standard deviation of the first layer's weights."""
        return f"{self.of(name, first_layer_width):.3g}"

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


def largest_weight(result: Result) -> float:
    """The largest absolute value among the first layer's weights."""
    return result.parameters()["hidden.weight"].abs().max().item()


def lowest_validation_loss(result: Result) -> float:
    return min(result.column("validation_loss"))


def number_of_halvings(result: Result) -> int:
    return len(result.halvings())


@dataclass(frozen=True)
class Answer:
    """A question or a section, the experiments that the answer needs, and the answer."""

    title: str
    needs: tuple[str, ...]
    sentence: Callable[[Means], str]


def answered(answers: Sequence[Answer], results: Results) -> list[str]:
    """The answers whose experiments were run with every seed, each behind its title."""
    means = Means(results)
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
        "correctly. With learning rate 0.00001 and pixels 0–255 it is "
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
        "Training accuracy continues to rise while validation does not get better. In "
        f"{name}, after {m.epochs(name)} epochs: {m.right(name, TRAINING)} in training and "
        f"{m.right(name)} in validation; validation loss was lowest after epoch {best:.0f} "
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


# What the document states, beside what was measured


def unscaled_loss(m: Means) -> str:
    return (
        '"The loss does not fall significantly": '
        f"here it is {m.loss('unscaled', 'train_loss', 1)} in the first epoch and "
        f"{m.loss('unscaled', 'train_loss')} in the last. Guessing one of ten classes has a loss "
        "of 2.30 (ln 10)."
    )


def high_rate(m: Means) -> str:
    return (
        f'"About 25%" with learning rate 0.1: here validation accuracy is '
        f"{m.right('lr-high', epoch=1)} after one epoch, {m.right('lr-high')} after the last. "
        "Guessing gives 10%."
    )


def wide_weights(m: Means) -> str:
    return (
        '"Where the distribution is wide, overfitting occurs": the first layer\'s weights have '
        f"a standard deviation of {m.width('lr-high')} with learning rate 0.1 and "
        f"{m.width('lr-medium')} with 0.001; training minus validation accuracy is "
        f"{m.gap('lr-high'):.1f} and {m.gap('lr-medium'):.1f} points, training accuracy "
        f"{m.right('lr-high', TRAINING)} and "
        f"{m.right('lr-medium', TRAINING)}."
    )


def equivalent_rates(m: Means) -> str:
    epochs = m.epochs("unscaled-lr-low")
    return (
        '"Equivalent": unscaled pixels with learning rate 0.00001, scaled ones with 0.001. '
        f"Validation accuracy after {epochs} epochs: {m.right('unscaled-lr-low')} and "
        f"{m.right('lr-medium', epoch=epochs)}."
    )


def when_halved(m: Means) -> str:
    epochs = m.results[0]["lr-annealing"].halvings()
    after = f"after epoch {', '.join(map(str, epochs))}" if epochs else "never"
    return (
        "The scheduler halves the learning rate when validation loss is not 0.001 below its best, "
        "not only when it rises by 0.001. "
        f"Halvings: {m.of('lr-annealing', number_of_halvings):.3g}, "
        f"without such a rise: {m.of('lr-annealing', halved_without_rise):.3g}. With seed "
        f"{m.seeds[0]} it was halved {after}."
    )


def depth(m: Means) -> str:
    return (
        'Without a hidden layer the network "cannot learn": it is then a linear classifier. '
        f"Validation accuracy: {m.right('hidden-0')} without, {m.right('hidden-1')} with one "
        f"hidden layer, {m.right('hidden-2')} with two. Validation loss: "
        f"{m.loss('hidden-1')} with one, {m.loss('hidden-2')} with two."
    )


def bias_before_batch_norm(m: Means) -> str:
    return (
        "Batch norm divides by the standard deviation, not by the variance. It subtracts the "
        "hidden layer's bias again, so the bias's gradient is only rounding error, but Adam makes "
        "whole steps of it. Validation accuracy with tiny inputs: "
        f"{m.right('tiny-input-batchnorm')} with that bias, "
        f"{m.right('tiny-input-batchnorm-no-bias')} without."
    )


def weights_at_prediction(m: Means) -> str:
    return (
        "No weight shrinks for a prediction: dropout divides what it keeps by 0.75 in training. "
        f"With nothing dropped the same weights classify {m.right('dropout', TRAINING)} of the "
        "training images correctly."
    )


def two_kinds_of_l2(m: Means) -> str:
    return (
        "l2 is the sum of squares in the document's text, the norm in its code: training minus "
        f"validation accuracy is {m.gap('l2-square'):.1f} and {m.gap('l2-norm'):.1f} points, "
        f"{m.gap('no-dropout'):.1f} with neither."
    )


CORRECTIONS = (
    Answer("5.4", ("unscaled",), unscaled_loss),
    Answer("5.9", ("lr-high",), high_rate),
    Answer("5.10", ("lr-high", "lr-medium"), wide_weights),
    Answer("5.11", ("unscaled-lr-low", "lr-medium"), equivalent_rates),
    Answer("5.12", ("lr-annealing",), when_halved),
    Answer("5.13", ("hidden-0", "hidden-1", "hidden-2"), depth),
    Answer(
        "5.14",
        ("tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"),
        bias_before_batch_norm,
    ),
    Answer("5.15", ("dropout",), weights_at_prediction),
    Answer("5.16", ("l2-square", "l2-norm", "no-dropout"), two_kinds_of_l2),
)
