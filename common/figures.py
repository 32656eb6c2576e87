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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Affine2D, Transform
from torch import Tensor

from common.files import write_whole
from common.labels import font_families

TRAINING, UNSEEN = "#0072B2", "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F", "#B2DF00", "#5E3C99")
FEW = 10  # groups of so few values are drawn as dots
SPACE = 0.12  # inches between the images of a grid


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
    figure.set_dpi(120)
    # `savefig` writes the same bytes, and draws twice.
    write_whole(path, FigureCanvasAgg(figure).print_png)
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


def draw_image(
    axes: Axes, image: Tensor, corner: tuple[float, float], scale: float,
    limits: tuple[float, float],
) -> Transform:
    """Draws a grey image (H×W) in a frame, enlarged by `scale`, its upper left corner at `corner`.

    Returns the transform from its pixels, x and y, to where they are.
    """
    pixels = Affine2D().translate(0.5, 0.5).scale(scale).translate(*corner)
    place: Transform = pixels + axes.transData
    low, high = limits
    axes.imshow(image.numpy(), cmap="gray", vmin=low, vmax=high, transform=place)
    height, width = (scale * side for side in image.shape)
    axes.add_patch(Rectangle(corner, width, height, fill=False, color="gray", clip_on=False))
    return place


def image_grid(
    images: Tensor,
    path: Path,
    *,
    title: str,
    columns: int,
    width: float = 2.1,
    captions: Sequence[str] = (),
    row_names: Sequence[str] = (),
    annotate: Callable[[Axes, int, Transform], None] | None = None,
) -> None:
    """Saves images (N×H×W or N×1×H×W) in a grid on one grey scale, each under its caption.

    An image and the space around it are `width` inches wide. `annotate(axes, index, place)` may
    draw over image `index`; `transform=place` makes its pixels, x and y, the unit.
    """
    pictures = images.reshape(len(images), *images.shape[-2:])
    low, high = float(pictures.min()), float(pictures.max())
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    rows = -(-len(pictures) // columns)
    inches = (width - SPACE) / max(pictures.shape[1:])  # of a pixel
    tall, wide = (inches * size for size in pictures.shape[1:])
    height = tall + SPACE + 0.2 * lines
    # One panel, in inches, for all: a panel for each image would take most of the time.
    figure, (axes,) = new_figure(title, width=width * columns, height=height * rows)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        left, top = column * width + SPACE / 2, (row + 1) * height - SPACE / 2 - tall
        place = draw_image(axes, picture, (left, top), inches, (low, high))
        if captions:
            axes.text(left + wide / 2, top - 0.04, captions[index], ha="center", fontsize=9)
        if row_names and column == 0:
            axes.text(left - 0.1, top + tall / 2, row_names[row], ha="right", va="center",
                      rotation=90, multialignment="center", fontsize=10)  # fmt: skip
        if annotate is not None:
            annotate(axes, index, place)
    axes.set(xlim=(0, width * columns), ylim=(height * rows, 0), aspect="equal")
    axes.set_axis_off()
    save_figure(figure, path)
