"""What document 3's layers see and learn: padding, kernels, and the maps of one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.figures import new_figure, save_figure
from common.runs import Run
from common.terminal import say

Views = tuple[Tensor, Tensor]  # of each pixel (28×28): by convolution 1, by pooling 2


# 1. Padding: how many outputs see a pixel at the edge, and how many one in the middle?


def padding(run: Run, views: Sequence[Views]) -> None:
    """Draws and says how many outputs see each pixel; `views` with padding, then without."""
    (with_padding, _), (without, _) = views
    middle = (14, 14)
    run.metrics["edge_views_ratio"] = edge_mean(with_padding) / edge_mean(without)
    say(
        "An output of the first convolution sees the pixels of its window. A pixel in the middle "
        f"is seen by {int(with_padding[middle])} outputs of a channel. A pixel in a corner is seen "
        f"by {int(with_padding[0, 0])}, without padding by {int(without[0, 0])}; a pixel at the "
        f"edge on average by {edge_mean(with_padding):.1f}, without padding by "
        f"{edge_mean(without):.1f}. Open padding.png."
    )
    padding_figure(run, views)


def padding_figure(run: Run, views: Sequence[Views]) -> None:
    """Saves how many outputs see each pixel, with padding on the left and without on the right."""
    figure, panels = new_figure(
        "Without padding, few outputs see the pixels at the edge", 2, 2, width=4.4, height=3.6
    )
    layers = ("convolution 1", "pooling 2")
    for row, layer in enumerate(layers):
        for column, padded in enumerate(("with padding", "without padding")):
            counts = views[column][row]
            most = int(counts.max())
            axes = panels[2 * row + column]
            drawn = axes.imshow((100 * counts / most).numpy(), cmap="cividis", vmin=0, vmax=100)
            numbers = f"outputs that see a corner: {int(counts[0, 0])}, at most: {most}"
            axes.set_title(f"{layer}, {padded}\n{numbers}", fontsize=10)
            axes.set(xlabel="column of the image", ylabel="row of the image")
    label = "outputs that see a pixel (% of the most)"
    figure.colorbar(drawn, ax=panels, label=label, shrink=0.7)
    save_figure(figure, run.file("padding.png"))


def edge_mean(counts: Tensor) -> float:
    """The mean of the outermost numbers of a square (S×S), those of the corners among them."""
    edge = torch.ones_like(counts, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    return counts[edge].double().mean().item()


# 2. The learned kernels, and what they make of an image


def inside(run: Run, kernels: Sequence[Tensor], maps: Sequence[Tensor]) -> None:
    """Draws the first kernels (16×1×k×k) before and after training, and an image with its maps.

    `maps` has the image (1×1×28×28) and what each block makes of it (1×C×S×S).
    """
    kernels_figure(run, *[weights.cpu()[:, 0] for weights in kernels])
    maps_figure(run, *[values.float().cpu()[0] for values in maps])
    say(
        "Open kernels.png (the 16 kernels of the first convolution, before and after training) and "
        "feature_maps.png (what the two blocks make of one image)."
    )


def kernels_figure(run: Run, before: Tensor, after: Tensor) -> None:
    """Saves the kernels of the first convolution (16×k×k), as training found and left them."""
    figure, panels = new_figure(
        "The 16 kernels of the first convolution: random before training, learned after",
        1, 2, width=4.8, height=4.2,
    )  # fmt: skip
    figure.set_layout_engine("constrained", wspace=0.06)
    largest = max(before.abs().max().item(), after.abs().max().item())
    for axes, kernels, when in zip(panels, (before, after), ("before", "after"), strict=True):
        drawn = axes.imshow(mosaic(kernels, 4).numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_facecolor("0.85")  # between the kernels
        axes.set(title=f"{when} training", xticks=[], yticks=[])
    figure.colorbar(drawn, ax=panels, label="weight (blue: negative, red: positive)", shrink=0.8)
    save_figure(figure, run.file("kernels.png"))


def maps_figure(run: Run, image: Tensor, first: Tensor, second: Tensor) -> None:
    """Saves an image (1×28×28) and its maps after the first (16×…) and the second block (32×…)."""
    figure, panels = new_figure(
        "What the two blocks make of one validation image: 16 maps, then 32 coarser ones",
        1, 3, width=4.6, height=4.2,
    )  # fmt: skip
    side, smaller = first.shape[-1], second.shape[-1]
    titles = (
        "the image, 28×28 pixels",
        f"after block 1: 16 maps of {side}×{side}",
        f"after block 2: 32 maps of {smaller}×{smaller}",
    )
    labels = ("brightness of the pixel", "activation", "activation")
    columns = (1, 4, 6)
    for place, maps in enumerate((image, first, second)):
        axes = panels[place]
        drawn = axes.imshow(mosaic(maps, columns[place]).numpy(), cmap="gray", vmin=0)
        axes.set_title(titles[place])
        axes.set_axis_off()
        figure.colorbar(drawn, ax=axes, label=labels[place], shrink=0.7)
    save_figure(figure, run.file("feature_maps.png"))


def mosaic(maps: Tensor, columns: int) -> Tensor:
    """Small images (N×S×S) in rows of `columns` as one, a line of NaN between them."""
    count, side, _ = maps.shape
    rows = -(-count // columns)
    whole = torch.full((rows * (side + 1) - 1, columns * (side + 1) - 1), torch.nan)
    for number, one in enumerate(maps):
        top, left = number // columns * (side + 1), number % columns * (side + 1)
        whole[top : top + side, left : left + side] = one
    return whole
