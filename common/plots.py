"""Figures, saved and never shown: learning curves, image grids, histograms, confusion matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
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

    `percent` shows fractions 0..1 as percentages on a fixed 0..100 scale.
    """
    epochs = [row["epoch"] for row in history]
    for name, label in series.items():
        values = [row[name] * (100 if percent else 1) for row in history]
        # A single epoch makes a point, which a line alone would not show.
        axes.plot(epochs, values, label=label, marker="o" if len(history) < 3 else None)
    axes.set(xlabel="epoch", ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if percent:
        axes.set_ylim(0, 100)
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_histogram(axes: Axes, groups: Mapping[str, Tensor], *, bins: int, limits: tuple[float, float]) -> None:
    """Draws the shares of each group's values on shared bins; values outside `limits` are counted in the last bin."""
    for label, values in groups.items():
        clamped = values.flatten().clamp(*limits)
        weights = [100 / len(clamped)] * len(clamped)
        axes.hist(clamped.numpy(), bins=bins, range=limits, weights=weights, alpha=0.55, label=label)
    axes.set_ylabel("share (%)")
    axes.legend()


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
    figure, axes = new_figure(rows, columns, width=width, height=width + (0.2 if titles else 0))
    for index, panel in enumerate(axes):
        panel.set_axis_off()
        if index >= len(pictures):
            continue
        panel.imshow(pictures[index].numpy(), cmap="gray", vmin=low, vmax=high)
        if titles:
            panel.set_title(titles[index], fontsize=9)
        if annotate is not None:
            annotate(panel, index)
    if heading:
        figure.suptitle(heading)
    save_figure(figure, path)


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
