"""Your own images: however drawn and photographed, digits come out in MNIST's form."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from common.cli import PROJECT
from common.data import load_images
from common.digits import digits_in, read_digits
from common.errors import UsageError
from common.image_files import LARGEST, read_image
from tests.drawings import (
    as_mnist_digit,
    cropped,
    font_digit,
    in_colours,
    pen_digit,
    photographs,
    thin_digit,
)
from tests.helpers import in_full, peak_memory


def check_form(digit: Tensor) -> None:
    """MNIST's form: values 0..1, the longer side 20 pixels, the centre of mass near (14, 14)."""
    assert digit.shape == (1, 28, 28)
    assert digit.dtype == torch.float32
    assert 0 <= digit.min() <= digit.max() <= 1
    assert digit.max() > 0.9
    lit = digit[0] > 0
    sides = []
    for axis in (0, 1):
        places = lit.any(axis).nonzero()
        sides.append(int(places.max() - places.min()) + 1)
    assert 18 <= max(sides) <= 20
    assert all(abs(centre - 14) <= 0.51 for centre in ndimage.center_of_mass(digit[0].numpy()))


def likeness(found: Tensor, clean: Tensor) -> float:
    """The cosine between two images, the maximum over shifts by up to one pixel, as by rounding."""
    cosines = []
    for shift in itertools.product((-1, 0, 1), repeat=2):
        image = found.roll(shift, (-2, -1))
        cosines.append(float((image * clean).sum() / (image.norm() * clean.norm())))
    return max(cosines)


@pytest.mark.parametrize("digit", [1, 4, 8, *in_full(0, 2, 3, 5, 6, 7, 9)])
def test_bad_photographs_come_out_as_the_drawing_does(digit: int) -> None:
    random = np.random.default_rng(digit)
    taken = photographs(pen_digit(digit, random), random)
    clean = as_mnist_digit(taken["as drawn"])
    for name, photograph in taken.items():
        found = as_mnist_digit(photograph)
        check_form(found)
        assert likeness(found, clean) > 0.9, name


@pytest.mark.parametrize("pen", [2, 30, *in_full(6, 14)])
def test_the_pen_comes_out_as_thick_as_mnist_s(pen: int) -> None:
    """MNIST's ink covers 104 pixels on average; neither a hair nor a brush may change it much."""
    random = np.random.default_rng(0)
    inks = []
    for digit in range(10):
        taken = photographs(pen_digit(digit, random, pen=pen), random)
        inks.append(float(as_mnist_digit(taken["as drawn"]).gt(0.5).sum()))
    assert 70 < np.mean(inks) < 150


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize("pen", [6, *in_full(14, 25)])
def test_ink_at_the_edge_stays_ink(digit: int, pen: int) -> None:
    """A digit cut out closely, dark or light, is what it is on a larger paper."""
    drawn = pen_digit(digit, np.random.default_rng(digit), pen=pen)
    clean = as_mnist_digit(np.asarray(drawn) / 255)
    close = np.asarray(cropped(drawn)) / 255
    for image in (close, 1 - close, 0.3 + 0.4 * close):
        found = as_mnist_digit(image)
        check_form(found)
        assert likeness(found, clean) > 0.9


@pytest.mark.parametrize("side", [28, 100, 450, 1000])
def test_strokes_of_one_pixel_do_not_break(side: int, tmp_path: Path) -> None:
    for digit in (0, 2, 4, 8):
        thin_digit(digit, side).save(tmp_path / "thin.png")
        (own,) = read_digits(tmp_path / "thin.png")
        clean = as_mnist_digit(np.asarray(thin_digit(digit, 100)) / 255)
        assert likeness(own.image, clean) > 0.8


@pytest.mark.parametrize(
    ("ink", "paper"),
    [((200, 0, 0), (0, 102, 0)), ((0, 90, 180), (190, 60, 0)), ((255, 220, 0), (255, 255, 255))],
)
def test_colours_of_equal_brightness(
    ink: tuple[int, int, int], paper: tuple[int, int, int]
) -> None:
    for digit in (0, 3, 7):
        drawn = pen_digit(digit, np.random.default_rng(0))
        clean = as_mnist_digit(np.asarray(drawn) / 255)
        for image in (in_colours(drawn, ink, paper), in_colours(drawn, paper, ink)):
            assert likeness(as_mnist_digit(image), clean) > 0.9


