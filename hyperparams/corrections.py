"""What document 5 states, beside what a run measured.

As in `answers`, every sentence says only what the numbers of the run bear out.
"""

from __future__ import annotations

from hyperparams.answers import Answer, Means
from hyperparams.measures import (
    halved_against_rule,
    halved_without_rise,
    highest_training_accuracy,
    largest_to_typical,
    largest_weight,
    rises_without_halving,
)
from hyperparams.results import TRAINING

# 5.4 to 5.11


def unscaled_loss(m: Means) -> str:
    return (
        '"12%" of the training images after 5 epochs of one run without a fixed seed: here '
        f"{m.right('unscaled', TRAINING)} after {m.epochs('unscaled')}. "
        '"The loss does not fall significantly": '
        f"here it is {m.loss('unscaled', 'train_loss', 1)} in the first epoch, "
        f"{m.loss('unscaled', 'train_loss', 2)} in the second and "
        f"{m.loss('unscaled', 'train_loss')} in the last. Guessing one of ten classes has a loss "
        "of 2.30 (ln 10)."
    )


def however_long(m: Means) -> str:
    highest = m.of("unscaled-100", highest_training_accuracy)
    return (
        '"However long we wait": in '
        f"{m.epochs('unscaled-100')} epochs the highest training accuracy is {highest:.1%}."
    )


SIZES = {8: "batch-8", 32: "batch-32", 128: "batch-128", 1000: "batch-1000", 10_000: "batch-10000"}

SIZES_AT_0_001 = {8: "batch-8-0.001", 32: "hidden-1", 128: "batch-128-0.001",
                  1000: "batch-1000-0.001", 10_000: "batch-10000-0.001"}  # fmt: skip


def batch_sizes(m: Means) -> str:
    found = [
        f"{m.right(name)} with {size:,} ({m.seconds(name)})" for size, name in SIZES.items()
    ]
    return (
        '"With few epochs, small batches usually help, but not so small that training time '
        f'suffers": validation accuracy after {m.epochs("batch-32")} epochs with learning rate '
        f"0.01, and time of an epoch, by the size of a batch: {', '.join(found)}."
    )


def batch_sizes_at_0_001(m: Means) -> str:
    found = [f"{m.right(name)} with {size:,}" for size, name in SIZES_AT_0_001.items()]
    return (
        f"Validation accuracy after {m.epochs('hidden-1')} epochs with learning rate 0.001, by the "
        f"size of a batch: {', '.join(found)}."
    )


def high_rate(m: Means) -> str:
    return (
        '"About 25%" in one run with learning rate 0.1: here validation accuracy is '
        f"{m.right('lr-high', epoch=1)} after one epoch, {m.right('lr-high')} after the last. "
        "Guessing gives 10%."
    )


def gap_at_epoch_4(m: Means) -> str:
    early = min(4, m.epochs("lr-medium"))
    return (
        f'"A similar gap at the end of epoch 4": validation loss minus training loss is '
        f"{m.loss_gap('lr-low')} with learning rate 0.00001 after {m.epochs('lr-low')} epochs; "
        f"with 0.001 it is {m.loss_gap('lr-medium', early)} after {early} and "
        f"{m.loss_gap('lr-medium')} after {m.epochs('lr-medium')}."
    )


def wide_weights(m: Means) -> str:
    high, medium, low = "lr-high", "lr-medium", "lr-low"
    groups = {
        "the first layer's weights": "hidden.weight",
        "the second layer's": "output.weight",
        "the hidden biases": "hidden.bias",
        "the ten output biases": "output.bias",
    }
    ratios = ", ".join(
        f"{m.times_as_wide(high, medium, group)} for {words}" for words, group in groups.items()
    )
    return (
        "How widely the parameters spread (their standard deviation), with learning rate 0.1 ÷ "
        f"with 0.001: {ratios}. "
        '"Where the distribution is wide, overfitting occurs": with learning rates 0.1, 0.001 and '
        f"0.00001 that of the first layer's weights is {m.width(high)}, {m.width(medium)} and "
        f"{m.width(low)}; training minus validation accuracy (after {m.epochs(high)}, "
        f"{m.epochs(medium)} and {m.epochs(low)} epochs) is {m.gap(high):.1f}, "
        f"{m.gap(medium):.1f} and {m.gap(low):.1f} points, training accuracy "
        f"{m.right(high, TRAINING)}, {m.right(medium, TRAINING)} and {m.right(low, TRAINING)}."
    )


def equivalent_rates(m: Means) -> str:
    epochs = m.epochs("unscaled-lr-low")
    return (
        '"Equivalent": unscaled pixels with learning rate 0.00001, scaled ones with 0.001. '
        f"Validation accuracy after {epochs} epochs: {m.right('unscaled-lr-low')} and "
        f"{m.right('lr-medium', epoch=epochs)}."
    )


# 5.12 and 5.13


def when_halved(m: Means) -> str:
    epochs = m.results[0]["lr-annealing"].halvings()
    after = f"halved after epoch {', '.join(map(str, epochs))}" if epochs else "never halved"
    return (
        "The document says in one place that the learning rate is halved unless validation loss "
        "is 0.001 below its best (epochs against that: "
        f"{m.of('lr-annealing', halved_against_rule):.3g}). In another it says: whenever "
        "validation loss has risen by 0.001. Such rises without a halving: "
        f"{m.of('lr-annealing', rises_without_halving):.3g}; halvings without such a rise: "
        f"{m.of('lr-annealing', halved_without_rise):.3g}. With seed "
        f"{m.seeds[0]} it was {after}; in the document's run at epochs 5, 8, 11, 12, 13, 15, "
        "16. Seven halvings lead from 0.001 to the lowest rate, 0.00001; from 0.01 it is ten."
    )


