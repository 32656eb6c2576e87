"""Pictures of lines as a camera sees them, drawn from a few numbers each, and how they are scored.

A line is 1 to 7 pixels thick and at least 16 long, dashed or not, lighter or darker than an uneven
grey; the camera blurs it and adds noise. Its ends are known exactly, to fractions of a pixel: they
are the middles of its two short sides. x counts from the left and y from the top, pixel centres
are whole numbers, and the left end stands first (of a vertical line the upper one).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from skimage.filters import threshold_otsu
from torch import Tensor, nn
from torch.nn.functional import interpolate

from common.data import InMemoryDataset, to_unit_range
from common.device import can_fuse, seed_everything
from common.runs import Run
from common.training import predict, train_one_epoch
from line_regression import END_UPDATES, end_loss, end_network, highest_two, make_lines
from reports.line_regression_scores import outermost_pixels

SIZE = 128  # side of a picture, pixels
HELD_OUT, TEST = 2_000, 10_000  # lines to choose by, and to be scored at the end
HELD_OUT_SEED, TEST_SEED, TRAINING_SEED = 0, 2, 3  # a run's seed is added to the last
SHORTEST = 16.0  # pixels; a much shorter one, thick and blurred, would be a spot without ends
THICKNESS = (1.0, 7.0)  # pixels
BLUR = (0.4, 1.5)  # standard deviation, pixels; a pixel's own area alone does 0.29
OPACITY = (0.6, 1.0)  # how far the line's grey is on the way from the background to black or white
GREY = (0.2, 0.8)  # of the background, 0 black to 1 white
ONLY_LIGHT, ONLY_DARK = 0.35, 0.65  # on darker grey a line is light, on lighter grey it is dark
UNEVEN = 0.07  # most that a slope along x, one along y, and a wave each change the grey by
NOISE = (0.0, 0.05)  # standard deviation
DASHED = 0.3  # share of the lines
DASH = (4.0, 12.0)  # length of a dash and of a gap, about, pixels

# The columns of a description, a row of numbers from which a picture is drawn.
COLUMNS = ("x0", "y0", "x1", "y1", "thickness", "blur", "opacity", "ink", "grey", "slope_x",
           "slope_y", "wave", "wave_x", "wave_y", "phase", "noise", "dash", "period")  # fmt: skip


def describe(count: int, seed: int) -> Tensor:
    """Descriptions (float32, count×18, see COLUMNS) of random lines, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    ends = random_ends(count, generator)
    length = (ends[:, 2:] - ends[:, :2]).norm(dim=1)
    grey = between(*GREY)
    # Between the two greys a coin decides; outside, only light or only dark can be seen.
    light = (grey < ONLY_LIGHT) | ((grey < ONLY_DARK) & (between(0, 1) < 0.5))
    # A dashed line begins and ends with a dash, or its ends could not be seen.
    dash, gap = between(*DASH), between(*DASH)
    gaps = ((length - dash) / (dash + gap)).round().clamp(min=1)  # how many
    stretch = length / (gaps * (dash + gap) + dash)  # so that dashes and gaps fill the line
    dashed = between(0, 1) < DASHED
    numbers = {
        "thickness": between(*THICKNESS), "blur": between(*BLUR), "opacity": between(*OPACITY),
        "ink": light.float(), "grey": grey, "slope_x": between(-UNEVEN, UNEVEN),
        "slope_y": between(-UNEVEN, UNEVEN), "wave": between(0, UNEVEN),
        "wave_x": between(-1.5, 1.5), "wave_y": between(-1.5, 1.5),
        "phase": between(0, 2 * math.pi), "noise": between(*NOISE),
        "dash": torch.where(dashed, stretch * dash, length),
        "period": torch.where(dashed, stretch * (dash + gap), length),
    }  # fmt: skip
    return torch.cat([ends, *(numbers[name][:, None] for name in COLUMNS[4:])], 1)


def random_ends(count: int, generator: torch.Generator) -> Tensor:
    """The ends (count×4) of lines that are long enough, anywhere in a picture; left first."""
    ends = torch.empty(0, 4)
    while len(ends) < count:
        points = (SIZE - 1) * torch.rand(count, 4, generator=generator)
        long_enough = (points[:, 2:] - points[:, :2]).norm(dim=1) >= SHORTEST
        ends = torch.cat([ends, points[long_enough]])
    return left_first(ends[:count])


def left_first(ends: Tensor) -> Tensor:
    """The same ends (N×4), of each line the one with the smaller x first; of two, the upper one."""
    x0, y0, x1, y1 = ends.unbind(1)
    is_sorted = (x0 < x1) | ((x0 == x1) & (y0 <= y1))
    return torch.where(is_sorted[:, None], ends, ends.roll(2, dims=1))


