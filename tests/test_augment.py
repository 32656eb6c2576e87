"""Changed images against torchvision's, with the same parameters; what is drawn, and its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from common import augment

BATCH, HEIGHT, WIDTH = 7, 28, 20


def pictures(dtype: torch.dtype = torch.uint8, channels: int = 2) -> Tensor:
    """Noise, smoothed a little: B×C×28×20, which is no square."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, channels, HEIGHT, WIDTH, generator=generator)
    images = torch.as_tensor(functional.gaussian_blur(images, [5, 5]))
    return (255 * images).to(dtype) if dtype == torch.uint8 else images.to(dtype)


def draw(low: float, high: float, *shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator)


def test_crops_are_torchvision_s() -> None:
    images, padding = pictures(), 3
    tops, lefts = torch.tensor([0, 6, 3, 1, 5, 2, 4]), torch.tensor([6, 0, 3, 5, 1, 1, 2])
    ours = augment.crop(images, padding, tops, lefts)
    for image, one, top, left in zip(images, ours, tops.tolist(), lefts.tolist(), strict=True):
        padded = functional.pad(image, [padding])
        assert torch.equal(one, functional.crop(padded, top, left, HEIGHT, WIDTH))
    assert torch.equal(ours[2], images[2]), "3 of 3 and 3 of 3: it has not moved"


def test_flips_are_torchvision_s() -> None:
    images = pictures()
    chosen = torch.tensor([True, False, True, True, False, False, True])
    ours = augment.flip(images, chosen)
    for image, one, mirrored in zip(images, ours, chosen.tolist(), strict=True):
        assert torch.equal(one, functional.horizontal_flip(image) if mirrored else image)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.uint8, 1), (torch.bfloat16, 0.01)]
)
def test_affine_distortions_are_torchvision_s(dtype: torch.dtype, tolerance: float) -> None:
    images = pictures(dtype)
    angles, scales = draw(-50, 50, BATCH), draw(0.7, 1.4, BATCH, seed=2)
    shears, shifts = draw(-30, 30, BATCH, 2, seed=3), draw(-4, 4, BATCH, 2, seed=4).round()
    positions = augment.affine_positions(angles, scales, shears, shifts, HEIGHT, WIDTH)
    ours = augment.read_at(images, positions)
    assert (ours.dtype, ours.shape) == (images.dtype, images.shape)
    for number, image in enumerate(images):
        theirs = functional.affine(
            image if dtype == torch.uint8 else image.float(),
            float(angles[number]), shifts[number].tolist(), float(scales[number]),
            shears[number].tolist(), interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
        assert (ours[number].float() - theirs.float()).abs().max() <= tolerance
    assert (ours.float() - images.float()).abs().mean() > 10 * tolerance, "something has moved"


DRAWN: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "crop": lambda images, generator: augment.random_crop(images, 2, generator),
    "flip": lambda images, generator: augment.random_flip(images, generator),
    "distort": lambda images, generator: augment.random_distortion(
        images, generator, degrees=15, scale=0.1, shear=8, shift=2
    ),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_generator_one_result(name: str, dtype: torch.dtype) -> None:
    images, change = pictures(dtype), DRAWN[name]
    kept = images.clone()
    first, again, other = (
        change(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert (first.dtype, first.shape) == (images.dtype, images.shape)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, kept), "the images given stay as they are"
    same = torch.full_like(images, 1)
    same[:] = images[:1]
    changed = change(same, torch.Generator().manual_seed(3))
    assert len({str(one.flatten()[:200].tolist()) for one in changed}) > 1, "each in its own way"


def test_every_place_is_drawn() -> None:
    """A lit pixel in the middle, moved by −2..2: 25 places, each in about one image of 25."""
    images = torch.zeros(5000, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    moved = augment.random_crop(images, 2, torch.Generator().manual_seed(0))
    counts = (moved == 255).sum((0, 1))
    assert counts.sum() == 5000
    assert counts[2:7, 2:7].min() > 140
    mirrored = augment.random_flip(moved, torch.Generator().manual_seed(0))
    changed = (mirrored != moved).flatten(1).any(1).float().mean()
    assert 0.36 < changed < 0.44, "half of them, in 4 of 5 columns"


def test_no_distortion_changes_nothing() -> None:
    images = pictures()
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augment.random_distortion(images, generator), images)
    assert torch.equal(augment.random_crop(images, 0, generator), images)


def test_a_positive_angle_turns_clockwise_and_a_shift_goes_right_and_down() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 4] = 1  # to the right of the middle
    none = torch.zeros(1)

    def lit(angle: float, right: float, down: float) -> list[int]:
        positions = augment.affine_positions(
            none + angle, none + 1, torch.zeros(1, 2), torch.tensor([[right, down]]), 5, 5
        )
        index = int(augment.read_at(image, positions).argmax())
        return [index // 5, index % 5]

    assert lit(90, 0, 0) == [4, 2], "below the middle"
    assert lit(0, -1, 2) == [4, 3]
