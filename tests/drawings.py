"""Digits that are not MNIST's: printed ones, pen strokes drawn with Pillow, bad photographs; and
garments before many backgrounds."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from common.digits import digits_in

Grey = npt.NDArray[np.float64]
Points = list[tuple[float, float]]
Colour = tuple[int, int, int]

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "STIXGeneral", "cmss10",
    "cmtt10",
)  # fmt: skip


def as_mnist_digit(image: Grey) -> Tensor:
    """The first digit found in an image (H×W or H×W×3, 0..1), 1×28×28."""
    return digits_in(image)[0][0]


def font_digit(digit: int, font: str) -> Image.Image:
    """A printed digit, black on white, off the middle of 300×260 pixels."""
    image = Image.new("L", (300, 260), 255)
    draw = ImageDraw.Draw(image)
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    letters = ImageFont.truetype(str(file), 180)
    draw.text((175, 120), str(digit), fill=0, font=letters, anchor="mm")
    return image


def _arc(x: float, y: float, rx: float, ry: float, start: int, end: int) -> Points:
    angles = np.radians(np.linspace(start, end, 24))
    return [(x + rx * float(np.cos(angle)), y + ry * float(np.sin(angle))) for angle in angles]


STROKES: dict[int, list[Points]] = {
    0: [_arc(0.5, 0.5, 0.3, 0.42, -90, 270)],
    1: [[(0.35, 0.25), (0.52, 0.08), (0.52, 0.92)]],
    2: [[*_arc(0.48, 0.3, 0.26, 0.22, 190, 390), (0.25, 0.9), (0.78, 0.9)]],
    3: [[*_arc(0.45, 0.29, 0.25, 0.2, 200, 440), *_arc(0.45, 0.69, 0.28, 0.22, 270, 520)]],
    4: [[(0.6, 0.08), (0.2, 0.62), (0.82, 0.62)], [(0.62, 0.35), (0.62, 0.95)]],
    5: [[(0.75, 0.1), (0.32, 0.1), (0.3, 0.45), *_arc(0.47, 0.65, 0.27, 0.24, 230, 500)]],
    6: [[(0.65, 0.08), (0.4, 0.35), *_arc(0.48, 0.68, 0.22, 0.22, 180, 540)]],
    7: [[(0.22, 0.12), (0.78, 0.12), (0.42, 0.92)]],
    8: [_arc(0.5, 0.29, 0.2, 0.19, 90, 450), _arc(0.5, 0.7, 0.25, 0.22, 270, 630)],
    9: [[*_arc(0.5, 0.32, 0.22, 0.22, 0, 360), (0.72, 0.32), (0.66, 0.92)]],
}


def pen_digit(
    digit: int, random: np.random.Generator, *, pen: int = 14, side: int = 240
) -> Image.Image:
    """A digit, black on white, side×side pixels, drawn by a trembling pen `pen` pixels wide."""
    image = Image.new("L", (2 * side, 2 * side), 255)
    draw = ImageDraw.Draw(image)
    slant, breadth = random.normal(0, 0.12), random.uniform(0.6, 0.8)
    for stroke in STROKES[digit]:
        points = []
        for x, y in stroke:
            across = 0.5 + (x - 0.5) * breadth - slant * (y - 0.5) + random.normal(0, 0.008)
            down = 0.5 + (y - 0.5) * 0.75 + random.normal(0, 0.008)
            points.append((2 * side * across, 2 * side * down))
        draw.line(points, fill=0, width=2 * pen, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse([x - pen, y - pen, x + pen, y + pen], fill=0)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def photographs(image: Image.Image, random: np.random.Generator) -> dict[str, Grey]:
    """The image as a careless photographer might take it, 0..1."""
    paper = np.asarray(image, dtype=np.float64) / 255
    rows, columns = np.indices(paper.shape)
    y, x = rows / paper.shape[0] - 0.5, columns / paper.shape[1] - 0.5
    slanting, dark_corners = 0.7 + 0.5 * x, 1 - 1.2 * (x**2 + y**2)
    return {
        "as drawn": paper,
        "light on dark": 1 - paper,
        "faint": 0.35 + 0.3 * paper,
        "slanting light": slanting * (0.25 + 0.75 * paper),
        "dark corners": dark_corners * (0.25 + 0.75 * paper),
        "a shadow": np.where(x + 0.5 * y > 0.3, 0.55, 1.0) * (0.2 + 0.8 * paper),
        "noise": np.clip(0.2 + 0.6 * paper + random.normal(0, 0.12, paper.shape), 0, 1),
        "light on dark, slanting, noise": np.clip(
            slanting * (1 - 0.75 * paper) + random.normal(0, 0.06, paper.shape), 0, 1
        ),
    }


def thin_digit(digit: int, side: int) -> Image.Image:
    """A digit, black on white, side×side pixels, in strokes one pixel wide."""
    image = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(image)
    for stroke in STROKES[digit]:
        draw.line([((0.15 + 0.7 * x) * side, (0.1 + 0.8 * y) * side) for x, y in stroke], fill=0)
    return image


def cropped(image: Image.Image) -> Image.Image:
    """A drawing black on white, cut so that its ink reaches all four edges."""
    ink = np.asarray(image) < 128
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    return image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def in_colours(image: Image.Image, ink: Colour, paper: Colour) -> Grey:
    """A drawing black on white in two colours (red, green and blue, 0..255): H×W×3, 0..1."""
    share = np.asarray(image, dtype=np.float64)[..., None] / 255
    return (share * np.array(paper) + (1 - share) * np.array(ink)) / 255


BACKGROUNDS = ("white", "black", "a grey wall in slanting light", "wood", "grass")


def background(name: str, side: int, random: np.random.Generator) -> Grey:
    """What a garment may lie on: side×side×3, 0..1."""
    rows, columns = np.indices((side, side)) / side
    flat = {"white": (0.96, 0.96, 0.95), "black": (0.04, 0.04, 0.05)}
    if name in flat:
        return np.full((side, side, 3), flat[name]) + random.normal(0, 0.01, (side, side, 1))
    if name == "wood":
        grain = 0.05 * np.sin(40 * columns + 3 * np.sin(4 * rows))[..., None]
        return np.array([0.72, 0.5, 0.3]) + grain + random.normal(0, 0.015, (side, side, 1))
    if name == "grass":
        return np.array([0.2, 0.45, 0.12]) + random.normal(0, 0.05, (side, side, 1))
    light = (0.75 + 0.2 * columns - 0.1 * rows)[..., None] * np.ones(3)
    return np.asarray(light + random.normal(0, 0.015, (side, side, 1)))


def photographed(garment: Grey, name: str, random: np.random.Generator, side: int = 220) -> Grey:
    """An image of Fashion-MNIST (28×28, 0..1) enlarged, in its true brightness, before something.

    Fashion-MNIST's images are negatives. Side×side×3, 0..1, with a margin around the garment.
    """
    size = int(0.7 * side)
    large = Image.fromarray((garment * 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    values = np.asarray(large, dtype=np.float64)[..., None] / 255
    cover = np.clip((values - 0.03) / 0.07, 0, 1)  # what is black in the negative is not garment
    photograph = background(name, side, random)
    top, left = (int(place) for place in random.integers(side // 20, side // 4, 2))
    part = photograph[top : top + size, left : left + size]
    part[:] = cover * (1 - values) + (1 - cover) * part
    return photograph.clip(0, 1)