def annealing_from_0_01(m: Means) -> str:
    annealed, constant = "lr-annealing-100-0.01", "no-annealing-100-0.01"
    return (
        f"Started at learning rate 0.01, {m.epochs(annealed)} epochs: "
        f"{m.right(annealed, TRAINING)} in training and {m.right(annealed)} in validation with "
        f"annealing, {m.right(constant, TRAINING)} and {m.right(constant)} without."
    )


def depth(m: Means) -> str:
    return (
        'Without a hidden layer the network "cannot learn": it is then a linear classifier. '
        f"Validation accuracy: {m.right('hidden-0')} without, {m.right('hidden-1')} with one "
        f"hidden layer, {m.right('hidden-2')} with two. Validation loss: "
        f"{m.loss('hidden-1')} with one, {m.loss('hidden-2')} with two; minus training loss: "
        f"{m.loss_gap('hidden-1')} and {m.loss_gap('hidden-2')}."
    )


# 5.14 to 5.16


def bias_before_batch_norm(m: Means) -> str:
    normed, no_bias = "tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"
    return (
        "Batch norm divides by the standard deviation, not by the variance. It subtracts the "
        "hidden layer's bias again, so the bias's gradient is only rounding error, which Adam can "
        f"turn into whole steps. Tiny inputs on this device ({m.device}): training loss, on "
        f"batches, {m.loss(normed, 'train_loss')} with that bias and "
        f"{m.loss(no_bias, 'train_loss')} without; validation accuracy {m.right(normed)} and "
        f"{m.right(no_bias)}."
    )


def default_adam(m: Means) -> str:
    plain, fused = "tiny-input-batchnorm-plain-adam", "tiny-input-batchnorm"
    return (
        "Tiny inputs with batch norm, trained by PyTorch's default Adam with denormal numbers "
        f"kept, on this device ({m.device}): validation accuracy {m.right(plain, epoch=1)} after "
        f"one epoch and {m.right(plain)} after {m.epochs(plain)}. Trained as all others are (Adam "
        "fused and denormal numbers flushed where the device can) it is "
        f"{m.right(fused, epoch=1)} and {m.right(fused)} after {m.epochs(fused)}."
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


def penalties_at_0_01(m: Means) -> str:
    names = ("l1-0.01", "l2-norm-0.01", "l2-square-0.01", "batch-32")
    gaps = ", ".join(f"{m.gap(name):.1f} with {name}" for name in names[:-1])
    rights = ", ".join(m.right(name) for name in names[:-1])
    return (
        f"With learning rate 0.01 and {m.epochs('l1-0.01')} epochs: training minus "
        f"validation accuracy is {gaps}, {m.gap('batch-32'):.1f} points without; validation "
        f"accuracy {rights}, and {m.right('batch-32')} without."
    )


def largest_weights(m: Means) -> str:
    early, late = (f"{m.of(name, largest_to_typical):.0f} after {m.epochs(name)} epochs"
                   for name in ("hidden-1", "no-dropout"))  # fmt: skip
    names = ("no-dropout", "l1", "l2-norm", "l2-square")
    largest = [f"{m.of(name, largest_weight):.2g} ({name})" for name in names]
    return (
        '"Some weights are far larger than others" where a network overfits: largest ÷ median size '
        f"of the first layer's weights, without a penalty, is {early} and {late}. The largest "
        f"weights: {', '.join(largest)}."
    )


CORRECTIONS = (
    Answer("5.4", ("unscaled",), unscaled_loss),
    Answer("5.4", ("unscaled-100",), however_long),
    Answer("5.7", tuple(SIZES.values()), batch_sizes),
    Answer("5.7", tuple(SIZES_AT_0_001.values()), batch_sizes_at_0_001),
    Answer("5.9", ("lr-high",), high_rate),
    Answer("5.9", ("lr-low", "lr-medium"), gap_at_epoch_4),
    Answer("5.10", ("lr-high", "lr-medium", "lr-low"), wide_weights),
    Answer("5.11", ("unscaled-lr-low", "lr-medium"), equivalent_rates),
    Answer("5.12", ("lr-annealing",), when_halved),
    Answer("5.12", ("lr-annealing-100-0.01", "no-annealing-100-0.01"), annealing_from_0_01),
    Answer("5.13", ("hidden-0", "hidden-1", "hidden-2"), depth),
    Answer(
        "5.14",
        ("tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"),
        bias_before_batch_norm,
    ),
    Answer(
        "5.14", ("tiny-input-batchnorm-plain-adam", "tiny-input-batchnorm"), default_adam
    ),
    Answer("5.15", ("dropout",), weights_at_prediction),
    Answer("5.16", ("l2-square", "l2-norm", "no-dropout"), two_kinds_of_l2),
    Answer(
        "5.16", ("l1-0.01", "l2-norm-0.01", "l2-square-0.01", "batch-32"), penalties_at_0_01
    ),
    Answer("5.16", ("hidden-1", "no-dropout", "l1", "l2-norm", "l2-square"), largest_weights),
)
