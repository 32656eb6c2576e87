"""Images changed at random, a whole batch at once: moved, mirrored, distorted.

Each image of a batch is changed in its own way. A function `random_…` draws how, from a generator
on the CPU, and another function does it. Images are B×C×H×W, uint8 0..255 or floats;
what comes out has the same type and shape, and lies on the same device. What comes in from outside
an image is 0, black.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

# Moved, mirrored


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Moves each image by −padding..padding pixels along either axis, all equally likely."""
    places = torch.randint(2 * padding + 1, (2, len(images)), generator=generator)
    tops, lefts = places.to(images.device)
    return crop(images, padding, tops, lefts)


def crop(images: Tensor, padding: int, tops: Tensor, lefts: Tensor) -> Tensor:
    """Adds `padding` black pixels on each side and cuts an image of the old size out again.

    `tops` and `lefts` (whole numbers, B each, 0..2·padding) say where in the padded image.
    """
    batch, channels, height, width = images.shape
    padded = pad(images, (padding,) * 4)  # B×C×(H+2p)×(W+2p)
    rows = tops[:, None] + torch.arange(height, device=images.device)  # B×H
    columns = lefts[:, None] + torch.arange(width, device=images.device)  # B×W
    rows = rows[:, None, :, None].expand(batch, channels, height, padded.shape[3])
    columns = columns[:, None, None, :].expand(batch, channels, height, width)
    return padded.gather(2, rows).gather(3, columns)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Exchanges left and right in each image with probability 1/2."""
    heads = torch.rand(len(images), generator=generator) < 0.5
    return flip(images, heads.to(images.device))


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Exchanges left and right in the chosen images (`chosen`: truth values, B)."""
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


# Distorted: for each pixel of the new image, the position in the old one that it shows


def random_distortion(
    images: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
) -> Tensor:
    """Turns, enlarges, shears and moves each image, read between its pixels only once.

    Drawn uniformly: an angle up to ±`degrees`, a factor 1 ± `scale`, a shear up to ±`shear` degrees
    along each axis, and up to ±`shift` pixels along each.
    """
    limits = torch.tensor([degrees, scale, shear, shear, shift, shift])
    drawn = (2 * torch.rand(len(images), 6, generator=generator) - 1) * limits  # B×6
    angles, scales, shears, shifts = drawn[:, 0], 1 + drawn[:, 1], drawn[:, 2:4], drawn[:, 4:]
    height, width = images.shape[2:]
    positions = affine_positions(angles, scales, shears, shifts, height, width)
    return read_at(images, positions.to(images.device))


def affine_positions(
    angles: Tensor, scales: Tensor, shears: Tensor, shifts: Tensor, height: int, width: int
) -> Tensor:
    """The positions (x, y) in pixels, B×H×W×2, that a turned, sheared and moved image shows.

    `angles` (B) are degrees clockwise around the middle, `scales` (B) factors, `shears` (B×2)
    degrees along x and y, `shifts` (B×2) pixels to the right and down: torchvision's conventions.
    """
    angles, shears = angles.deg2rad(), shears.deg2rad()
    one, zero = torch.ones_like(angles), torch.zeros_like(angles)
    turn = _matrices(angles.cos(), -angles.sin(), angles.sin(), angles.cos())  # B×2×2
    along_x = _matrices(one, -shears[:, 0].tan(), zero, one)
    along_y = _matrices(one, zero, -shears[:, 1].tan(), one)
    forward = scales[:, None, None] * (turn @ along_y @ along_x)
    back = torch.linalg.inv(forward)  # from a new pixel to the old one that has moved there
    middle = torch.tensor([width - 1, height - 1]) / 2
    from_middle = pixel_grid(height, width).view(1, -1, 2) - middle - shifts[:, None, :]
    positions: Tensor = from_middle @ back.transpose(1, 2) + middle  # B×H·W×2
    return positions.view(-1, height, width, 2)


def pixel_grid(height: int, width: int) -> Tensor:
    """The position (x, y) of each pixel, H×W×2: the upper left one has (0, 0)."""
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack([columns, rows], dim=2).float()


def read_at(images: Tensor, positions: Tensor) -> Tensor:
    """The images' values at positions (x, y) in pixels (B×H×W×2), linear between pixels."""
    height, width = images.shape[2:]
    size = torch.tensor([width, height], device=positions.device)
    scaled = (2 * positions + 1) / size - 1  # grid_sample's: −1 and 1 are the image's edges
    values = grid_sample(images.float(), scaled, align_corners=False)
    if not images.is_floating_point():
        values = values.round()
    return values.to(images.dtype)


def _matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """B matrices with the rows (a, b) and (c, d), whose elements are given for all."""
    return torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)
