"""Document 3's claims, figures and tables, from what `fashion_cnn.py` measures.

What its layers see and learn is in `reports.fashion_cnn_layers`, `--compare` in
`reports.fashion_cnn_compare`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from torch import Tensor, nn

from common.bounds import above, at_least, at_most, below, exactly
from common.claims import Claim
from common.data import CLOTHES
from common.figures import image_grid
from common.labels import drawable
from common.metrics import confusion_matrix
from common.own_images import CLASSES, ClassImages, save_names
from common.runs import Run
from common.terminal import print_table, say
from reports.classification import (
    confused_pairs,
    confusion_figure,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)
from reports.own_images import predict_command

CLASSES_SHOWN = 50
Pairs = Sequence[tuple[int, int, int]]  # of classes: (how often confused, class, class)
PULLOVER, COAT, SANDAL, SNEAKER, BAG = (
    CLOTHES.index(name) for name in ("Pullover", "Coat", "Sandal", "Sneaker", "Bag")
)

# The options of the document's run, and of the runs that test its proposals.
DOCUMENT = {
    "epochs": 6, "batch_size": 100, "lr": 0.1, "limit": None, "precision": "fp32",
    "shuffle": False, "kernel_size": 5, "batch_norm": False, "no_padding": False, "compare": False,
}  # fmt: skip
PROPOSALS = {**DOCUMENT, "compare": True}
PADDED = {"no_padding": False}

CLAIMS = (
    Claim("3.1a", "layers whose size differs from the formula, rounded down", "none",
          "sizes_off", exactly(0), "{:.0f}"),
    Claim("3.1b", "inputs of the last layer", "32·7·7",
          "flat_features", exactly(1568), "{:,.0f}", PADDED),
    Claim("3.1c", "default stride of a max-pooling with kernel 2", "the kernel's size",
          "pool_stride", exactly(2), "{:.0f}"),
    Claim("3.1d", "outputs of the first convolution that see an edge pixel, with padding "
          "relative to without", "padding, so as not to lose the edges",
          "edge_views_ratio", above(1), "{:.1f}×"),
    Claim("3.2", "validation accuracy after 6 epochs", "almost 90%",
          "val_accuracy", at_least(0.88), "{:.1%}", DOCUMENT),
    Claim("3.3a", "loss, change from the first epoch to the last", "cost falls",
          "cost_change", below(0), "{:+.3f}", DOCUMENT),
    Claim("3.3b", "validation accuracy, change from the first epoch to the last", "accuracy rises",
          "accuracy_change", above(0), "{:+.1f} points", DOCUMENT),
    # Two accuracies count as equal where they are within two points, as for "about N%".
    Claim("3.3c", "training minus validation accuracy, maximum of the epochs",
          "tends to generalise well", "generalisation_gap", at_most(0.02), "{:+.1f} points",
          DOCUMENT),
    Claim("3.5a", "sandal and sneaker: mistakes, relative to the mean of the 45 pairs",
          "not easy to tell apart", "sandal_sneaker_ratio", above(1), "{:.1f}×", DOCUMENT),
    Claim("3.5b", "pullover and coat: mistakes, relative to the mean of the 45 pairs",
          "hard to tell apart", "pullover_coat_ratio", above(1), "{:.1f}×", DOCUMENT),
    # "Higher accuracy at the cost of longer training": of as many epochs (a, b), or of more (e, f).
    Claim("3.6a", "3×3 kernels: change of the accuracy after 6 epochs, with every seed", "higher",
          "small_kernel_gain", above(0), "{:+.2f} points", PROPOSALS, every_seed=True),
    Claim("3.6b", "3×3 kernels: time per epoch, relative to 5×5", "longer",
          "small_kernel_time", above(1), "{:.2f}×", PROPOSALS),
    Claim("3.6c", "batch norm: change of the accuracy, with every seed", "higher",
          "batch_norm_gain", above(0), "{:+.2f} points", PROPOSALS, every_seed=True),
    Claim("3.6d", "batch norm: epochs to reach the final accuracy of the plain network, "
          "with every seed", "fewer epochs",
          "batch_norm_epochs", below(6), "{:.1f}", PROPOSALS, every_seed=True),
    Claim("3.6e", "3×3 kernels after 12 epochs: accuracy, change from 5×5 after 6, "
          "with every seed", "higher, with more training",
          "small_kernel_gain_trained_longer", above(0), "{:+.2f} points", PROPOSALS,
          every_seed=True),
    Claim("3.6f", "3×3 kernels for 12 epochs: time of training, relative to 5×5 for 6", "longer",
          "small_kernel_time_trained_longer", above(1), "{:.2f}×", PROPOSALS),
)  # fmt: skip


def classes(run: Run, clothes: ClassImages) -> None:
    """Saves the first training image of each class, under its name; and all names in a file.

    Of many classes it shows the first 50.
    """
    training, source = clothes.training, "Fashion-MNIST"
    save_names(run.file(CLASSES), clothes.names)
    if run.options.train_folder:
        source = drawable(run.options.train_folder.name)
        say(
            f"{len(training):,} images to train on, {len(clothes.unseen):,} for validation; "
            f"{len(clothes.names)} classes: {', '.join(clothes.names)}."
        )
    labels = training.labels.tolist()
    present = sorted(set(labels))[:CLASSES_SHOWN]
    firsts = [labels.index(label) for label in present]
    image_grid(
        training.images[firsts],
        run.file("classes.png"),
        title=f"{source}: what an image of each class looks like",
        columns=5,
        captions=[drawable(clothes.names[label]) for label in present],
    )


def sides(
    run: Run, model: nn.Module, by_formula: Sequence[Sequence[int]],
    measured: Sequence[Sequence[int]],
) -> None:  # fmt: skip
    """Prints the side of the image after each layer, by the formulas and measured.

    `by_formula` and `measured` have the sides with padding and those without; `model` is a network
    as the run will train it.
    """
    rows = []
    layers = ("convolution 1", "pooling 1", "convolution 2", "pooling 2")
    for layer, *numbers in zip(layers, *by_formula, *measured, strict=True):
        rule = "I + 2p − k + 1" if layer.startswith("conv") else "(I − k)/s + 1"
        padded, unpadded, padded_measured, unpadded_measured = numbers
        rows.append([layer, rule, padded, padded_measured, unpadded, unpadded_measured])
    print_table(
        "The side of an image after each layer "
        "(I: side before it, k: kernel, p: padding, s: stride, the windows' step; rounded down)",
        ["layer", "formula", "padded", "measured", "unpadded", "measured"], rows,
    )  # fmt: skip
    (pool, *_) = [layer for layer in model.modules() if isinstance(layer, nn.MaxPool2d)]
    (linear, *_) = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    side = math.isqrt(linear.in_features // 32)
    say(
        f"{side}×{side} pixels of 32 channels are {linear.in_features:,} inputs of the last layer "
        f"(the image has 784 pixels). A pooling with kernel {pool.kernel_size} for which no stride "
        f"is given has stride {pool.stride}. (The document's list says 0: a typing error.)"
    )
    pairs = zip(by_formula, measured, strict=True)
    run.metrics |= {
        "sizes_off": sum(a != b for one in pairs for a, b in zip(*one, strict=True)),
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
    gaps = [row["train_accuracy"] - row["val_accuracy"] for row in run.history]
    say(
        f"After the last epoch the network is right on {last['train_accuracy']:.1%} of as "
        f"many training images as there are validation images, and on {last['val_accuracy']:.1%} "
        f"of the validation images, on which it was not trained. The difference is "
        f"{100 * gaps[-1]:+.1f} percentage points, at most {100 * max(gaps):+.1f} in any epoch."
    )
    run.metrics |= {
        "train_loss": last["train_loss"],
        "val_accuracy": last["val_accuracy"],
        "generalisation_gap": max(gaps),
        "seconds_per_epoch": statistics.median(row["seconds"] for row in run.history),
    }
    if len(run.history) > 1:
        run.metrics |= {
            "cost_change": last["train_loss"] - first["train_loss"],
            "accuracy_change": last["val_accuracy"] - first["val_accuracy"],
        }


def mistakes(run: Run, clothes: ClassImages, logits: Tensor) -> str:
    """Draws the mistakes and prints the pairs confused most; returns the closing sentences."""
    labels, names = clothes.unseen.labels, clothes.names
    path = run.file("misclassified.png")
    opened = mistakes_figure(clothes.unseen.images, labels, logits, names, path)
    counts = confusion_matrix(labels, logits.argmax(1), len(names))
    confusion_figure(counts, names, run.file("confusion_matrix.png"))
    pairs = confused_pairs(counts)
    rows = []
    for count, a, b in pairs[:8]:
        if count:
            rows.append([names[a], names[b], int(counts[a, b]), int(counts[b, a])])
    if rows:
        print_table(
            "The pairs of classes most often confused",
            ["class A", "class B", "A taken for B", "B taken for A"], rows,
        )  # fmt: skip
    ending = f"{right_and_confused(labels, logits, names)} {opened}"
    if not run.options.train_folder:
        pairs_of_the_document(run, counts, pairs)
        ending += " Next: python fashion_cnn.py --compare, which trains the networks the document"
        ending += " proposes."
    command = predict_command(run, "my_image.jpg", run.file("model.pt"))
    return (
        f"{ending}\nOr take a photograph of your own, and run\n{command}\n"
        "The next chapter: python mnist_cnn.py, three kinds of networks."
    )


def pairs_of_the_document(run: Run, counts: Tensor, pairs: Pairs) -> None:
    """Measures the pairs of classes of which the document speaks, from the confusion matrix."""
    run.metrics |= {
        "sandal_sneaker_ratio": ratio_to_mean(pairs, SANDAL, SNEAKER),
        "pullover_coat_ratio": ratio_to_mean(pairs, PULLOVER, COAT),
        "sneakers_taken_for_bags": int(counts[SNEAKER, BAG]),
    }
    mean = statistics.mean(count for count, *_ in pairs)
    say(
        f"A pair is confused {mean:.1f} times on average; sandal and sneaker "
        f"{int(counts[SANDAL, SNEAKER] + counts[SNEAKER, SANDAL])} times. Sneakers taken for a "
        f"bag, as on the document's first picture: {int(counts[SNEAKER, BAG])}."
    )


def place(pairs: Pairs, one: int, other: int) -> int:
    """The place of two classes among the pairs, which are sorted; 1 is the first."""
    return [{a, b} for _, a, b in pairs].index({one, other}) + 1


def ratio_to_mean(pairs: Pairs, one: int, other: int) -> float:
    """How often two classes are confused, relative to the mean of all pairs; NaN without any."""
    mean = statistics.mean(count for count, *_ in pairs)
    return pairs[place(pairs, one, other) - 1][0] / mean if mean else math.nan
