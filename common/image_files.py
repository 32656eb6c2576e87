"""Image files of the learner's own: any format, size and colour → red, green and blue, 0..1."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UsageError
from common.terminal import one_line

Colours = npt.NDArray[np.float64]  # H×W×3: red, green, blue, 0..1

# What cameras, telephones and drawing programs write. Pillow knows more formats; one of them, EPS,
# is a program, which it would run.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 50_000_000  # pixels; of a JPEG, as many as telephones have: it is read smaller
# Of these the decoders hold much more than the pixels.
LARGEST_OF = {"AVIF": 30_000_000, "JPEG2000": 15_000_000, "WEBP": 18_000_000}
WORKING_SIDE = 300  # the longer side that an image is reduced to: enough for a stroke, and quick
AT_ONCE = 1_000_000  # pixels of a large image that are converted at a time, to save memory
ORIENTATION = 0x0112  # the field of EXIF in which a camera says how it was held


@dataclass(frozen=True)
class OwnImage:
    """An image of the learner's own, as it is (uint8, H×W×3) and as a network takes it.

    `image` is 1×28×28, 0..1; `name` is the file's, with a number where it shows several things;
    `note` says what may be wrong with it.
    """

    name: str
    original: Tensor
    image: Tensor
    note: str = ""


def own_image(name: str, colours: Colours, image: Tensor, note: str = "") -> OwnImage:
    """An image (H×W×3, 0..1) and what becomes of it for a network (1×28×28, 0..1)."""
    return OwnImage(one_line(name), torch.from_numpy(to_bytes(colours)), image, note)


def to_bytes(colours: Colours) -> npt.NDArray[np.uint8]:
    """Colours 0..1 as bytes, an eighth of the memory; nothing is lost of what was read from one."""
    return (colours * 255).round().astype(np.uint8)


def read_image(path: Path) -> Colours:
    """The image's colours, 0 to 1, H×W×3, its longer side at most 300 pixels.

    Reads the usual formats, and turns the image as the camera says. Transparent parts become white,
    or black where the rest is light. Raises UsageError for a file that is missing, is no image, or
    has more than 50 million pixels (a JPEG 178 million, where Pillow stops, if it is no progressive
    one; WebP 18, AVIF 30, JPEG 2000 15 million).
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says is in our one line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_small(path)
    except (UsageError, MemoryError):
        raise
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except Image.DecompressionBombError:
        raise UsageError(f"{path} is too large; at most {LARGEST:,} pixels are read") from None
    except Exception as error:  # on damaged files Pillow raises errors of a dozen types
        if isinstance(error, OSError) and error.errno is not None:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from None
        advice = "; save it as JPEG first" if path.suffix.lower() in (".heic", ".heif") else ""
        raise UsageError(
            f"{path} is not an image that can be read; JPEG, PNG, GIF, TIFF, WebP and BMP "
            f"can{advice}"
        ) from None


def _read_small(path: Path) -> Colours:
    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        size = f"{image.width}×{image.height}"
        pixels, largest = image.width * image.height, LARGEST_OF.get(image.format or "", LARGEST)
        image.draft(None, (4 * WORKING_SIDE, 4 * WORKING_SIDE))  # a JPEG smaller, in less time
        if not image.info.get("progressive"):  # of such a JPEG the decoder holds all of it
            pixels = image.width * image.height
        if pixels > largest:
            raise UsageError(f"{path} has {size} pixels; at most {largest:,} are read")
        with _standard_error_closed() if image.format == "TIFF" else nullcontext():
            small = _without_depth(_reduced(image))
        small.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    turned = ImageOps.exif_transpose(small)
    return np.asarray(_opaque(turned), dtype=np.float64) / 255


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Within it, nothing comes out of standard error, where libtiff writes by itself."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _reduced(image: Image.Image) -> Image.Image:
    """The image with a longer side of at most 300 pixels: RGB, RGBA, or F for more than 8 bits.

    It is converted in strips: a whole copy of a large image would take hundreds of megabytes.
    """
    factor = -(-max(image.size) // WORKING_SIDE)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode.startswith(("I", "F")):
        mode = "F"
    small = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, AT_ONCE // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(strip.convert(mode).reduce(factor), (0, top // factor))
    return small


def _without_depth(image: Image.Image) -> Image.Image:
    """The image with 8 bits a pixel.

    With more bits nobody knows which value is white; only the differences are certain.
    """
    if image.mode != "F":
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    span = np.ptp(values)
    return Image.fromarray(((values - values.min()) / (span or 1) * 255).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """The image in red, green and blue, without transparent parts."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    alpha = np.asarray(image.getchannel("A"), dtype=np.float64)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    visible = alpha.sum()
    is_light = visible > 0 and (grey * alpha).sum() / visible > 127.5
    ground = "black" if is_light and alpha.min() < 127.5 else "white"
    opaque = Image.new("RGBA", image.size, ground)
    opaque.alpha_composite(image)
    return opaque.convert("RGB")
