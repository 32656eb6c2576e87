"""Images as numbers (5.1), features made by hand (5.2), and the ten classes (5.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import skimage
import torch
from matplotlib.axes import Axes

from common.data import CLOTHES, LabelledImages
from common.figures import COLOURS, image_grid, new_figure, save_figure
from common.runs import Run
from common.terminal import print_table, say

CHANNELS = ("red", "green", "blue")


# 5.1: an image as numbers


def astronaut() -> Any:
    """200×200 pixels (uint8, H×W×3, red, green, blue) of an image that is part of scikit-image."""
    return skimage.data.astronaut()[20:220, 100:300]


def to_grey(colours: Any) -> Any:
    """Grey values (uint8, H×W) of an image in colour (uint8, H×W×3)."""
    return skimage.util.img_as_ubyte(skimage.color.rgb2gray(colours))


def to_25_by_25(grey: Any) -> Any:
    """A grey image on 25×25 pixels (uint8)."""
    small = skimage.transform.resize(grey, (25, 25), anti_aliasing=True, preserve_range=True)
    return small.round().astype("uint8")


def as_opencv_reads(colours: Any) -> Any:
    """The same image (H×W×3) with the channels as `cv2.imread` gives them: blue, green, red."""
    return colours[..., ::-1]


def show_arrays(run: Run) -> None:
    """5.1: an image as numbers, in grey and in colour; all numbers of its 25×25 grey pixels."""
    colours = astronaut()
    grey = to_grey(colours)
    small = to_25_by_25(grey)
    print_arrays(colours, small)
    draw_arrays(run, colours, grey, small)
    title = "All numbers of the 25×25 grey pixels: the larger, the brighter"
    figure, (axes,) = new_figure(title, width=9.5, height=9.5)
    draw_numbers(axes, small)
    axes.set_axis_off()
    save_figure(figure, run.file("numbers.png"))


def print_arrays(colours: Any, small: Any) -> None:
    """Prints the shape, the first four rows in grey, and the last 3×3 pixels in both orders."""
    say(
        f"An image in colour is an array of {'×'.join(map(str, colours.shape))} numbers from 0 to "
        "255: height, width, channels. In grey it has one number a pixel. The first four rows of "
        "25×25 grey pixels (numbers.png has all):"
    )
    for row in small[:4]:
        for part in (row[:13], row[13:]):  # 25 numbers are too long for a line
            print(" ".join(f"{value:3d}" for value in part))
        print()
    corner = colours[-3:, -3:]
    say("The last 3×3 pixels in colour, each red, green, blue:")
    print_pixels(corner)
    say("The same from OpenCV (cv2.imread), which gives blue, green, red:")
    print_pixels(as_opencv_reads(corner))


def print_pixels(pixels: Any) -> None:
    """Prints the three numbers of each pixel (H×W×3), a row a line."""
    for row in pixels:
        print("  ".join("(" + ", ".join(f"{value:3d}" for value in pixel) + ")" for pixel in row))
    print()


def draw_arrays(run: Run, colours: Any, grey: Any, small: Any) -> None:
    """Saves the image in colour, in grey and as 25×25, its corner, and its channels reversed."""
    title = "An image is an array of numbers: in grey one a pixel, in colour three"
    figure, panels = new_figure(title, 2, 3, width=4.0, height=4.3)
    panels[0].imshow(colours)
    panels[1].imshow(grey, cmap="gray", vmin=0, vmax=255)
    panels[2].imshow(small, cmap="gray", vmin=0, vmax=255)
    corner = colours[-3:, -3:]
    draw_pixels(panels[3], corner, corner)
    draw_pixels(panels[4], corner, as_opencv_reads(corner))
    panels[5].imshow(as_opencv_reads(colours))
    captions = (
        "in colour: 200×200×3 numbers",
        "in grey: 200×200 numbers",
        "25×25: the fewer pixels, the less is seen",
        "the last 3×3 pixels: red, green, blue",
        "the same from OpenCV: blue, green, red",
        "drawn in OpenCV's order:\nred and blue have changed places",
    )
    for panel, caption in zip(panels, captions, strict=True):
        panel.set_title(caption)
        panel.set_axis_off()
    save_figure(figure, run.file("arrays.png"))


def draw_numbers(axes: Axes, pixels: Any) -> None:
    """Draws grey pixels (H×W) with their values written over them."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    for row, values in enumerate(pixels):
        for column, value in enumerate(values):
            write(axes, row, column, str(value), brightness=value)


