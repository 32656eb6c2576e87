"""Your own image of a digit, brought into MNIST's form: white on black, 28×28, centred by its mass.

MNIST's images were scaled to fit a box of 20×20 pixels, their proportions kept, and put into a
field of 28×28 with the centre of mass in the middle (Y. LeCun, C. Cortes, C. Burges, "The MNIST
database of handwritten digits").
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import skeletonize
from torch import Tensor

from common.errors import UsageError

Grey = npt.NDArray[np.float64]

LARGEST = 50_000_000  # pixels; a photograph of a good camera has about 25 million
WORKING_SIDE = 300  # the longer side on which ink is looked for: enough for a stroke, and quick
FAINTEST = 0.08  # of the way from black to white: what stands out less is no ink
# MNIST's middle pen: 2.8 pixels in the box of 20 (median of the area over the skeleton's length,
# 500 training images).
PEN = 2.8 / 20


def read_digit(path: Path) -> tuple[Tensor, Tensor]:
    """An image in grey (H×W, 0..1) and its digit in MNIST's form (1×28×28, 0..1).

    Raises UsageError where `read_image` does, and for an image that shows no digit.
    """
    grey = read_image(path)
    try:
        return torch.from_numpy(grey), as_mnist_digit(grey)
    except ValueError as error:
        raise UsageError(f"{path} shows no digit: {error}") from None


def read_image(path: Path) -> Grey:
    """The image's grey values, 0 (black) to 1 (white), H×W, its longer side at most 300 pixels.

    Reads every format that Pillow does, and turns the image as the camera says. Transparent parts
    become white, or black where the rest is light. Raises UsageError for a file that is missing, is
    no image, or has more than 50 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            if image.width * image.height > LARGEST:
                raise UsageError(
                    f"{path} has {image.width}×{image.height} pixels; at most {LARGEST:,} are read"
                )
            return _grey_values(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except Image.DecompressionBombError:
        raise UsageError(f"{path} is too large; at most {LARGEST:,} pixels are read") from None
    except (OSError, SyntaxError, ValueError):
        raise UsageError(
            f"{path} is not an image that can be read; PNG, JPEG and most other formats can"
        ) from None


def _grey_values(image: Image.Image) -> Grey:
    # With 16 bits and more nobody knows which value is white; only the differences are certain.
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        span = values.max() - values.min()
        image = Image.fromarray(((values - values.min()) / (span or 1) * 255).astype(np.uint8))
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    layers = image.convert("LA")
    grey = np.asarray(layers.getchannel("L"), dtype=np.float64) / 255
    alpha = np.asarray(layers.getchannel("A"), dtype=np.float64) / 255
    visible = alpha.sum()
    is_light = visible > 0 and (grey * alpha).sum() / visible > 0.5
    background = 0.0 if is_light and alpha.min() < 0.5 else 1.0
    return grey * alpha + background * (1 - alpha)


def as_mnist_digit(grey: Grey) -> Tensor:
    """The digit in an image (H×W, 0..1) as MNIST shows digits: float32, 1×28×28, paper 0 to ink 1.

    Ink is what differs from its surroundings, so the light may be uneven, and the ink may be darker
    or lighter than the paper. Raises ValueError for a blank image and for mere noise.
    """
    ink = _ink(grey)
    if ink.max() < FAINTEST:
        raise ValueError("it is blank")
    mask = ink > threshold_otsu(ink)
    if mask.mean() > 0.4 and _separability(ink, mask) < 0.76:
        raise ValueError("it is noise all over")
    mask = _digit_only(mask)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(_fitted(np.where(mask, ink, 0)[box], mask[box]))


def _ink(grey: Grey) -> Grey:
    """How far each pixel stands out from the paper around it; the ink may be darker or lighter."""
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / 250)  # against the noise of a camera
    if _is_ink_light(grey):
        grey = 1 - grey
    # A closing fills every dark place narrower than its window with the paper around it; beyond the
    # border the paper continues as it is there.
    window = max(3, min(grey.shape) // 3)
    closed: Grey = ndimage.grey_closing(np.pad(grey, window, mode="edge"), size=(window, window))
    return closed[window:-window, window:-window] - grey


def _is_ink_light(grey: Grey) -> bool:
    # The border shows paper: a quadratic surface through its pixels follows slanting light and dark
    # corners. Few pixels are ink, but they differ much from that surface, so cubes are added up.
    rows, columns = np.indices(grey.shape)
    y, x = rows / grey.shape[0] - 0.5, columns / grey.shape[1] - 0.5
    border = np.maximum(np.abs(y), np.abs(x)) > 0.42
    terms = np.stack([np.ones(grey.shape), y, x, y**2, x * y, x**2], axis=-1)
    surface, *_ = np.linalg.lstsq(terms[border], grey[border], rcond=None)
    return float(((grey - terms @ surface) ** 3).sum()) > 0


def _separability(ink: Grey, mask: npt.NDArray[np.bool_]) -> float:
    """How clearly ink and paper are two groups, by Otsu's ratio.

    It is 1 for two values only, and 0.64 for normal noise cut in half.
    """
    share = mask.mean()
    return float(share * (1 - share) * (ink[mask].mean() - ink[~mask].mean()) ** 2 / ink.var())


def _digit_only(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask without specks, and without what touches the border if something else does not.

    A shadow or dark corners touch the border.
    """
    labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)
    sizes[0] = 0
    border = np.concatenate([labelled[0], labelled[-1], labelled[:, 0], labelled[:, -1]])
    inside = np.where(np.isin(np.arange(count + 1), border), 0, sizes)
    if inside.max() >= 0.1 * sizes.max():
        sizes = inside
    return np.isin(labelled, np.flatnonzero(sizes > 0.1 * sizes.max()))


def _fitted(ink: Grey, mask: npt.NDArray[np.bool_]) -> Grey:
    """The ink with a pen as thick as MNIST's, scaled to fit 20×20 pixels, 0..1."""
    longer = max(mask.shape)
    pen = mask.sum() / max(1, skeletonize(mask).sum())
    missing = round((PEN * longer - pen) / 2)
    ink = ink / np.median(ink[mask])
    if missing > 0:
        ink = ndimage.grey_dilation(np.pad(ink, missing), footprint=_disk(missing))
        longer += 2 * missing
    height, width = (max(1, round(20 * side / max(ink.shape))) for side in ink.shape)
    image = Image.fromarray(ink.clip(0, 1).astype(np.float32))
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.float64).clip(0, 1)


def _disk(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2)


def _centred(ink: Grey) -> Tensor:
    """The ink in a field of 28×28, its centre of mass as near to (14, 14) as whole pixels allow."""
    field = np.zeros((28, 28))
    tops = []
    for centre, side in zip(ndimage.center_of_mass(ink), ink.shape, strict=True):
        tops.append(int(np.clip(round(14 - centre), 0, 28 - side)))
    field[tops[0] : tops[0] + ink.shape[0], tops[1] : tops[1] + ink.shape[1]] = ink
    return torch.from_numpy(field).float().unsqueeze(0)
