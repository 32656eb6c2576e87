"""A user's own picture of a digit, brought into the form of MNIST's: white on black, 28×28, centred
by its mass.

MNIST's pictures were scaled to fit a box of 20×20 pixels, their proportions kept, and put into a
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
FAINTEST = 0.08  # of the way from black to white: an ink that stands out less is no ink
# MNIST's middle pen: 2.8 pixels in the box of 20 (median of the area over the skeleton's length,
# 500 training images).
PEN = 2.8 / 20


def read_picture(path: Path) -> Grey:
    """The picture's grey values, 0 (black) to 1 (white), H×W, its longer side at most 300 pixels.

    Any format Pillow reads; turned as the camera says; what is transparent lies on white, or on
    black where the rest is light. Raises UsageError for a file that is missing, no picture, or has
    more than 50 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
        with picture:
            if picture.width * picture.height > LARGEST:
                raise UsageError(
                    f"{path} has {picture.width}×{picture.height} pixels; at most {LARGEST:,} are read"
                )
            return _grey_values(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except Image.DecompressionBombError:
        raise UsageError(f"{path} is too large; at most {LARGEST:,} pixels are read") from None
    except (OSError, SyntaxError, ValueError):
        raise UsageError(
            f"{path} is not a picture that can be read; most formats can, such as PNG and JPEG"
        ) from None


def _grey_values(picture: Image.Image) -> Grey:
    if picture.mode.startswith(
        ("I", "F")
    ):  # 16 bits and more, of which only the differences say something
        values = np.asarray(picture, dtype=np.float64)
        span = values.max() - values.min()
        picture = Image.fromarray(((values - values.min()) / (span or 1) * 255).astype(np.uint8))
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    layers = picture.convert("LA")
    grey, alpha = (
        np.asarray(layers.getchannel(channel), dtype=np.float64) / 255 for channel in "LA"
    )
    visible = alpha.sum()
    is_light = visible > 0 and (grey * alpha).sum() / visible > 0.5
    background = 0.0 if is_light and alpha.min() < 0.5 else 1.0
    return grey * alpha + background * (1 - alpha)


def as_mnist_digit(grey: Grey) -> Tensor:
    """The digit in the picture (H×W, 0..1) as MNIST would show it: float32, 1×28×28, 0 (paper) to 1
    (ink).

    Ink is what differs from its surroundings, so the light may be uneven, and may be the darker or
    the lighter. Raises ValueError for a blank picture and for mere noise.
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
    """How far each pixel stands out from the paper around it, whether the ink is the darker or the lighter."""
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / 250)  # against the noise of a camera
    if _is_ink_light(grey):
        grey = 1 - grey
    # A closing fills every dark place narrower than its window with the paper around it; beyond the
    # border the paper goes on as it is there.
    window = max(3, min(grey.shape) // 3)
    closed: Grey = ndimage.grey_closing(np.pad(grey, window, mode="edge"), size=(window, window))
    return closed[window:-window, window:-window] - grey


def _is_ink_light(grey: Grey) -> bool:
    # Paper is what the border shows: a quadratic surface through its pixels follows slanting light
    # and dark corners. Of what differs from it ink is little but far off, so cubes are added up.
    y, x = (
        index / side - 0.5 for index, side in zip(np.indices(grey.shape), grey.shape, strict=True)
    )
    border = np.maximum(np.abs(y), np.abs(x)) > 0.42
    terms = np.stack([np.ones(grey.shape), y, x, y**2, x * y, x**2], axis=-1)
    surface, *_ = np.linalg.lstsq(terms[border], grey[border], rcond=None)
    return float(((grey - terms @ surface) ** 3).sum()) > 0


def _separability(ink: Grey, mask: npt.NDArray[np.bool_]) -> float:
    """How far ink and paper are two groups: Otsu's ratio, 1 for two values only, 0.64 for normal noise cut in half."""
    share = mask.mean()
    return float(share * (1 - share) * (ink[mask].mean() - ink[~mask].mean()) ** 2 / ink.var())


def _digit_only(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Without specks, and without what hangs on the border (a shadow, dark corners) where something else does not."""
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
    picture = Image.fromarray(ink.clip(0, 1).astype(np.float32))
    return np.asarray(
        picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float64
    ).clip(0, 1)


def _disk(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2)


def _centred(ink: Grey) -> Tensor:
    """In a field of 28×28 so that the centre of mass is at (14, 14), as near as whole pixels and the edges allow."""
    field = np.zeros((28, 28))
    tops = []
    for centre, side in zip(ndimage.center_of_mass(ink), ink.shape, strict=True):
        tops.append(int(np.clip(round(14 - centre), 0, 28 - side)))
    field[tops[0] : tops[0] + ink.shape[0], tops[1] : tops[1] + ink.shape[1]] = ink
    return torch.from_numpy(field).float().unsqueeze(0)