def test_a_small_image_is_enlarged() -> None:
    """A closely cut 5 of 9×12 pixels, whose bars fill two edges, is the one that is not found."""
    likenesses = []
    for digit in range(10):
        drawn = pen_digit(digit, np.random.default_rng(digit), pen=20)
        clean = as_mnist_digit(np.asarray(drawn) / 255)
        small = np.asarray(cropped(drawn).resize((9, 12))) / 255
        likenesses.append(likeness(as_mnist_digit(small), clean))
    assert sorted(likenesses)[1] > 0.7


def test_each_of_several_digits_comes_out_in_reading_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = []
    for line in ((2, 0, 5), (7, 8, 1)):
        lines.append(np.hstack([np.asarray(pen_digit(digit, random)) for digit in line]))
    page = np.vstack(lines)
    random = np.random.default_rng(0)
    alone = [
        as_mnist_digit(np.asarray(pen_digit(digit, random)) / 255) for digit in (2, 0, 5, 7, 8, 1)
    ]
    found = [image for image, _ in digits_in(page / 255)]
    assert len(found) == 6
    assert all(likeness(one, other) > 0.85 for one, other in zip(found, alone, strict=True))
    Image.fromarray(page).save(tmp_path / "page.png")
    own = read_digits(tmp_path / "page.png")
    assert [one.name for one in own] == [f"page.png, digit {number}" for number in range(1, 7)]
    assert own[0].original.shape[0] < page.shape[0] / 2, "only this digit's part of the image"
    assert {one.note for one in own} == {""}


def test_a_digit_of_several_strokes_is_one_and_specks_are_none() -> None:
    image = np.ones((200, 200))
    image[30:40, 60:140] = 0  # the bar of a five, apart from the rest
    image[45:100, 60:72] = 0
    image[100:112, 60:130] = 0
    image[112:170, 120:132] = 0
    image[20:23, 10:13] = 0
    image[180:183, 180:183] = 0
    assert len(digits_in(image)) == 1


def test_digits_that_touch_are_pointed_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pair = [cropped(pen_digit(digit, random)).resize((110, 160)) for digit in (5, 3)]
    page = np.hstack([np.asarray(digit) for digit in pair])
    page[75:85, 60:170] = 0
    Image.fromarray(np.pad(page, 30, constant_values=255)).save(tmp_path / "touch.png")
    notes = [own.note for own in read_digits(tmp_path / "touch.png")]
    assert notes == ["perhaps several digits that touch"]


def test_sizes_and_shapes() -> None:
    for size in ((28, 28), (50, 200), (200, 50), (1000, 700)):
        image = font_digit(5, "DejaVuSans").resize(size)
        check_form(as_mnist_digit(np.asarray(image, dtype=np.float64) / 255))


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.full)])
def test_mnist_s_own_images_stay_what_they_are(every: int) -> None:
    images = load_images("MNIST", "test", PROJECT / "data", 100).images[::every]
    for image in images[:, 0].double() / 255:
        for grey in (image.numpy(), 1 - image.numpy()):
            found = as_mnist_digit(grey)[0]
            assert likeness(found, image) > 0.75


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_blank_image_shows_no_digit(value: float) -> None:
    with pytest.raises(ValueError, match="blank"):
        as_mnist_digit(np.full((50, 60), value))


def test_light_alone_shows_no_digit() -> None:
    y, x = np.indices((200, 200)) / 200
    for light in (0.4 + 0.5 * x, 1 - 0.6 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)):
        with pytest.raises(ValueError, match="blank"):
            as_mnist_digit(light)


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_noise_alone_shows_no_digit(spread: float) -> None:
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0.6, spread, (250, 250)).clip(0, 1)
        with pytest.raises(ValueError, match=r"blank|noise"):
            as_mnist_digit(noise)


# Files


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_pixel_is_read(mode: str, tmp_path: Path) -> None:
    drawn = font_digit(4, "DejaVuSans")
    clean = as_mnist_digit(np.asarray(drawn, dtype=np.float64) / 255)
    path = tmp_path / ("digit.tiff" if mode in ("CMYK", "F", "I") else "digit.png")
    if mode in ("I;16", "I", "F"):
        deep = np.asarray(drawn).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        Image.fromarray(deep * 200).save(path)
    else:
        drawn.convert(mode).save(path)
    found = as_mnist_digit(read_image(path))
    assert likeness(found, clean) > 0.97


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"digit.{suffix}"
    font_digit(7, "DejaVuSerif").save(path)
    check_form(as_mnist_digit(read_image(path)))


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_a_transparent_ground(ink: int, tmp_path: Path) -> None:
    drawn = font_digit(2, "DejaVuSans")
    alpha = Image.eval(drawn, lambda value: 255 - value)
    Image.merge("LA", (Image.new("L", drawn.size, ink), alpha)).save(tmp_path / "digit.png")
    found = as_mnist_digit(read_image(tmp_path / "digit.png"))
    clean = as_mnist_digit(np.asarray(drawn) / 255)
    assert likeness(found, clean) > 0.97


