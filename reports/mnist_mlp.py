"""Document 4's claims, figures and tables, from what `mnist_mlp.py` measures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from common.bounds import about, at_most, below, exactly
from common.claims import Claim
from common.data import LabelledImages
from common.epochs import LOSS_AT_BATCH
from common.figures import (
    TRAINING,
    image_grid,
    mark_epochs,
    new_figure,
    save_figure,
    use_log_scale,
)
from common.metrics import accuracy, misclassified, share_of
from common.rows import Row, write_rows
from common.runs import Run
from common.terminal import print_table, say
from reports.classification import (
    confidence,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)
from reports.own_images import predict_command

DIGITS = [str(digit) for digit in range(10)]
MISTAKES_SHOWN = 10

# The options of the document's run, and of the runs that test its other statements.
DOCUMENT = {
    "epochs": 10, "batch_size": 64, "lr": 1e-3, "limit": None, "precision": "fp32",
    "explain": False, "widths": None,
}  # fmt: skip
FOLDER = {**DOCUMENT, "source": "folder"}
WIDTHS = {**DOCUMENT, "widths": (128, 256, 512, 999)}
QUESTIONS = {"explain": True}

# 4.4: the number of one run without a random seed. The test accuracy scatters by 0.1 points from
# seed to seed, so that half a point more or less means another training. 4.6: one point is half of
# what "about" means for an accuracy elsewhere in this collection.
CLAIMS = (
    Claim("4.1a", "images to train on", "60,000",
          "train_pictures", exactly(60000), "{:,.0f}", DOCUMENT),
    Claim("4.1b", "images to test on", "10,000",
          "test_pictures", exactly(10000), "{:,.0f}", DOCUMENT),
    Claim("4.1c", "batches of up to 64 images", "938",
          "batches", exactly(938), "{:.0f}", DOCUMENT),
    Claim("4.1d", "images in the last batch", "fewer than 64",
          "last_batch", below(64), "{:.0f}", DOCUMENT),
    Claim("4.1e", "images whose label is not their folder's name", "the name is the label",
          "labels_not_folder_names", exactly(0), "{:.0f}", FOLDER),
    Claim("4.1f", "first batch: how many of its 4 sizes differ from 64×1×28×28", "none",
          "batch_sizes_off", exactly(0), "{:.0f}", DOCUMENT),
    Claim("4.2", "weights of the network's two layers", "784×256 and 256×10",
          "weights", exactly(784 * 256 + 256 * 10), "{:,.0f}", DOCUMENT),
    Claim("4.3", "epochs whose mean training loss is above that of the epoch before",
          "becomes smaller and smaller",
          "loss_rises", exactly(0), "{:.0f}", DOCUMENT, every_seed=True),
    Claim("4.4", "share of the test images classified correctly", "0.978 (9,779 of 10,000)",
          "test_accuracy", about(0.978, 0.005), "{:.4f}", DOCUMENT),
    Claim("4.4a", "test loss before saving mnist.pth and after loading it: difference",
          "the file holds that network", "saved_difference", at_most(1e-6), "{:.1e}", DOCUMENT),
    Claim("4.4b", "images whose largest score is not at the most probable digit",
          "argmax finds that digit", "argmax_not_most_probable", exactly(0), "{:.0f}", DOCUMENT),
    Claim("4.6", "widths 128 to 999: maximum of the mean accuracies minus their minimum",
          "little difference", "width_spread", at_most(0.01), "{:.2f} points", WIDTHS),
    Claim("4.7a", "softmax: how far the sum of its ten numbers is from 1", "sum is 1",
          "softmax_sum_error", at_most(1e-6), "{:.1e}", QUESTIONS),
    Claim("4.7b", "CrossEntropyLoss: its difference from a loss computed with softmax",
          "contains softmax", "cross_entropy_difference", at_most(1e-6), "{:.1e}", QUESTIONS),
    Claim("4.7c", "layers after the input layer, all of which it calls hidden",
          "number of layers minus 1", "hidden_layers", exactly(2), "{:.0f}", QUESTIONS),
)  # fmt: skip


def data(
    run: Run, training: LabelledImages, test: LabelledImages, batches: DataLoader[Any],
    network: nn.Module,
) -> None:
    """Prints the number of images and batches, and the first batches; counts the weights."""
    size = batches.batch_size or 1
    last = (len(training) - 1) % size + 1
    run.metrics |= {
        "train_pictures": len(training),
        "test_pictures": len(test),
        "batches": len(batches),
        "last_batch": last,
        "weights": sum(one.numel() for one in network.parameters() if one.dim() == 2),
    }
    say(f"Images to train on: {len(training):,}, to test on: {len(test):,}.")
    if run.options.source == "folder":
        folder_names(run, training, test)
    say(f"Batches of up to {size} images: {len(batches):,}; the last one has {last}.")
    for number, (images, labels) in enumerate(islice(batches, 3)):
        shape = "×".join(map(str, images.shape))
        say(f"batch {number}: images {shape}, labels {' '.join(map(str, labels.tolist()))}")
        if number == 0:
            sizes = zip(images.shape, (64, 1, 28, 28), strict=True)
            run.metrics["batch_sizes_off"] = sum(size != said for size, said in sizes)
            image_grid(
                images[:30],
                run.file("first_batch.png"),
                title="The first images of the first batch, and their labels",
                columns=10,
                width=1.2,
                captions=[str(label) for label in labels[:30].tolist()],
            )


def folder_names(run: Run, *splits: LabelledImages) -> None:
    """Prints how many images have another label than the name of their folder."""
    others = 0
    for images in splits:
        for file, label in zip(images.files, images.labels.tolist(), strict=True):
            others += Path(file).parent.name != str(label)
    run.metrics["labels_not_folder_names"] = others
    say(
        f"ImageFolder numbers the folders in alphabetical order, from 0. Images whose label is not "
        f"the name of their folder: {others}."
    )


def training(run: Run, batches: int) -> None:
    """Saves the learning curves and the losses of single batches; counts where the loss rises.

    `batches` is the number of batches in an epoch.
    """
    history = run.history
    learning_curves(
        history,
        run.file("loss_and_accuracy.png"),
        title="Does the network also improve on images it was not trained on?",
        unseen="test",
    )
    batches_figure(history, batches, run.file("loss.png"))
    run.metrics |= {
        "train_loss": history[-1]["train_loss"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in history),
    }
    if len(history) > 1:
        means = [row["train_loss"] for row in history]
        single = [loss for _, loss in losses_of_batches(history, batches)]
        run.metrics |= {"loss_rises": rises(means), "batch_loss_rises": rises(single)}
        harder = ": some batches are harder" if rises(single) else ""
        say(
            f"Does the loss fall? From epoch to epoch the mean loss rose in {rises(means)} of "
            f"{len(means) - 1} steps, the loss of single batches (every 100th) in "
            f"{rises(single)} of {max(len(single) - 1, 0)}{harder}."
        )


def rises(numbers: Sequence[float]) -> int:
    """How many of the numbers are larger than the one before."""
    return sum(after > before for before, after in pairwise(numbers))


def losses_of_batches(history: Sequence[Row], batches: int) -> list[tuple[float, float]]:
    """Of every hundredth batch of a training: the epochs done until then, and its loss.

    `batches` is the number of batches in an epoch.
    """
    pairs = []
    for row in history:
        for name, loss in row.items():
            if name.startswith(LOSS_AT_BATCH):
                share = int(name.removeprefix(LOSS_AT_BATCH)) / batches
                pairs.append((row["epoch"] - 1 + share, loss))
    return pairs


def batches_figure(history: Sequence[Row], batches: int, path: Path) -> None:
    """Saves the loss of every hundredth batch of a training, and the mean of each epoch."""
    title = "Single batches may jump up and down: does the mean of an epoch fall?"
    figure, (axes,) = new_figure(title, width=8)
    pairs = losses_of_batches(history, batches)
    if pairs:
        done, losses = zip(*pairs, strict=True)
        axes.plot(done, losses, ".", color=TRAINING, alpha=0.4, label="one batch, every 100th")
    middles = [row["epoch"] - 0.5 for row in history]
    means = [row["train_loss"] for row in history]
    axes.plot(middles, means, ":o", color=TRAINING, label="mean of an epoch, drawn at its middle")
    use_log_scale(axes)
    mark_epochs(axes)
    axes.set(xlabel="epochs done", ylabel="training loss (cross-entropy)")
    axes.legend()
    save_figure(figure, path)


def mistakes(run: Run, test: LabelledImages, logits: Tensor) -> str:
    """Prints and draws the most confident mistakes; returns the closing sentences.

    All mistakes are in `errors.csv`, each with its file; with `--show-errors` they are printed too.
    """
    rows: list[dict[str, Any]] = []
    wrong, predicted, confidences = misclassified(logits, test.labels)
    for index, answer, share in zip(
        wrong.tolist(), predicted.tolist(), confidences.tolist(), strict=True
    ):
        rows.append({
            "prediction": answer,
            "truth": int(test.labels[index]),
            "confidence": f"{share:.4f}",
            "path": test.files[index],
        })  # fmt: skip
    write_rows(run.file("errors.csv"), rows)
    if run.options.show_errors:
        every_mistake([rows[place] for place in wrong.argsort().tolist()])
    shown = []
    for row, share in zip(rows[:MISTAKES_SHOWN], confidences.tolist(), strict=False):
        shown.append([row["prediction"], row["truth"], confidence(share), row["path"]])
    if shown:
        print_table(
            f"The most confident mistakes, {len(shown)} of {len(rows):,} (all: errors.csv)",
            ["answer", "truth", "confidence", "image"], shown,
        )  # fmt: skip
    opened = mistakes_figure(test.images, test.labels, logits, DIGITS, run.file("errors.png"))
    run.metrics |= {"test_accuracy": accuracy(logits, test.labels), "test_errors": len(rows)}
    saved_network(run, test.labels, logits)
    return (
        f"{right_and_confused(test.labels, logits, DIGITS)} {opened}\n"
        f"Next, write a digit on paper, take a photo of it, and run\n"
        f"{predict_command(run, 'my_digit.jpg', run.file('mnist.pth'))}\n"
        "The next chapter: python fashion_cnn.py --epochs 6, a network that looks at an image "
        "in small windows."
    )


def every_mistake(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a line for each mistake, as the document does; `rows` are in the order of the test."""
    say(f"\nAll mistakes: {len(rows):,}\n")
    for row in rows:
        print(f"prediction {row['prediction']}, truth {row['truth']}: {row['path']}")


def saved_network(run: Run, labels: Tensor, logits: Tensor) -> None:
    """Compares the saved network's answers with the trained one's, and scores with probabilities.

    `labels` N, `logits` N×10.
    """
    loss = cross_entropy(logits, labels).item()
    probable = logits.double().softmax(1).argmax(1)
    run.metrics |= {
        "saved_difference": abs(loss - run.history[-1]["test_loss"]),
        "argmax_not_most_probable": int((logits.argmax(1) != probable).sum()),
    }


def order(run: Run, name: str, labels: Tensor, logits: Tensor) -> None:
    """Prints what a network classifies after one epoch on images in this order."""
    share = accuracy(logits, labels)
    nines = share_of(logits.argmax(1) == 9)
    run.metrics |= {f"{name}_accuracy_after_1_epoch": share, f"{name}_called_nine": nines}
    meant = {
        "shuffled": "in a shuffled order",
        "sorted": "in the folder's order (all zeros first, all nines last)",
    }
    say(
        f"One epoch {meant[name]}: {share:.1%} of the test images are classified correctly; "
        f"{nines:.0%} of all test images are classified as 9."
    )