def draw_pixels(axes: Axes, pixels: Any, numbers: Any) -> None:
    """Draws pixels in colour (H×W×3) and writes over each its three `numbers` (H×W×3)."""
    axes.imshow(pixels)
    for row, column in np.ndindex(pixels.shape[:2]):
        text = "\n".join(str(value) for value in numbers[row, column])
        write(axes, row, column, text, brightness=pixels[row, column].mean(), size=12)


def write(
    axes: Axes, row: int, column: int, text: str, *, brightness: float, size: int = 9
) -> None:
    """Writes over a pixel of that brightness (0..255), in the colour that is easier to read."""
    colour = "black" if brightness > 117 else "white"
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


# 5.2: features made by hand


def gradients(grey: Any) -> tuple[Any, Any, Any]:
    """How fast grey values (H×W, 0..1) change: overall, along y and along x."""
    along_y, along_x = skimage.filters.sobel_h(grey), skimage.filters.sobel_v(grey)
    return np.hypot(along_y, along_x), along_y, along_x


def only_channel(colours: Any, channel: int) -> Any:
    """An image (H×W×3) with 0 in the two other channels."""
    alone = np.zeros_like(colours)
    alone[..., channel] = colours[..., channel]
    return alone


def show_features(run: Run) -> None:
    """5.2: what was made by hand before networks found it: histogram, edges, colours, gradients."""
    colours = astronaut()
    grey = skimage.color.rgb2gray(colours)
    response = skimage.feature.corner_harris(grey)
    corners = skimage.feature.corner_peaks(response, min_distance=5, threshold_rel=0.02)
    overall, along_y, along_x = gradients(grey)
    title = "Features made by hand: what each keeps of the image, and what it leaves out"
    figure, panels = new_figure(title, 3, 3, width=3.4, height=3.5)
    panels[0].hist((255 * grey).ravel(), bins=64, range=(0, 255), color=COLOURS[5])
    panels[0].set(xlabel="grey value (0–255)", ylabel="pixels")
    panels[0].set_title("histogram", fontsize=10)
    images = {
        "edges": (skimage.feature.canny(grey, sigma=2), 0, 1),
        "corners": (grey, 0, 1),
        "the red of each pixel": (only_channel(colours, 0), 0, 255),
        "the green of each pixel": (only_channel(colours, 1), 0, 255),
        "the blue of each pixel": (only_channel(colours, 2), 0, 255),
        "overall gradient:\nthe brighter, the faster grey changes": (overall, 0, 0.5),
        "gradient along y:\nwhite: brighter below, black: darker": (along_y, -0.5, 0.5),
        "gradient along x:\nwhite: brighter to the right, black: darker": (along_x, -0.5, 0.5),
    }
    for panel, (name, (image, low, high)) in zip(panels[1:], images.items(), strict=True):
        panel.imshow(image, cmap="gray", vmin=low, vmax=high)
        panel.set_title(name, fontsize=10)
        panel.set_axis_off()
    # Amber on a black edge: seen on dark and on bright pixels.
    panels[2].plot(corners[:, 1], corners[:, 0], "o", color=COLOURS[3], markeredgecolor="black")
    save_figure(figure, run.file("features.png"))


# 5.3: the data


def show_classes(run: Run, clothes: LabelledImages) -> None:
    """5.3: what the data are, and ten random images of each class, a class a row."""
    print_classes(clothes)
    generator = torch.Generator().manual_seed(run.seed)
    order = torch.randperm(len(clothes), generator=generator)
    chosen, captions = [], []
    for number, name in enumerate(CLOTHES):
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


def print_classes(clothes: LabelledImages) -> None:
    """Prints the shapes of images and labels, and each label with its class."""
    images, labels = clothes.images, clothes.labels
    say(
        f"Images: {'×'.join(f'{size:,}' for size in images.shape)} (images, channels, rows, "
        f"columns), numbers from {images.min()} to {images.max()}. Labels: {len(labels):,}, one "
        "for each image."
    )
    present, counts = labels.unique(return_counts=True)
    rows = [
        [label, CLOTHES[label], count]
        for label, count in zip(present.tolist(), counts.tolist(), strict=True)
    ]
    title = f"The task: which of {len(present)} classes is it?"
    print_table(title, ["label", "class", "images"], rows)
