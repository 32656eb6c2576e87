"""Where there is ink on an image: what differs from the paper around it, whatever the light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

Grey = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FAINTEST = 0.08  # of the way from black to white: what stands out less is no ink
BORDER = 0.08  # of the sides: the frame in which most of what is seen is paper
SMOOTH = 0.25  # of the contrast: where the border is so near its surface, it is paper
CLEARLY = 0.08  # of an image's pixels: by so much more than half are paper
EVEN = 0.04  # of the way from black to white: where light differs less, it is even
POINTS = 2000  # of the border, through which a surface is laid: enough, and quick
MUCH_MORE = 2.0  # a colour's contrast over that of the brightness, for the colour to be looked at


def find_ink(image: Grey) -> Grey:
    """How far each pixel stands out from the paper (H×W, 0..1), from H×W or H×W×3.

    The light may be uneven, and the ink darker than the paper, lighter, or only of another colour;
    it may reach the edge. The brightness is looked at, unless a colour stands out much more.
    """
    if image.ndim == 2:
        return _stands_out(image)
    red, green, blue = np.moveaxis(image, 2, 0)
    brightness = _stands_out(0.299 * red + 0.587 * green + 0.114 * blue)
    best, most = brightness, MUCH_MORE * contrast(brightness)
    for colour in ((red - green) / 2, (blue - (red + green) / 2) / 2):
        if np.ptp(colour) > FAINTEST:
            ink = _stands_out(colour + 0.5)
            if contrast(ink) > most:
                best, most = ink, contrast(ink)
    return best


def contrast(ink: Grey) -> float:
    """How far ink stands out from paper, on average, where Otsu's threshold parts them."""
    if np.ptp(ink) == 0:
        return 0.0
    mask = ink > threshold_otsu(ink)
    return float(ink[mask].mean() - ink[~mask].mean())


def separability(ink: Grey, mask: Mask) -> float:
    """How clearly ink and paper are two groups, by Otsu's ratio.

    It is 1 for two values only, and 0.64 for normal noise cut in half.
    """
    share = mask.mean()
    return float(share * (1 - share) * (ink[mask].mean() - ink[~mask].mean()) ** 2 / ink.var())


def border_surface(grey: Grey) -> Grey:
    """The plane through most pixels of an image's border (H×W), at each of its pixels."""
    border, terms = _border_and_terms(grey.shape)
    return _surface(grey, border, terms[..., :3])


def _stands_out(grey: Grey) -> Grey:
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / 250)  # against the noise of a camera
    grey, paper = _dark_on_light(grey)
    # Beyond the border the paper continues, also where ink reaches the border.
    window = max(3, min(grey.shape) // 3, grey.shape[0] // 4)
    around = np.maximum(np.pad(grey, window, mode="edge"), np.pad(paper, window, mode="edge"))
    inside = np.s_[window:-window, window:-window]
    around[inside] = grey
    ink = _dark_lines(around, window)[inside]
    # Under even light the paper is known, and broad ink, whose middle the window misses, is too.
    beside = grey if np.ptp(ink) == 0 else np.where(ink > threshold_otsu(ink), np.nan, grey)
    if np.nanquantile(np.abs(beside - paper), 0.6) < EVEN:
        return np.asarray(paper - grey)
    return ink


def _dark_on_light(grey: Grey) -> tuple[Grey, Grey]:
    """The image, negated where its ink is lighter than its paper, and the paper at each pixel."""
    border, terms = _border_and_terms(grey.shape)
    # A curved surface follows slanting light and dark corners: the border shows nothing but paper.
    paper = _surface(grey, border, terms)
    if np.quantile(np.abs(grey - paper)[border], 0.9) < SMOOTH * np.ptp(grey):
        # Few pixels are ink, but they differ much from the paper, so cubes are added up.
        ink_is_light = float(((grey - paper) ** 3).sum()) > 0
        return (1 - grey, 1 - paper) if ink_is_light else (grey, paper)
    # Ink reaches the border. Clearly more than half of the image is paper; or, where ink fills the
    # image, the lines are ink: dark ones on light ground or light ones on dark.
    light_share = float((grey > threshold_otsu(grey)).mean())
    if abs(light_share - 0.5) > CLEARLY:
        ink_is_light = light_share < 0.5
    else:
        window = max(3, max(grey.shape) // 5)
        around = np.pad(grey, window, mode="edge")
        inside = np.s_[window:-window, window:-window]
        dark, light = (_dark_lines(image, window)[inside] for image in (around, 1 - around))
        ink_is_light = float((light**3).sum()) > float((dark**3).sum())
    if ink_is_light:
        grey = 1 - grey
    return grey, _surface(grey, border, terms[..., :3], above=0.25)


def _dark_lines(grey: Grey, window: int) -> Grey:
    # A closing fills every dark place narrower than its window with what is around it.
    closed: Grey = ndimage.grey_closing(grey, size=(window, window))
    return closed - grey


def _border_and_terms(shape: tuple[int, ...]) -> tuple[Mask, Grey]:
    """A frame of the image (H×W), and the terms of a quadratic surface (H×W×6): 1, y, x, y², …"""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    border = np.maximum(np.abs(y), np.abs(x)) > 0.5 - BORDER
    border[[0, -1]] = border[:, [0, -1]] = True  # also of six pixels or fewer
    return border, np.stack([np.ones(shape), y, x, y**2, x * y, x**2], axis=-1)


def _surface(grey: Grey, border: Mask, terms: Grey, above: float = 0.5) -> Grey:
    """The surface of these terms that leaves a share of the border's pixels above it.

    With half of them it goes through most pixels, however far from it the others are. It is found
    by least squares, solved again and again: a pixel counts the less the farther it was from the
    surface.
    """
    every = max(1, int(border.sum()) // POINTS)
    seen, values = terms[border][::every], grey[border][::every]
    weights = np.ones(len(values))
    for _ in range(10):
        roots = np.sqrt(weights)
        surface, *_ = np.linalg.lstsq(seen * roots[:, None], values * roots, rcond=None)
        distances = values - seen @ surface
        weights = np.where(distances > 0, 1 - above, above) / np.maximum(np.abs(distances), 0.02)
    return np.asarray(terms @ surface, dtype=np.float64)
