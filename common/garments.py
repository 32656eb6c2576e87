"""Your own photograph of a garment, brought into Fashion-MNIST's form: light on black, 28×28.

Fashion-MNIST's images are photographs on a white ground, trimmed, their longer side brought to 28
pixels, put in the middle and negated, so that the ground is black and dark clothes are light
(H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from torch import Tensor

from common.errors import UsageError
from common.image_files import Colours, OwnImage, own_image, read_image
from common.ink import FAINTEST, border_surface
from common.strokes import Part

Grey = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIDE = 28
# A light garment is shifted until its pixels have this mean, that of Fashion-MNIST's light clothes.
LIGHT_CLOTHES = 0.4
PIECE = 0.05  # of the largest piece's pixels: a smaller one is no part of the garment


def read_garment(path: Path) -> list[OwnImage]:
    """The garment on a photograph in Fashion-MNIST's form (1×28×28, 0..1), as the only one.

    Raises UsageError where `read_image` does, and where nothing stands out from the background.
    """
    colours = read_image(path)
    try:
        image = as_fashion_garment(colours)
    except ValueError as error:
        raise UsageError(f"{path} shows no garment: {error}") from None
    return [own_image(path.name, colours, image)]


def as_fashion_garment(colours: Colours) -> Tensor:
    """The garment on a photograph (H×W×3, 0..1) as Fashion-MNIST shows clothes: 1×28×28, 0..1.

    The background may be light or dark; it is what most of the border shows. Raises ValueError
    where nothing stands out from it.
    """
    mask = _foreground(colours)
    grey = colours @ np.array([0.299, 0.587, 0.114])
    negated = 1 - grey
    light = max(0.0, LIGHT_CLOTHES - float(negated[mask].mean()))
    garment = np.where(mask, negated + light, 0).clip(0, 1)
    return _fitted(garment[Part(mask).grown(0)])


def _foreground(colours: Colours) -> Mask:
    """What differs in colour from the background, without small pieces.

    Raises ValueError where nothing does.
    """
    smooth = ndimage.gaussian_filter(colours, (*(max(colours.shape) / 150,) * 2, 0))
    ground = np.stack([border_surface(smooth[..., layer]) for layer in range(3)], axis=-1)
    distance = np.linalg.norm(smooth - ground, axis=2)
    if distance.max() < FAINTEST:
        raise ValueError("nothing stands out from its background")
    threshold = threshold_otsu(distance)
    mask = apply_hysteresis_threshold(distance, threshold / 2, threshold)
    labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.isin(labelled, np.flatnonzero(sizes > PIECE * sizes.max()))


def _fitted(garment: Grey) -> Tensor:
    """The garment (H×W, 0..1), its longer side 28 pixels, in the middle of 28×28 black ones."""
    factor = SIDE / max(garment.shape)
    height, width = (max(1, round(factor * side)) for side in garment.shape)
    image = Image.fromarray(garment.astype(np.float32))
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
    field = torch.zeros(1, SIDE, SIDE)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    field[0, top : top + height, left : left + width] = torch.from_numpy(scaled)
    return field
