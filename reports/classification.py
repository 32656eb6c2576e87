"""What the reports of image classifiers share: curves, mistakes, and several networks compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from common.figures import (
    COLOURS,
    draw_curves,
    image_grid,
    mark_epochs,
    new_figure,
    save_figure,
    use_log_scale,
)
from common.labels import drawable
from common.metrics import confusion_matrix, misclassified
from common.rows import Row

GALLERY = 20
CLASSES_SHOWN = 30  # in the confusion matrix: with more its numbers could not be read
LONGEST_NAME = 20  # of a class, in letters


def learning_curves(
    history: Sequence[Row], path: Path, *, title: str, unseen: str, trained: str = "training images"
) -> None:
    """Saves loss and accuracy by epoch in two panels, each for training and for unseen images.

    The history's columns are `train_loss`, `train_accuracy` and, for the part named `unseen`
    (`validation` or `test`), `<unseen>_loss` and `<unseen>_accuracy`, or `val_…`. `trained` says of
    what the training loss is.
    """
    prefix = "val" if "val_loss" in history[0] else unseen
    figure, (losses, shares) = new_figure(title, 1, 2)
    # The loss of training is the mean over an epoch in which the weights still change.
    loss_labels = {
        "train_loss": f"{trained}, mean during the epoch",
        f"{prefix}_loss": f"{unseen} images, after the epoch",
    }
    draw_curves(losses, history, loss_labels, y_label="loss (mean cross-entropy)")
    use_log_scale(losses)
    share_labels = {
        "train_accuracy": "training images",
        f"{prefix}_accuracy": f"{unseen} images",
    }
    draw_curves(shares, history, share_labels, y_label="accuracy (%)", percent=True)
    save_figure(figure, path)


def confidence(share: float) -> str:
    """A probability as a percentage that says 0% or 100% only where it is 0 or 1."""
    if math.isnan(share):
        return "NaN"
    if 0 < share < 0.01:
        return "<1%"
    return f"{share:.0%}" if share < 0.995 else f"{min(share, 0.9999):.2%}" if share < 1 else "100%"


def mistakes_figure(
    images: Tensor, labels: Tensor, logits: Tensor, names: Sequence[str], path: Path
) -> str:
    """Saves the most confident mistakes: the image, what it was taken for, and what it is.

    Returns the sentence that names the figure. Without a mistake there is none, also none of an
    earlier epoch.
    """
    wrong, predicted, confidences = misclassified(logits, labels)
    if not len(wrong):
        path.unlink(missing_ok=True)
        return "There are no mistakes to show."
    captions = []
    for place in range(min(GALLERY, len(wrong))):
        answer, truth = (
            drawable(names[int(label)], LONGEST_NAME)
            for label in (predicted[place], labels[wrong[place]])
        )
        captions.append(f"{answer}, {confidence(float(confidences[place]))}\nreally: {truth}")
    which = f"All mistakes ({len(wrong)})"
    if len(wrong) > GALLERY:
        which = f"The {GALLERY} most confident of {len(wrong)} mistakes"
    image_grid(
        images[wrong[:GALLERY]],
        path,
        title=f"{which}: the answer with its probability, and the truth",
        columns=5,
        captions=captions,
    )
    return f"Open {path.name}."


def confusion_figure(counts: Tensor, names: Sequence[str], path: Path) -> None:
    """Saves a confusion matrix (classes×classes, rows = truth) with its counts in the cells.

    Of more than 30 classes it shows those most often mistaken.
    """
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    title = "Which class is taken for which: the diagonal is right"
    if len(names) > CLASSES_SHOWN:
        mistaken = counts.sum(0) + counts.sum(1) - 2 * counts.diag()
        shown = mistaken.topk(CLASSES_SHOWN).indices.sort().values
        counts, shares = counts[shown][:, shown], shares[shown][:, shown]
        names = [names[int(label)] for label in shown]
        title += f"; the {CLASSES_SHOWN} classes most often mistaken"
    names = [drawable(name, LONGEST_NAME) for name in names]
    side = 1.8 + 0.55 * len(names)
    figure, (axes,) = new_figure(title, width=side + 0.8, height=side)
    drawn = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(drawn, ax=axes, label="share of the true class", shrink=0.8)
    save_figure(figure, path)


def confused_pairs(counts: Tensor) -> list[tuple[int, int, int]]:
    """All pairs of classes, most often confused first: (how often, class, class).

    `counts` is a confusion matrix; both directions are added up.
    """
    both = counts + counts.T
    pairs = [(int(both[a, b]), a, b) for a, b in combinations(range(len(counts)), 2)]
    return sorted(pairs, key=lambda pair: -pair[0])


def right_and_confused(labels: Tensor, logits: Tensor, names: Sequence[str]) -> str:
    """Sentences: how many unseen images are classified correctly, and which two are confused."""
    right = int((logits.argmax(1) == labels).sum())
    sentence = (
        f"Your network classified {right:,} of {len(labels):,} unseen images correctly "
        f"({right / len(labels):.1%})."
    )
    count, one, other = confused_pairs(confusion_matrix(labels, logits.argmax(1), len(names)))[0]
    if count:
        sentence += f" Most often confused: {names[one]} and {names[other]}."
    return sentence


def comparison_figure(
    histories: Mapping[str, Sequence[Sequence[Row]]],
    path: Path,
    *,
    title: str,
    column: str,
    label: str,
    sizes: Mapping[str, str],
) -> None:
    """Saves what several networks score by epoch, each trained from several seeds, and their times.

    `histories` has a list of trainings for each network's name; `column` holds fractions. `sizes`
    is shown under each name beside the bars. Curves are means, in a band from the minimum
    to the maximum.
    """
    figure, (curves, bars) = new_figure(title, 1, 2, width=6.8)
    for place, (name, trainings) in enumerate(histories.items()):
        colour = COLOURS[place]
        epochs = [row["epoch"] for row in trainings[0]]
        scores = torch.tensor([[100 * row[column] for row in rows] for rows in trainings])
        curves.plot(epochs, scores.mean(0), "o-", color=colour, label=name)
        curves.fill_between(epochs, scores.amin(0), scores.amax(0), color=colour, alpha=0.15)
        seconds = statistics.median(row["seconds"] for rows in trainings for row in rows)
        bars.barh(f"{name}\n{sizes[name]}", seconds, color=colour)
        bars.text(seconds, place, f" {seconds:.1f} s", va="center")
    seeds = len(next(iter(histories.values())))
    mark_epochs(curves)
    curves.set(ylabel=label)
    curves.set_title(f"mean of {seeds} seeds, band: min to max" if seeds > 1 else "one seed")
    curves.legend()
    bars.set(xlabel="seconds of training per epoch (median)", title="time and size")
    bars.margins(x=0.15)
    bars.invert_yaxis()
    save_figure(figure, path)