def draw(descriptions: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pictures (float32, N×1×128×128, 0 black to 1 white) of the lines described (N×18).

    `generator` draws the noise; without one it is new every time, from torch's own generator.
    """
    numbers = dict(zip(COLUMNS, descriptions[:, :, None, None].unbind(1), strict=True))
    x = torch.arange(SIZE, dtype=torch.float32)[None, None, :]
    y = torch.arange(SIZE, dtype=torch.float32)[None, :, None]
    cover = numbers["opacity"] * coverage(numbers, x, y)
    noise = torch.randn(cover.shape, generator=generator)
    pictures = torch.lerp(background(numbers, x, y), numbers["ink"], cover)
    return pictures.addcmul_(numbers["noise"], noise).clamp_(0, 1)[:, None]


def coverage(numbers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """How much of each pixel the blurred line covers, N×128×128, 0..1.

    A rectangle blurred by a Gaussian is the product of its two blurred sides. Of a dashed line the
    dash counts that is nearest to the pixel.
    """
    dx, dy = numbers["x1"] - numbers["x0"], numbers["y1"] - numbers["y0"]
    length = (dx**2 + dy**2).sqrt()
    dx, dy = dx / length, dy / length
    along = (x - numbers["x0"]) * dx + (y - numbers["y0"]) * dy  # 0 at one end, length at the other
    across = (y - numbers["y0"]) * dx - (x - numbers["x0"]) * dy
    dash, period = numbers["dash"], numbers["period"]
    last = ((length - dash) / period).round()  # the last dash's number, from 0; 0 if not dashed
    nearest = ((along - dash / 2) / period).round().clamp(min=torch.zeros(1), max=last)
    along = along - nearest * period - dash / 2
    blur = numbers["blur"]
    return blurred_box(along, dash / 2, blur) * blurred_box(across, numbers["thickness"] / 2, blur)


def blurred_box(distance: Tensor, half: Tensor, blur: Tensor) -> Tensor:
    """A box from −half to half under a Gaussian blur, 0..1, at a distance from its middle."""
    scale = 1 / (math.sqrt(2) * blur)
    return (((distance + half) * scale).erf() - ((distance - half) * scale).erf()) / 2


def background(numbers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The uneven grey, N×128×128: two slopes, and a wave of at most 1½ periods along each axis."""
    x, y = 2 * x / (SIZE - 1) - 1, 2 * y / (SIZE - 1) - 1  # −1..1
    angle = math.pi * (numbers["wave_x"] * x + numbers["wave_y"] * y) + numbers["phase"]
    slope = numbers["slope_x"] * x + numbers["slope_y"] * y
    return numbers["grey"] + slope + numbers["wave"] * angle.cos()


def training_lines(count: int, seed: int, limit: int | None = None) -> InMemoryDataset:
    """A data set of lines (pictures 1×128×128, ends 4), drawn with new noise at every look.

    `limit` keeps the first so many.
    """
    descriptions = describe(count, TRAINING_SEED + seed)[:limit]
    return InMemoryDataset(descriptions, descriptions[:, :4], transform=draw)


def held_out_lines(limit: int | None = None) -> InMemoryDataset:
    """The pictures to choose by: bytes in memory, as a camera saves them; their ends in pixels."""
    return saved_pictures(describe(HELD_OUT, HELD_OUT_SEED)[:limit], HELD_OUT_SEED)


def unseen_lines(limit: int | None = None) -> InMemoryDataset:
    """The pictures to be scored once, in the same form."""
    return saved_pictures(describe_test_lines()[:limit], TEST_SEED)


def describe_test_lines() -> Tensor:
    """The descriptions (float32, 10,000×18) of the test lines."""
    return describe(TEST, TEST_SEED)


def saved_pictures(descriptions: Tensor, seed: int) -> InMemoryDataset:
    """A data set of pictures that stay as they are; `seed` draws their noise."""
    generator = torch.Generator().manual_seed(seed)
    parts = [(255 * draw(part, generator)).round().byte() for part in descriptions.split(100)]
    return InMemoryDataset(torch.cat(parts), descriptions[:, :4], transform=to_unit_range)


# Answers, and how good they are


def read_out(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ends (N×4, pixels) of scores N×1×H×W, how sure they are, and their rival (N, 0..1).

    An end is the mean place of a maximum's 7×7 pixels, weighted by their shares of 1 (the softmax
    of the scores); the second maximum is over 6 pixels away. Sure: what both windows hold of 1.
    Rival: the highest share elsewhere ÷ the first maximum's; near 1 where there is a second line.
    """
    scores = scores[:, 0]  # N×H×W
    height, width = scores.shape[1:]
    shares = scores.flatten(1).softmax(1).view_as(scores)
    x, y = torch.arange(width), torch.arange(height)[:, None]
    points, sure, first = [], torch.zeros(len(scores)), scores.amax((1, 2))
    for _ in range(2):
        highest = scores.flatten(1).argmax(1)[:, None, None]
        away = torch.maximum((x - highest % width).abs(), (y - highest // width).abs())
        window = scores.masked_fill(away > 3, -torch.inf).flatten(1).softmax(1).view_as(scores)
        points += [(window * x).sum((1, 2)), (window * y).sum((1, 2))]
        sure += shares.masked_fill(away > 3, 0).sum((1, 2))
        scores = scores.masked_fill(away <= 6, -torch.inf)
    rival = (scores.amax((1, 2)) - first).exp()
    return left_first(torch.stack(points, 1)), sure, rival


def distances(found: Tensor, ends: Tensor) -> Tensor:
    """How far the ends found (N×4) are from the true ones, N×2, pixels.

    Which end of a nearly vertical line is the left one is luck. So the order of the two ends is the
    one whose worse end is nearer.
    """
    as_found = (found - ends).view(-1, 2, 2).norm(dim=2)  # N×2
    exchanged = (found.roll(2, dims=1) - ends).view(-1, 2, 2).norm(dim=2)
    better = exchanged.amax(1) < as_found.amax(1)
    return torch.where(better[:, None], exchanged, as_found)


def share_within(found: Tensor, ends: Tensor, pixels: float) -> float:
    """Share of the lines, 0..1, with both ends (N×4) at most so far from the true ones."""
    return (distances(found, ends) <= pixels).all(1).double().mean().item()


# To compare with


def train_on_clean_lines(run: Run) -> nn.Module:
    """The network that line_regression.py ends with, and that is exact there: 89 parameters."""
    seed_everything(run.seed)
    network = end_network().to(run.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, fused=can_fuse(run.device))
    batches = make_lines(64 * END_UPDATES, SIZE, run.seed).batches(64, 1, run.seed)
    train_one_epoch(network, batches, end_loss, optimizer)
    return network


def as_clean(pictures: Tensor) -> Tensor:
    """Pictures (bytes, N×1×S×S) as clean ones: the line 1, all else 0.

    Otsu's threshold is the grey that best parts the pixels in two groups. Nobody says which of them
    is the line; so it is the one with fewer pixels.
    """
    masks = []
    for picture in pictures[:, 0].numpy():
        light = picture > threshold_otsu(picture)
        # A picture of one grey has no two sides; any pixel then is as good an answer.
        masks.append(light if 0 < light.sum() <= light.size / 2 else ~light)
    return torch.from_numpy(np.stack(masks))[:, None].byte()


def other_answers(run: Run, lines: InMemoryDataset) -> dict[str, list[Tensor]]:
    """The ends (N×4) of `saved_pictures` by the small network, on the pictures as they are and as
    clean ones, and by the rule of the outermost white pixels."""
    network, masks = train_on_clean_lines(run), as_clean(lines.inputs)
    found = {}
    for name, pictures in (("89 parameters", to_unit_range(lines.inputs)),
                           ("89 parameters, Otsu", masks.float())):  # fmt: skip
        ends = []
        for part in pictures.split(100):
            ends.append(highest_two(predict(network, [(part, part)])[0]).float())
        found[name] = [torch.cat(ends)]
    return found | {"outermost pixels, Otsu": [outermost_pixels(masks)]}


# Pictures of your own


def views(colours: npt.NDArray[np.float64]) -> Tensor:
    """A picture of any size (H×W×3, 0..1) as the network saw pictures, 3×1×h×w, 0..1.

    Three greys, of which one shows the line: its brightness, red against green, blue against
    yellow. The longer side becomes 128 pixels, both sides multiples of 16.
    """
    red, green, blue = torch.from_numpy(colours).float().unbind(2)
    yellow = (red + green) / 2
    greys = [0.299 * red + 0.587 * green + 0.114 * blue,
             0.5 + (red - green) / 2, 0.5 + (blue - yellow) / 2]  # fmt: skip
    cells = [max(1, round(side * SIZE / 16 / max(red.shape))) for side in red.shape]
    sides = (16 * cells[0], 16 * cells[1])
    shown = torch.stack(greys)[:, None]
    return interpolate(shown, sides, mode="bilinear", antialias=True).clamp(0, 1)


def look(network: nn.Module, colours: npt.NDArray[np.float64]) -> tuple[Tensor, float, float]:
    """The ends that a network finds in a picture (H×W×3, 0..1); sure and rival as in `read_out`.

    Of the three greys the one counts in which they are surest. The ends are 2×2: x, y in pixels.
    """
    pictures = views(colours)
    ends, sure, rival = read_out(predict(network, [(pictures, pictures)])[0])
    best = int(sure.argmax())
    height, width = colours.shape[:2]
    scale = torch.tensor([width / pictures.shape[3], height / pictures.shape[2]])
    return (ends[best].view(2, 2) + 0.5) * scale - 0.5, float(sure[best]), float(rival[best])
