"""Damaged image files of every format: read, or refused in one line; never a traceback, never much
memory.

The long form reads 10,000 (`MUTATED_IMAGES=10000`, the default of `pytest -m full`) and prints a
table.
"""

from __future__ import annotations

import io
import os
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from common.digits import read_digits
from common.errors import UsageError
from common.garments import read_garment
from common.image_files import OwnImage, read_image
from common.own_images import read_own
from tests.drawings import pen_digit
from tests.helpers import peak_memory

MEGABYTES = 300  # beside what Python with torch and matplotlib takes, 730 on the machine tried
READERS: tuple[Callable[[Path], list[OwnImage]], ...] = (read_digits, read_garment, read_own)
EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def whole_files() -> dict[str, bytes]:
    """A drawing in many formats and kinds of pixels, by name."""
    drawn = pen_digit(3, np.random.default_rng(0), side=60)
    colour = Image.merge("RGB", (drawn, Image.new("L", drawn.size, 200), drawn))
    alpha = Image.merge("LA", (Image.new("L", drawn.size, 0), drawn.point(lambda v: 255 - v)))
    deep = Image.fromarray(np.asarray(drawn).astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, str, dict[str, object]]] = [
        ("png", drawn, "PNG", {}), ("png colour", colour, "PNG", {}),
        ("png alpha", alpha, "PNG", {}),
        ("png palette", colour.quantize(16), "PNG", {"transparency": 3}),
        ("png 16 bits", deep, "PNG", {}), ("png 1 bit", drawn.convert("1"), "PNG", {}),
        ("jpeg", colour, "JPEG", {"exif": exif}), ("jpeg grey", drawn, "JPEG", {}),
        ("jpeg progressive", colour, "JPEG", {"progressive": True}),
        ("jpeg cmyk", colour.convert("CMYK"), "JPEG", {}),
        ("gif", colour.quantize(16), "GIF", {}), ("bmp", colour, "BMP", {}),
        ("bmp 8", drawn, "BMP", {}),
        ("ppm", colour, "PPM", {}), ("pbm", drawn.convert("1"), "PPM", {}),
        ("tiff", colour, "TIFF", {"exif": exif}), ("tiff deep", deep, "TIFF", {}),
        ("tiff float", drawn.convert("F"), "TIFF", {}),
        ("tiff lzw", colour, "TIFF", {"compression": "tiff_lzw"}),
        ("tiff deflate", colour, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("tiff jpeg", colour, "TIFF", {"compression": "jpeg"}),
        ("tiff fax", drawn.convert("1"), "TIFF", {"compression": "group4"}),
        ("webp", colour, "WEBP", {}), ("webp lossless", colour, "WEBP", {"lossless": True}),
        ("webp alpha", alpha.convert("RGBA"), "WEBP", {}),
        ("jpeg 2000", colour, "JPEG2000", {}), ("mpo", colour, "MPO", {}),
        ("avif", colour, "AVIF", {}),
    ]  # fmt: skip
    files, optional = {}, {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
    for name, image, kind, options in kinds:
        if features.check(optional.get(kind, "zlib")):
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            files[name] = buffer.getvalue()
    return files


def with_valid_checksums(content: bytes) -> bytes:
    """A PNG file whose chunks have the checksums that belong to them, as far as it goes."""
    result, place = bytearray(content), 8
    while place + 12 <= len(result):
        end = place + 8 + int.from_bytes(result[place : place + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(result)


def mutated(content: bytes, others: list[bytes], draw: random.Random) -> tuple[str, bytes]:
    """What was done to a file, and the file."""
    changed = bytearray(content)
    # Most of what decides how a file is read stands near its beginning.
    place = draw.randrange(min(len(content), draw.choice([64, 512, len(content)])))
    what = draw.choice(["bits", "bytes", "number", "cut", "inserted", "repeated", "joined"])
    if what == "bits":
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(place + 1)] ^= 1 << draw.randrange(8)
    elif what == "bytes":
        for _ in range(draw.randint(1, 20)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    elif what == "number":
        size = draw.choice([1, 2, 4])
        number = draw.choice(EXTREME) % 256**size
        changed[place : place + size] = number.to_bytes(size, draw.choice(["big", "little"]))
    elif what == "cut":
        changed = changed[:place]
    elif what == "inserted":
        changed[place:place] = draw.randbytes(draw.randint(1, 200))
    elif what == "repeated":
        changed[place:place] = changed[place : place + draw.randint(1, 400)]
    else:
        other = draw.choice(others)
        changed = changed[:place] + other[draw.randrange(len(other)) :]
    if content.startswith(b"\x89PNG") and draw.random() < 0.8:
        return what, with_valid_checksums(bytes(changed))
    return what, bytes(changed)


def mutated_files(count: int, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """So many damaged files, one after the other in one place; with the name and the damage."""
    draw, files = random.Random(14), whole_files()
    for number in range(count):
        name = list(files)[number % len(files)]
        what, content = mutated(files[name], list(files.values()), draw)
        path = folder / f"damaged.{draw.choice(['png', 'jpg', 'tif', name.split()[0]])}"
        path.write_bytes(content)
        yield name, what, path
        path.unlink()


def read_all(count: int, folder: Path) -> Counter[tuple[str, str]]:
    """How each damaged file was answered, by format: read, shows nothing, refused; all checked."""
    answers: Counter[tuple[str, str]] = Counter()
    for number, (name, what, path) in enumerate(mutated_files(count, folder)):
        message, own = "", list[OwnImage]()
        try:
            own = READERS[number % len(READERS)](path)
        except UsageError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"file {number}, {name}, {what}") from error
        if message:
            assert message.startswith(str(path))
            assert "\n" not in message
            answers[name, "shows nothing" if " shows no " in message else "refused"] += 1
            continue
        for one in own:
            assert one.image.shape == (1, 28, 28)
            assert 0 <= one.image.min() <= one.image.max() <= 1
            assert max(one.original.shape) <= 300
        answers[name, "read"] += 1
    return answers


def test_every_kind_of_file_is_read_while_it_is_whole(tmp_path: Path) -> None:
    for name, content in whole_files().items():
        path = tmp_path / name
        path.write_bytes(content)
        colours = read_image(path)
        assert max(colours.shape) == 60, name


def test_damaged_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with peak_memory() as peak:
        answers = read_all(int(os.environ.get("MUTATED_IMAGES", 300)), tmp_path)
    assert peak.megabytes < MEGABYTES
    assert {answer for _, answer in answers} >= {"read", "refused"}
    assert capfd.readouterr() == ("", ""), "neither Pillow nor the libraries below it say anything"


@pytest.mark.full
def test_ten_thousand_damaged_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with peak_memory() as peak:
        answers = read_all(int(os.environ.get("MUTATED_IMAGES", 10_000)), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert peak.megabytes < MEGABYTES
    with capfd.disabled():
        print(f"\n{'format':16} {'read':>6} {'shows nothing':>14} {'refused':>8}")
        for name in whole_files():
            counts = [answers[name, answer] for answer in ("read", "shows nothing", "refused")]
            print(f"{name:16} {counts[0]:6} {counts[1]:14} {counts[2]:8}")
        print(f"memory beside what was there before: at most {peak.megabytes:.0f} MB")
