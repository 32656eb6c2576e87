"""Image files of the learner's own: any format, size and colour → red, green and blue, 0..1."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UsageError
from common.terminal import say

Colours = npt.NDArray[np.float64]  # H×W×3: red, green, blue, 0..1
Content = TypeVar("Content")

LARGEST = 50_000_000  # pixels; a photograph of a good camera has about 25 million
WORKING_SIDE = 300  # the longer side that an image is reduced to: enough for a stroke, and quick
# A pixel that differs from its block's mean by so many grey values more than three times what is
# usual on this image, which is noise, is a stroke.
CLEARLY = 40


@dataclass(frozen=True)
class OwnImage:
    """An image of the learner's own, as it is (H×W×3, 0..1) and as a network takes it.

    `image` is 1×28×28, 0..1; `name` is the file's, with a number where it shows several things;
    `note` says what may be wrong with it.
    """

    path: Path
    name: str
    original: Tensor
    image: Tensor
    note: str = ""


def read_image(path: Path, *, keep_strokes: bool = False) -> Colours:
    """The image's colours, 0 to 1, H×W×3, its longer side at most 300 pixels.

    Reads every format that Pillow does, and turns the image as the camera says. Transparent parts
    become white, or black where the rest is light. With `keep_strokes` thin strokes do not fade
    where the image is made smaller. Raises UsageError for a file that is missing, is no image, or
    has more than 50 million pixels.
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
            opaque = _opaque(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except Image.DecompressionBombError:
        raise UsageError(f"{path} is too large; at most {LARGEST:,} pixels are read") from None
    except (OSError, SyntaxError, ValueError):  # a broken PNG is a SyntaxError to Pillow
        raise UsageError(
            f"{path} is not an image that can be read; PNG, JPEG and most other formats can"
        ) from None
    if keep_strokes:
        opaque = _with_thin_strokes(opaque)
    opaque.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    return np.asarray(opaque, dtype=np.float64) / 255


def read_each(
    paths: Sequence[Path], read: Callable[[Path], Content]
) -> list[tuple[Path, Content]]:
    """Each file with what `read` makes of it; a file that it refuses is named and left out.

    Raises UsageError where it refuses all of them, with the reason of the first.
    """
    contents = []
    refusals = []
    for path in paths:
        try:
            contents.append((path, read(path)))
        except UsageError as error:
            refusals.append(str(error))
    if not contents:
        others = f" (and {len(paths) - 1} more that cannot be used)" if len(paths) > 1 else ""
        raise UsageError(refusals[0] + others)
    for refusal in refusals:
        say(f"Left out: {refusal}.")
    return contents


def read_all(
    paths: Sequence[Path], read: Callable[[Path], Sequence[OwnImage]]
) -> list[OwnImage]:
    """All that `read` finds in the files, where one may show several things; like `read_each`."""
    return [one for _, found in read_each(paths, read) for one in found]


def as_batch(own: Sequence[OwnImage]) -> Tensor:
    """The images as a network takes them, N×1×28×28."""
    return torch.stack([one.image for one in own])


def newest_weights(script: str, name: str) -> Path:
    """The newest network, a file `name`, of a finished run in `runs/<script>`.

    Raises UsageError if there is none.
    """
    networks = Path("runs", script).glob(f"*/{name}")
    finished = [path for path in networks if (path.parent / "summary.json").exists()]
    if not finished:
        raise UsageError(f"no finished run in runs/{script}; start one, or give --weights FILE")
    return max(finished, key=lambda path: path.stat().st_mtime)


def load_weights(path: Path, script: str) -> dict[str, Tensor]:
    """The weights, by name, that a script saved in a file; UsageError where there are none."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(weights, dict) and all(isinstance(one, Tensor) for one in weights.values()):
            return weights
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except Exception:  # torch raises many types for what is not its file; all mean the same here
        pass
    raise UsageError(f"{path} holds no network of {script}; --weights takes a file that it saved")


def _opaque(image: Image.Image) -> Image.Image:
    """The image in red, green and blue, without transparent parts."""
    # With 16 bits and more nobody knows which value is white; only the differences are certain.
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        span = values.max() - values.min()
        image = Image.fromarray(((values - values.min()) / (span or 1) * 255).astype(np.uint8))
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A"), dtype=np.float64)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    visible = alpha.sum()
    is_light = visible > 0 and (grey * alpha).sum() / visible > 127.5
    ground = "black" if is_light and alpha.min() < 127.5 else "white"
    opaque = Image.new("RGBA", image.size, ground)
    opaque.alpha_composite(image)
    return opaque.convert("RGB")


def _with_thin_strokes(image: Image.Image) -> Image.Image:
    """The image, its longer side at most 300 pixels, in which thin strokes keep their colour.

    Each block of pixels becomes its mean; but where a few of its pixels are much darker than its
    mean, it becomes the darkest, and where a few are much lighter the lightest.
    """
    factor = -(-max(image.size) // WORKING_SIDE)
    width, height = image.width // factor, image.height // factor
    if factor < 2 or min(width, height) == 0:
        return image
    pixels = np.asarray(image)[: height * factor, : width * factor]
    blocks = pixels.reshape(height, factor, width, factor, 3)
    mean = blocks.mean((1, 3))
    darkest, lightest = blocks.min((1, 3)), blocks.max((1, 3))
    below, above = mean - darkest, lightest - mean
    dark_stroke = (below > 2 * above) & (below > 3 * np.median(below) + CLEARLY)
    light_stroke = (above > 2 * below) & (above > 3 * np.median(above) + CLEARLY)
    values = np.where(dark_stroke, darkest, np.where(light_stroke, lightest, mean))
    return Image.fromarray(values.round().astype(np.uint8))
