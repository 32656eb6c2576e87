"""Your own image of digits, each brought into MNIST's form: white on black, 28×28, centred by mass.

MNIST's images were scaled to fit a box of 20×20 pixels, their proportions kept, and put into a
field of 28×28 with the centre of mass in the middle (Y. LeCun, C. Cortes, C. Burges, "The MNIST
database of handwritten digits").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.morphology import skeletonize
from torch import Tensor

from common.errors import UsageError
from common.image_files import OwnImage, own_image, read_image
from common.ink import FAINTEST, find_ink, separability
from common.strokes import Box, Part, find_digits

Grey = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# MNIST's middle pen: 2.8 pixels in the box of 20 (median of the area over the skeleton's length,
# 500 training images).
PEN = 2.8 / 20
SMALL = 160  # pixels of the longer side: a smaller image is enlarged
LARGE = 100  # pixels of the longer side on which the pen is measured and changed
WEAKER = 0.7  # of the threshold: so weak ink is ink too where it continues a stroke
WIDE = 1.3  # width over height: of MNIST's digits 1 in 100 are wider
BLUR = 4  # pixels: between the grey steps of an enlarged image
NEARBY = 12  # pixels: how far around a pixel the darkest is looked for
FADED = 0.3  # of the darkest pixel: paler strokes are not made darker
PALE, FULL = 0.6, 0.95  # of the darkest pixel nearby: at most so dark is paper, so dark is ink


def read_digits(path: Path) -> list[OwnImage]:
    """The digits of an image file in MNIST's form (1×28×28, 0..1), line by line from the left.

    Raises UsageError where `read_image` does, and for an image that shows no digit.
    """
    colours = read_image(path)
    try:
        digits = digits_in(colours)
    except ValueError as error:
        raise UsageError(f"{path} shows no digit: {error}") from None
    own = []
    for number, (image, part) in enumerate(digits, 1):
        name = path.name if len(digits) == 1 else f"{path.name}, digit {number}"
        original = colours if len(digits) == 1 else _surroundings(colours, part)
        note = "perhaps several digits that touch" if part.width > WIDE * part.height else ""
        own.append(own_image(name, original, image, note))
    return own


def digits_in(image: Grey) -> list[tuple[Tensor, Box]]:
    """The digits in an image (H×W or H×W×3, 0..1), line by line from the left, and where they are.

    Ink is what differs from its surroundings, so the light may be uneven, and the ink may be darker
    or lighter than the paper, or only of another colour. Raises ValueError for a blank image and
    for mere noise.
    """
    ink = find_ink(_enlarged(image))
    if ink.max() < FAINTEST:
        raise ValueError("it is blank, or its strokes are too thin")
    threshold = threshold_otsu(ink)
    mask = ink > threshold
    if mask.mean() > 0.4 and separability(ink, mask) < 0.76:
        raise ValueError("it is noise all over")
    scale = max(image.shape) / max(ink.shape)
    mask = apply_hysteresis_threshold(ink, WEAKER * threshold, threshold)
    digits = []
    for part in find_digits(mask):
        own_ink = np.where(mask & ~part.mask, 0, ink)
        digits.append((_centred(_fitted(own_ink, part)), part.scaled(scale)))
    return digits


def _enlarged(image: Grey) -> Grey:
    """A small image, its longer side brought to about 160 pixels; others as they are."""
    factor = round(SMALL / max(image.shape))
    if factor < 2:
        return image
    size = (factor * image.shape[1], factor * image.shape[0])
    layers = np.moveaxis(np.atleast_3d(image), 2, 0).astype(np.float32)
    large = [
        np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC))
        for layer in layers
    ]
    values = np.stack(large, axis=-1).clip(0, 1).astype(np.float64)
    return values[..., 0] if image.ndim == 2 else values


def _surroundings(colours: Grey, part: Box) -> Grey:
    margin = part.height // 6
    rows = slice(max(0, part.top - margin), part.bottom + margin)
    columns = slice(max(0, part.left - margin), part.right + margin)
    return colours[rows, columns]


def _fitted(ink: Grey, part: Part) -> Grey:
    """A digit's ink with a pen about as thick as MNIST's, scaled to fit 20×20 pixels, 0..1."""
    margin = max(part.height, part.width) // 8 + 1
    box = part.grown(margin)
    ink, mask = np.pad(ink, margin)[box], np.pad(part.mask, margin)[box]
    ink = np.where(_grown(mask, margin / 2), ink, 0)
    ink = _scaled(ink / ink.max(), LARGE / max(part.height, part.width))
    ink = ndimage.gaussian_filter(ink, BLUR)
    ink /= ink.max()
    # Strokes that run into each other: each is darkest in its middle.
    darkest = ndimage.gaussian_filter(ndimage.maximum_filter(ink, NEARBY), NEARBY / 2)
    ink = ((ink / np.maximum(darkest, FADED) - PALE) / (FULL - PALE)).clip(0, 1)
    mask = ink > 0.5
    missing = (PEN * LARGE - mask.sum() / max(1, skeletonize(mask).sum())) / 2
    if missing > 0:
        radius = round(missing)
        ink = ndimage.grey_dilation(np.pad(ink, radius), footprint=_disk(radius))
    ink = ink[Part(ink > 0.1).grown(0)]
    return _scaled(ink, 20 / max(ink.shape))


def _grown(mask: Mask, by: float) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~mask) <= by)


def _scaled(image: Grey, factor: float) -> Grey:
    """The image, its sides `factor` times as long."""
    height, width = (max(1, round(factor * side)) for side in image.shape)
    scaled = Image.fromarray(image.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(scaled, dtype=np.float64).clip(0, 1)


def _disk(radius: int) -> Mask:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2)


def _centred(ink: Grey) -> Tensor:
    """The ink in a field of 28×28, its centre of mass as near to (14, 14) as whole pixels allow."""
    field = np.zeros((28, 28))
    starts = []
    for centre, side in zip(ndimage.center_of_mass(ink), ink.shape, strict=True):
        starts.append(int(np.clip(round(14 - centre), 0, 28 - side)))
    top, left = starts
    field[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return torch.from_numpy(field).float().unsqueeze(0)
