"""Images as numbers (5.1), features made by hand (5.2), and the ten classes (5.3)."""

from __future__ import annotations

from typing import Any

import skimage
import torch
from matplotlib.axes import Axes
from torchvision.datasets import FashionMNIST

from common.data import LabelledImages
from common.figures import COLOURS, image_grid, new_figure, save_figure
from common.runs import Run
from common.terminal import say

NAMES = FashionMNIST.classes


def astronaut() -> Any:
    """200×200 pixels (uint8, H×W×3) of an image that ships with scikit-image."""
    return skimage.data.astronaut()[20:220, 100:300]


def show_arrays(run: Run) -> None:
    """5.1: an image as numbers: grey, as 25×25, and the last 3×3 pixels of its colours."""
    colours = astronaut()
    grey = skimage.util.img_as_ubyte(skimage.color.rgb2gray(colours))
    resized = skimage.transform.resize(grey, (25, 25), anti_aliasing=True, preserve_range=True)
    small = resized.round().astype("uint8")
    size = "×".join(map(str, colours.shape))
    say(f"An image of {size} pixels and colours, in grey and as 25×25. Its first four rows:")
    for row in small[:4]:
        for part in (row[:13], row[13:]):  # 25 numbers are too long for a line
            print(" ".join(f"{value:3d}" for value in part))
        print()
    say("The last 3×3 pixels in colour, each red, green and blue:")
    for row in colours[-3:, -3:]:
        print("  ".join(str(tuple(int(value) for value in pixel)) for pixel in row))
    title = "An image is an array: each pixel a number, 0 black and 255 white"
    figure, (whole, few, numbers, corner) = new_figure(title, 1, 4, width=4.0, height=4.5)
    whole.imshow(grey, cmap="gray", vmin=0, vmax=255)
    few.imshow(small, cmap="gray", vmin=0, vmax=255)
    draw_numbers(numbers, small[:12, 6:18])
    corner.imshow(colours[-3:, -3:])
    captions = {
        whole: "200×200 pixels, grey",
        few: "25×25 pixels",
        numbers: "part of it, with its numbers",
        corner: "the last 3×3 pixels, in colour",
    }
    for panel, caption in captions.items():
        panel.set_title(caption)
        panel.set_axis_off()
    save_figure(figure, run.file("arrays.png"))


def draw_numbers(axes: Axes, pixels: Any) -> None:
    """Draws grey pixels (H×W) with their values written over them."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    for row, values in enumerate(pixels):
        for column, value in enumerate(values):
            colour = "black" if value > 127 else "white"
            axes.text(
                column, row, str(value), ha="center", va="center", fontsize=7, color=colour
            )


def show_features(run: Run) -> None:
    """5.2: what was made by hand before networks found it: histogram, edges, corners, gradients."""
    colours = astronaut()
    grey = skimage.color.rgb2gray(colours)
    response = skimage.feature.corner_harris(grey)
    corners = skimage.feature.corner_peaks(response, min_distance=5, threshold_rel=0.02)
    title = "Features made by hand: what each keeps of the image, and what it leaves out"
    figure, panels = new_figure(title, 2, 4, width=3.4, height=3.3)
    panels[0].hist((255 * grey).ravel(), bins=64, range=(0, 255), color=COLOURS[5])
    panels[0].set(title="histogram", xlabel="grey value (0–255)", ylabel="pixels")
    images = {
        "edges": (skimage.feature.canny(grey, sigma=2), 0, 1),
        "corners": (grey, 0, 1),
        "red channel": (colours[..., 0], 0, 255),
        "green channel": (colours[..., 1], 0, 255),
        "blue channel": (colours[..., 2], 0, 255),
        "gradient along y": (skimage.filters.sobel_h(grey), -0.5, 0.5),
        "gradient along x": (skimage.filters.sobel_v(grey), -0.5, 0.5),
    }
    for panel, (name, (image, low, high)) in zip(panels[1:], images.items(), strict=True):
        panel.imshow(image, cmap="gray", vmin=low, vmax=high)
        panel.set_title(name)
        panel.set_axis_off()
    # Amber on a black edge: seen on dark and on bright pixels.
    panels[2].plot(corners[:, 1], corners[:, 0], "o", color=COLOURS[3], markeredgecolor="black")
    save_figure(figure, run.file("features.png"))


def show_classes(run: Run, clothes: LabelledImages) -> None:
    """5.3: ten random images of each class, a class a row."""
    generator = torch.Generator().manual_seed(run.seed)
    order = torch.randperm(len(clothes), generator=generator)
    chosen, captions = [], []
    for number, name in enumerate(NAMES):
        members = order[clothes.labels[order] == number][:10]
        chosen.append(members)
        captions += [name, *[""] * 9][: len(members)]
    image_grid(
        clothes.images[torch.cat(chosen)],
        run.file("classes.png"),
        title="Ten images of each class, a class a row: which classes look alike?",
        columns=10,
        width=0.95,
        captions=captions,
    )
