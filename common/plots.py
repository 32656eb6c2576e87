"""Figures, saved and never shown: learning curves, image grids, histograms, confusion matrices."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from common.checkpoint import write_whole


def save_figure(figure: Figure, path: Path) -> None:
    """Saves the figure as a PNG file, whole or not at all, closes it and says where it is."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))
    plt.close(figure)
    print(f"figure: {path}")


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """A figure of rows×columns panels, each `width`×`height` inches, and its panels in reading order."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, list(axes.flat)


def draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    series: Mapping[str, str],
    *,
    y_label: str,
    percent: bool = False,
    log: bool = False,
) -> None:
    """Draws columns of a training's history against the epoch; `series` maps a column's name to its label.

    A column `train_…` is dotted and has the colour of the other column with the same ending. `percent` shows
    fractions 0..1 as percentages on a fixed scale of 0..100.
    """
    epochs = [row["epoch"] for row in history]
    colours: dict[str, Any] = {}
    for name, label in series.items():
        subject = name.split("_", 1)[-1]
        values = [row[name] * (100 if percent else 1) for row in history]
        style = ":" if name.startswith("train_") else "-"
        # A single epoch makes a point, which a line alone would not show.
        marker = "o" if len(history) == 1 else None
        (curve,) = axes.plot(epochs, values, style, color=colours.get(subject), marker=marker, label=label)
        if len(series) > 1:
            colours[subject] = curve.get_color()
    axes.set(xlabel="epoch", ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if percent:
        axes.set_ylim(0, 100)
    if log:
        use_log_scale(axes)
    axes.grid(alpha=0.3)
    axes.legend()


def use_log_scale(axes: Axes) -> None:
    """A logarithmic y axis whose marks are plain numbers as far as they are short."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 1e3:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def share_y_limits(panels: Sequence[Axes]) -> None:
    """Gives all panels the widest of their y limits, so that heights can be compared across them."""
    lows, highs = zip(*(panel.get_ylim() for panel in panels), strict=True)
    for panel in panels:
        panel.set_ylim(min(lows), max(highs))


def draw_histogram(axes: Axes, groups: Mapping[str, Tensor], *, bins: int, limits: tuple[float, float]) -> None:
    """Draws the shares of each group's values on shared bins; values outside `limits` count in the outermost.

    A group keeps its colour, that of its place, when others are empty.
    """
    for number, (label, values) in enumerate(groups.items()):
        clamped = values.flatten().clamp(*limits)
        weights = torch.full_like(clamped, 100 / max(1, len(clamped)))
        axes.hist(clamped.numpy(), bins=bins, range=limits, weights=weights.numpy(), label=label,
                  histtype="stepfilled", facecolor=(f"C{number}", 0.3), edgecolor=f"C{number}")
    axes.set_ylabel("share (%)")


def legend_below(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """One legend for all panels, below them, with the labels of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), title=title, fontsize=9)


def image_grid(
    images: Tensor,
    path: Path,
    *,
    columns: int,
    width: float = 2.1,
    titles: Sequence[str] = (),
    heading: str = "",
    annotate: Callable[[Axes, int], None] | None = None,
) -> None:
    """Saves images (N×H×W or N×1×H×W) in a grid on one grey scale; `annotate(axes, index)` may draw over each."""
    pictures = images.reshape(len(images), *images.shape[-2:])
    low, high = float(pictures.min()), float(pictures.max())
    rows = -(-len(pictures) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    figure, axes = new_figure(rows, columns, width=width, height=width + 0.2 * lines)
    for index, panel in enumerate(axes):
        panel.set_axis_off()
        if index >= len(pictures):
            continue
        panel.imshow(pictures[index].numpy(), cmap="gray", vmin=low, vmax=high)
        if titles:
            panel.set_title(titles[index], fontsize=9)
        if annotate is not None:
            frame = panel.axis()  # a mark at the edge must not make this picture smaller than the others
            annotate(panel, index)
            panel.axis(frame)
    if heading:
        figure.suptitle(heading)
    save_figure(figure, path)


def error_gallery(
    images: Tensor, labels: Tensor, errors: tuple[Tensor, Tensor, Tensor], names: Sequence[str], path: Path
) -> None:
    """Saves the 20 worst errors (from `metrics.misclassified`) with prediction, confidence and truth, where any."""
    wrong, predicted, confidences = errors
    if not len(wrong):
        print("no picture was misclassified: no gallery of errors")
        return
    titles = [f"{names[p]}, {c:.0%}\ntruth: {names[t]}" for p, c, t in
              zip(predicted[:20].tolist(), confidences[:20].tolist(), labels[wrong[:20]].tolist(), strict=True)]
    image_grid(images[wrong[:20]], path, columns=5, titles=titles,
               heading=f"the surest of {len(wrong)} errors: prediction, confidence and truth")


def confusion_figure(counts: Tensor, names: Sequence[str], path: Path) -> None:
    """Saves a confusion matrix (classes×classes counts, rows = truth) with its counts written in the cells."""
    side = 1.8 + 0.55 * len(names)
    figure, (axes,) = new_figure(width=side + 0.8, height=side)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    picture = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    save_figure(figure, path)


def comparison_figure(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    score: Mapping[str, str],
    sizes: Mapping[str, str],
    path: Path,
) -> None:
    """Saves what several networks score by epoch, each trained from several seeds, and how long an epoch takes.

    `histories` has a list of trainings for each network's name, `score` the one column of fractions to draw and its
    label, `sizes` what stands under each name beside the bars. Curves are means, in a band from least to most.
    """
    ((column, label),) = score.items()
    figure, (curves, bars) = new_figure(1, 2, width=6.8)
    for name, runs in histories.items():
        epochs = [row["epoch"] for row in runs[0]]
        by_epoch = [[100 * row[column] for row in rows] for rows in zip(*runs, strict=True)]
        (curve,) = curves.plot(epochs, [statistics.mean(values) for values in by_epoch], "o-", label=name)
        curves.fill_between(epochs, [*map(min, by_epoch)], [*map(max, by_epoch)], color=curve.get_color(), alpha=0.15)
        seconds = statistics.median(row["seconds"] for rows in runs for row in rows)
        bars.barh(f"{name}\n{sizes[name]}", seconds, color=curve.get_color())
        bars.text(seconds, len(bars.patches) - 1, f" {seconds:.1f} s", va="center")
    curves.set(xlabel="epoch", ylabel=label)
    curves.set_title(f"mean of {len(runs)} seeds, least and most" if len(runs) > 1 else "one seed")
    curves.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    curves.grid(alpha=0.3)
    curves.legend()
    bars.set(xlabel="seconds an epoch, training (median)", title="time and size")
    bars.margins(x=0.15)
    bars.invert_yaxis()
    save_figure(figure, path)
