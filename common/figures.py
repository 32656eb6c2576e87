"""Figures, saved as PNG files and never shown: curves, histograms, grids of images.

Colours keep their meaning in all figures: blue is training, orange the images or lines not trained
on. Other things compared get the colours of `COLOURS`. Blue, orange and the first five of these are
from the palette that colour-blind readers can tell apart (M. Okabe, K. Ito, "Color Universal
Design", 2008); grey, yellow-green and violet are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from common.files import write_whole
from common.labels import font_families

TRAINING, UNSEEN = "#0072B2", "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F", "#B2DF00", "#5E3C99")
FEW = 10  # groups of so few values are drawn as dots


def new_figure(
    title: str, rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """A figure of rows×columns panels, each `width`×`height` inches; its panels in reading order.

    The title says what there is to see.
    """
    matplotlib.rcParams["font.family"] = font_families()  # for names that the learner chose
    matplotlib.rcParams["axes.titley"] = 1.0  # nothing stands above a panel that a title must avoid
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_prop_cycle(color=COLOURS)
    figure.suptitle(title, wrap=True)
    return figure, panels


def save_figure(figure: Figure, path: Path) -> None:
    """Saves the figure as a PNG file, whole or not at all, and says where it is."""
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))
    print(f"figure: {path}")


def draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    series: Mapping[str, str],
    *,
    y_label: str,
    percent: bool = False,
) -> None:
    """Draws columns of a training's history by epoch; `series` maps a column to its label.

    A column `train_…` is blue and dotted, any other the orange of what was not trained on;
    `percent` shows fractions 0..1 as percentages.
    """
    epochs = [row["epoch"] for row in history]
    for name, label in series.items():
        values = [row[name] * (100 if percent else 1) for row in history]
        trained = name.startswith("train_")
        axes.plot(epochs, values, ":o" if trained else "-o", markersize=3,
                  color=TRAINING if trained else UNSEEN, label=label)  # fmt: skip
    mark_epochs(axes)
    axes.set_ylabel(y_label)
    axes.legend()


def mark_epochs(axes: Axes) -> None:
    """An x axis of whole epochs, and a grid."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.3)


def use_log_scale(axes: Axes) -> None:
    """A logarithmic y axis whose marks are plain numbers as far as they are short."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 1e3:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def share_y_limits(panels: Sequence[Axes]) -> None:
    """Gives all panels the widest of their y limits, so that heights can be compared."""
    limits = [panel.get_ylim() for panel in panels]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for panel in panels:
        panel.set_ylim(low, high)


def draw_histogram(
    axes: Axes,
    groups: Mapping[str, Tensor],
    *,
    bins: int,
    limits: tuple[float, float],
    colours: Sequence[str] = COLOURS,
) -> None:
    """Draws the shares of each group's values on shared bins, a group of few values as dots below.

    Values outside `limits` count in the outermost bins. A group keeps its colour, that of its
    place, where others are empty.
    """
    for number, (label, values) in enumerate(groups.items()):
        clamped = values.flatten().clamp(*limits)
        colour = colours[number % len(colours)]
        if len(clamped) <= FEW:
            height = torch.full_like(clamped, -2.0 * (1 + number))
            axes.plot(clamped.numpy(), height.numpy(), "o", color=colour, label=label)
            continue
        weights = torch.full_like(clamped, 100 / len(clamped))
        axes.hist(clamped.numpy(), bins=bins, range=limits, weights=weights.numpy(), label=label,
                  histtype="stepfilled", facecolor=(colour, 0.3), edgecolor=colour)  # fmt: skip
    axes.set_ylabel("share (%)")


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, below them, with the labels of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def image_grid(
    images: Tensor,
    path: Path,
    *,
    title: str,
    columns: int,
    width: float = 2.1,
    captions: Sequence[str] = (),
    annotate: Callable[[Axes, int], None] | None = None,
) -> None:
    """Saves images (N×H×W or N×1×H×W) in a grid on one grey scale, each under its caption.

    `annotate(axes, index)` may draw over each.
    """
    pictures = images.reshape(len(images), *images.shape[-2:])
    low, high = float(pictures.min()), float(pictures.max())
    rows = -(-len(pictures) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    figure, panels = new_figure(title, rows, columns, width=width, height=width + 0.2 * lines)
    for index, panel in enumerate(panels):
        panel.set_axis_off()
        if index >= len(pictures):
            continue
        panel.imshow(pictures[index].numpy(), cmap="gray", vmin=low, vmax=high)
        if captions:
            panel.set_title(captions[index], fontsize=9)
        if annotate is not None:
            frame = panel.axis()  # a mark at the edge must not make this image smaller
            annotate(panel, index)
            panel.axis(frame)
    save_figure(figure, path)