def test_a_photograph_is_turned_as_the_camera_says(tmp_path: Path) -> None:
    drawn = font_digit(7, "DejaVuSans")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the image 90 degrees clockwise
    drawn.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = as_mnist_digit(read_image(tmp_path / "turned.jpg"))
    clean = as_mnist_digit(np.asarray(drawn) / 255)
    assert likeness(found, clean) > 0.95


def test_a_telephone_s_largest_photograph_is_read(tmp_path: Path) -> None:
    """Some have more pixels than are read of other formats; a JPEG is read smaller."""
    Image.new("L", (8192, 6200), 200).save(tmp_path / "photo.jpg")
    assert read_image(tmp_path / "photo.jpg").shape == (222, 293, 3)


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    font_digit(1, "DejaVuSans").save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    Image.new("1", (LARGEST // 5000 + 1, 5000)).save(tmp_path / "huge.png")
    for name, words in {
        "missing.png": "no such file",
        "text.png": "not an image that can be read",
        "empty.png": "not an image that can be read",
        "half.png": "not an image that can be read",
        "huge.png": "at most 50,000,000 are read",
        ".": "cannot be read (Is a directory)",
        "x" * 300: "cannot be read (File name too long)",
    }.items():
        with pytest.raises(UsageError, match=re.escape(words)) as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_digits_in_two_rows_of_pixels_are_cut_out(tmp_path: Path) -> None:
    noise, found = np.random.default_rng(0), 0
    for _ in range(20):
        pixels = noise.integers(0, 256, (2, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "low.png")
        with contextlib.suppress(UsageError):
            for own in read_digits(tmp_path / "low.png"):
                assert own.original.numel()
                found += 1
    assert found > 5


@pytest.mark.parametrize(("name", "sides"), [
    ("large.webp", (4300, 4200)), ("large.avif", (5500, 5460)), ("large.jp2", (5000, 4000)),
    ("progressive.jpg", (9000, 6000)),
])  # fmt: skip
def test_what_its_decoder_cannot_read_in_little_memory_is_refused(
    name: str, sides: tuple[int, int], tmp_path: Path
) -> None:
    try:
        Image.new("L", sides, 200).save(tmp_path / name, progressive=True, speed=10, method=0)
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow does not write {name}")
    with peak_memory() as peak, pytest.raises(UsageError, match="are read"):
        read_image(tmp_path / name)
    assert peak.megabytes < 100


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_a_large_image_needs_little_memory(mode: str, tmp_path: Path) -> None:
    """49 megapixels; the memory beside what Python with torch and matplotlib takes."""
    image = Image.new(mode, (7000, 7000), 65535 if mode == "I;16" else (255, 255, 255, 255))
    image.paste(0 if mode == "I;16" else (0, 0, 0, 255), (3000, 1000, 4000, 6000))
    image.save(tmp_path / "large.tif", compression="packbits")
    del image
    with peak_memory() as peak:
        colours = read_image(tmp_path / "large.tif")
    assert peak.megabytes < 300
    assert colours.shape == (292, 292, 3)
    assert (colours[146, 146].tolist(), colours[0, 0].tolist()) == ([0] * 3, [1] * 3)


def test_pillow_s_warnings_do_not_stand_before_the_one_line(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """A picture of 90 million pixels, a palette with transparent entries, a damaged TIFF header."""
    Image.new("1", (10_000, 9_000)).save(tmp_path / "huge.png")
    palette = font_digit(4, "DejaVuSans").quantize(4)
    palette.save(tmp_path / "palette.png", transparency=b"\x00\xff\x10\xff")
    font_digit(4, "DejaVuSans").save(tmp_path / "whole.tif")
    content = bytearray((tmp_path / "whole.tif").read_bytes())
    place = int.from_bytes(content[4:8], "little") + 2 + 4
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "header.tif").write_bytes(content)
    for name in ("huge.png", "palette.png", "header.tif"):
        with contextlib.suppress(UsageError):
            read_image(tmp_path / name)
    assert not [str(warning.message) for warning in recwarn]
    assert capfd.readouterr() == ("", "")


def test_a_photograph_of_an_iphone_is_explained(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UsageError, match="save it as JPEG first"):
        read_image(tmp_path / "IMG_1.HEIC")
