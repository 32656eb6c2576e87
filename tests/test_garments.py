"""Your own photographs of garments: whatever is behind, they come out in Fashion-MNIST's form."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from common.cli import PROJECT
from common.data import load_images
from common.errors import UsageError
from common.garments import as_fashion_garment, read_garment
from tests.drawings import BACKGROUNDS, photographed

TROUSERS, SHIRT = [(70, 30), (130, 30), (135, 170), (108, 170), (100, 70), (92, 170), (65, 170)], [
    (60, 40), (85, 30), (115, 30), (140, 40), (170, 80), (150, 95), (140, 80), (140, 170),
    (60, 170), (60, 80), (50, 95), (30, 80),
]  # fmt: skip


def drawing(outline: list[tuple[int, int]], garment: str, ground: str) -> np.ndarray:
    image = Image.new("RGB", (200, 200), ground)
    ImageDraw.Draw(image).polygon(outline, fill=garment)
    return np.asarray(image, dtype=np.float64) / 255


@pytest.mark.parametrize("outline", [TROUSERS, SHIRT], ids=["trousers", "shirt"])
@pytest.mark.parametrize(
    ("garment", "ground"),
    [("navy", "white"), ("white", "black"), ("beige", "saddlebrown"), ("red", "green"),
     ("black", "grey")],
)  # fmt: skip
def test_a_drawn_garment_is_light_on_black(
    outline: list[tuple[int, int]], garment: str, ground: str
) -> None:
    image = as_fashion_garment(drawing(outline, garment, ground))
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.float32
    lit = image[0] > 0.2
    shape = as_fashion_garment(drawing(outline, "black", "white"))[0] > 0.2
    assert (lit ^ shape).sum() <= 12, "the same outline in all colours"
    rows, columns = lit.any(1).nonzero(), lit.any(0).nonzero()
    sides = [int(places.max() - places.min()) + 1 for places in (rows, columns)]
    assert max(sides) >= 27
    for places in (rows, columns):
        assert abs(int(places.max() + places.min()) - 27) <= 1, "in the middle"
    assert image[0][~shape].max() < 0.9
    assert image[0][lit].mean() > 0.35


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_fashion_mnist_s_own_images_come_back(name: str) -> None:
    """Enlarged, before a background, as a photograph: most are as they were.

    Of dark clothes on black only the lighter parts can be seen.
    """
    random = np.random.default_rng(0)
    images = load_images("FashionMNIST", "test", PROJECT / "data", 30).images[:, 0].double() / 255
    cosines = []
    for image in images:
        found = as_fashion_garment(photographed(image.numpy(), name, random))[0].double()
        cosines.append(float((found * image).sum() / (found.norm() * image.norm())))
    assert np.median(cosines) > (0.85 if name == "black" else 0.9)


@pytest.mark.parametrize("side", [1, 2, 5, 6])
def test_a_tiny_image_is_read_or_named(side: int, tmp_path: Path) -> None:
    """As those of one pixel that web pages hold."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for name, pixels in (("white", np.full_like(noise, 255)), ("noise", noise)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        with contextlib.suppress(UsageError):
            assert read_garment(tmp_path / f"{name}.png")[0].image.shape == (1, 28, 28)


def test_an_empty_photograph_shows_no_garment(tmp_path: Path) -> None:
    Image.new("RGB", (60, 50), "beige").save(tmp_path / "wall.png")
    with pytest.raises(UsageError, match=r"wall.png shows no garment: nothing stands out"):
        read_garment(tmp_path / "wall.png")
    with pytest.raises(UsageError, match="there is no such file"):
        read_garment(tmp_path / "missing.png")
