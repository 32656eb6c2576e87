"""Document 1: a convolutional network finds the two ends of a line in an image.

    python line_regression.py               the whole story, 35 epochs
    python line_regression.py --epochs 500  the document's number of epochs
    python line_regression.py --epochs 500 --lines 1000 --loss mean   read literally
    python line_regression.py --ablation    also without each repair in turn

Each image is black with one white line. The network answers with four numbers:
(x0, y0) of the left end and (x1, y1) of the right end. You learn how a network
predicts numbers, why the document's first draft explodes and what stops that,
and why scores on training lines alone are not enough. Then a better question: asked
of each pixel "are you an end?", a network with 89 parameters finds all ends. Asked
for four numbers, one with 985,044 parameters does not. On these clean lines the outermost
lit pixels are the ends, without learning; not so on noisy ones (recipes/lines.py).

Measured on unseen lines, coordinates within 10 pixels: 90% after 35 epochs (4
minutes, seed 0), 95% after 500 (five seeds). By pixel: all 2,000 lines exact (five seeds).

Document 1 of five is "Getting started with a neural network: simple CNN example
using PyTorch" (Towards Data Science). Chosen here: number of lines, layer sizes,
batch size; a sigmoid, as the document's outputs became 0 or 1; in `train` summed errors.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from skimage.draw import line
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.cli import add_shared_flags, guarded, make_parser, whole_number
from common.data import InMemoryDataset, make_loader
from common.device import can_fuse, seed_everything
from common.runs import Run
from common.start import start_run
from common.terminal import track
from common.training import LossFunction, predict, train_one_epoch
from reports import line_regression as report
from reports import line_regression_ablation as ablation
from reports import line_regression_draft as draft
from reports import line_regression_question as question
from reports import line_regression_rates as rates
from reports.line_regression_scores import line_scores

# 1. The data: black images of 128×128 pixels with one white line, and where its two ends are

TRAINING_LINES, UNSEEN_LINES, FEW_LINES = 10_000, 2_000, 1_000


@dataclass(frozen=True)
class Lines:
    """Images (uint8, N×1×S×S, 0 or 1) and the ends of their lines (int64, N×4: x0, y0, x1, y1)."""

    images: Tensor
    ends: Tensor

    def first(self, count: int) -> Lines:
        return Lines(self.images[:count], self.ends[:count])

    def batches(self, batch_size: int, unit: int, seed: int | None = None) -> DataLoader[Any]:
        """Images (B×1×S×S) and ends (B×4, divided by `unit`) as floats; a seed shuffles them."""
        dataset = InMemoryDataset(self.images, self.ends / unit, transform=Tensor.float)
        return make_loader(dataset, batch_size, shuffle=seed is not None, seed=seed or 0)


def make_lines(count: int, size: int, seed: int, exclude: Tensor | None = None) -> Lines:
    """Random lines in size×size images, left end first; none has its ends in `exclude` (N×4)."""
    generator = torch.Generator().manual_seed(seed)
    taken = set() if exclude is None else {tuple(ends) for ends in exclude.tolist()}
    chosen: list[list[int]] = []
    while len(chosen) < count:
        starts, stops = torch.randint(size, (2, count - len(chosen), 2), generator=generator)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            left, right = sorted([start, stop])  # by x; of two ends with the same x by y
            if left != right and (*left, *right) not in taken:
                chosen.append(left + right)  # lists joined: [x0, y0, x1, y1]
    ends = torch.tensor(chosen)
    return Lines(draw_lines(ends, size), ends)


def draw_lines(ends: Tensor, size: int) -> Tensor:
    """Images (uint8, N×1×size×size) with the pixels of the lines at 1; row = y, column = x."""
    images = np.zeros((len(ends), 1, size, size), np.uint8)
    for image, (x0, y0, x1, y1) in zip(images, ends.tolist(), strict=True):
        image[0][line(y0, x0, y1, x1)] = 1
    return torch.from_numpy(images)


# 2. The models: the first draft, and with three repairs: fractions, ReLU, fewer convolutions

def first_draft(size: int) -> nn.Sequential:
    """The document's model 1, to show its layers; DRAFT below builds the same: B×1×S×S → B×4."""
    convolutions = nn.Sequential(  # B×1×128×128; stride 2: every second place, sides halve
        nn.Conv2d(1, 4, kernel_size=3, stride=2),  # B×4×63×63
        nn.Conv2d(4, 8, kernel_size=3, stride=2),  # B×8×31×31
        nn.Conv2d(8, 16, kernel_size=3, stride=2),  # B×16×15×15
        nn.Conv2d(16, 32, kernel_size=3, stride=2),  # B×32×7×7
        nn.Flatten(),  # B×1568
    )
    features = convolutions(torch.zeros(1, 1, size, size)).numel()  # measured on a blank image
    return nn.Sequential(*convolutions, nn.Linear(features, 128), nn.Linear(128, 4))  # B×4


@dataclass(frozen=True)
class Experiment:
    """How a network is built and trained; the defaults have all repairs."""

    channels: tuple[int, ...] = (4, 8)
    relu: bool = True
    sigmoid: bool = True  # ours: squeezes each answer into 0..1; --ablation shows the cost
    dropout: float = 0.0  # in training this share of the numbers is set to 0, at random
    ends_in_pixels: bool = False  # as targets, instead of fractions of the image's side
    any_order: bool = False  # for --ablation, which exchanges the ends of some lines
    loss: str = "sum"  # one of LOSSES; "mean" divides by 64 lines · 4 numbers: smaller steps
    epochs: int = 5
    batch_size: int = 64
    lr: float = 0.001


class LineNetwork(nn.Module):
    """Images B×1×S×S → ends B×4: fractions of the image's side; in pixels if trained on those."""

    def __init__(self, size: int, experiment: Experiment) -> None:
        super().__init__()
        activation = nn.ReLU() if experiment.relu else nn.Identity()
        self.convolutions = nn.Sequential()
        for inputs, outputs in pairwise((1, *experiment.channels)):  # (1, 4), (4, 8)
            self.convolutions.append(nn.Conv2d(inputs, outputs, kernel_size=3, stride=2))
            self.convolutions.append(activation)
        features = self.convolutions(torch.zeros(1, 1, size, size)).numel()
        self.dropout = nn.Dropout(experiment.dropout)
        self.hidden = nn.Sequential(nn.Linear(features, 128), activation)
        squash = nn.Sigmoid() if experiment.sigmoid else nn.Identity()
        self.answer = nn.Sequential(nn.Linear(128, 4), squash)

    def forward(self, images: Tensor) -> Tensor:  # B×1×128×128
        hidden = self.convolutions(images)  # B×8×31×31
        hidden = self.hidden(self.dropout(hidden.flatten(1)))  # B×7688 → B×128
        ends: Tensor = self.answer(hidden)  # B×4
        return ends


# 3. Training: the loss is the squared error, summed over a batch's lines and their four numbers

LOSSES: dict[str, LossFunction] = {"sum": nn.MSELoss(reduction="sum"), "mean": nn.MSELoss(),
                                   "either order": ablation.either_order_loss}


def train(run: Run, experiment: Experiment, training: Lines, unseen: Lines) -> nn.Module:
    """Trains a network; after each epoch scores it on 1,000 training and 1,000 unseen lines."""
    size = training.images.shape[-1]
    unit = 1 if experiment.ends_in_pixels else size
    loss_function = LOSSES[experiment.loss]
    summed = experiment.loss != "mean"
    seed_everything(run.seed)
    # channels_last: a memory layout in which convolutions are faster; only rounding differs.
    model = LineNetwork(size, experiment).to(run.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.lr, fused=can_fuse(run.device))
    batches = training.batches(experiment.batch_size, unit, run.seed)
    known, unknown = training.first(FEW_LINES), unseen.first(FEW_LINES)
    for epoch in run.epochs(experiment.epochs, model, optimizer, batches):
        train_loss = train_one_epoch(model, epoch.batches, loss_function, optimizer,
                                     dtype=run.dtype, reduction="sum" if summed else "mean")
        outputs, targets = predict(model, unknown.batches(500, unit), run.dtype)
        unseen_loss = loss_function(outputs, targets).item() / (len(targets) if summed else 1)
        epoch.record(line_scores("train", find_ends(model, known, unit, run.dtype), known.ends))
        epoch.record(line_scores("unseen", outputs * unit, unknown.ends))
        epoch.log(train_loss=train_loss, unseen_loss=unseen_loss,
                  unseen_median_error=epoch.row["unseen_median_error"])
    return model


# 4. Evaluation: how far from the truth are the ends that the network finds?

def find_ends(model: nn.Module, lines: Lines, unit: int, dtype: torch.dtype) -> Tensor:
    """The ends (N×4, pixels) that a network finds; its outputs are in units of `unit` pixels."""
    outputs, _ = predict(model, lines.batches(500, unit), dtype)
    return outputs * unit


# 5. Why do the draft's weights explode (grow to NaN)? Errors in pixels are large: steps overshoot
# Trained: the draft alone; with fractions (rates 0.001, 0.1), ReLU, two convolutions, all three.
DRAFT = Experiment((4, 8, 16, 32), relu=False, sigmoid=False, ends_in_pixels=True, loss="mean")
REPAIRS = {name: replace(DRAFT, **changes) for name, changes in draft.REPAIRS.items()}


def train_watched(
    run: Run, experiment: Experiment, lines: Lines, loss_function: LossFunction | None = None
) -> draft.Updates:
    """Trains for a few epochs and watches every update; a `loss_function` replaces its own."""
    size = lines.images.shape[-1]
    unit = 1 if experiment.ends_in_pixels else size
    seed_everything(run.seed)
    model = LineNetwork(size, experiment).to(run.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.lr)
    batches = lines.batches(experiment.batch_size, unit, run.seed)
    updates = draft.Updates(model, optimizer, len(batches), unit, lines.first(20))
    for _ in range(experiment.epochs):
        train_one_epoch(model, batches, loss_function or LOSSES[experiment.loss], optimizer,
                        after_step=updates.note, may_diverge=True)
    return updates


# 6. A better question: are you an end? Every pixel is asked, instead of the image for four numbers

END_UPDATES, END_SEEDS = 80, 5


def end_network() -> nn.Sequential:
    """Images B×1×S×S → a score for each pixel, B×1×S×S, from what it and its 8 neighbours are."""
    return nn.Sequential(  # 89 parameters
        nn.Conv2d(1, 8, kernel_size=3, padding=1),  # B×8×128×128; beyond the border all is black
        nn.ReLU(),
        nn.Conv2d(8, 1, kernel_size=1),  # B×1×128×128
    )


def end_loss(scores: Tensor, ends: Tensor) -> Tensor:
    """The mean of −log of the share of each true end: at best log 2, if both have ½ (ends B×4)."""
    log_shares = scores.flatten(1).log_softmax(1)  # B×16384; softmax: e^score ÷ sum over the image
    pixels = ends[:, 1::2] * scores.shape[-1] + ends[:, ::2]  # B×2: y·width + x of both ends
    return -log_shares.gather(1, pixels.long()).mean()  # −log of the share at each true end


def highest_two(scores: Tensor) -> Tensor:
    """The ends (N×4): the two pixels with the highest scores (N×1×S×S), the left one first."""
    places = scores.transpose(2, 3).flatten(1).topk(2).indices  # N×2: x·S + y, to sort by x
    x, y = torch.unravel_index(places.sort(1).values, scores.shape[2:])  # N×2 each, left one first
    return torch.stack([x, y], 2).flatten(1)  # N×4: x0, y0, x1, y1


def ask_every_pixel(run: Run, lines: Lines, unseen: Lines) -> list[tuple[nn.Sequential, Tensor]]:
    """For each of five seeds the network after half an epoch, and the unseen ends that it finds."""
    results = []
    for seed in track(range(run.seed, run.seed + END_SEEDS), "networks that ask every pixel"):
        seed_everything(seed)
        model = end_network().to(run.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=can_fuse(run.device))
        batches = islice(lines.batches(64, unit=1, seed=seed), END_UPDATES)
        train_one_epoch(model, batches, end_loss, optimizer)
        found = [highest_two(predict(model, [batch])[0]) for batch in unseen.batches(100, unit=1)]
        results.append((model, torch.cat(found)))
    return results


# 7. Options and main

def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--image-size", type=whole_number(31, 512), default=128, metavar="PIXELS",
                        help="side of the images, at least 31 (default %(default)s)")
    parser.add_argument("--lines", type=whole_number(1, 400_000), default=TRAINING_LINES,
                        metavar="N", help="training lines of the main run (default %(default)s)")
    parser.add_argument("--loss", choices=("sum", "mean"), default="sum",
                        help="of a batch's squared errors in the main run (default %(default)s)")
    parser.add_argument("--ablation", action="store_true", help="also train without each repair")
    add_shared_flags(parser, epochs=35, batch_size=64, lr=0.001)
    return parser.parse_args(argv)


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    size, seed, count = options.image_size, options.seed, max(TRAINING_LINES, options.lines)
    limit = options.limit or count
    with start_run(__file__, options, argv) as run:
        lines = make_lines(min(count, limit), size, 2 * seed)  # even seeds; unseen lines have odd
        unseen = make_lines(min(UNSEEN_LINES, limit), size, 2 * seed + 1, exclude=lines.ends)
        training, few, hundred = (lines.first(n) for n in (options.lines, FEW_LINES, 100))
        report.examples(run, make_lines(1, 10, seed), training)
        draft.layers(run, first_draft(size).to(run.device), hundred)
        short = train_watched(run, replace(DRAFT, epochs=1), hundred)
        repairs = {name: train_watched(run, REPAIRS[name], few) for name in REPAIRS}
        draft.answers(run, short.model, repairs["first draft"].model, hundred, few, unseen)
        draft.explosion(run, repairs, few)
        watched = rates.compare_rates(run, train_watched, Experiment(sigmoid=False), few)
        rates.learning_rates(run, watched)  # sigmoid=False: the losses of this study apply it

        experiment = Experiment(loss=options.loss, epochs=options.epochs,
                                batch_size=options.batch_size, lr=options.lr)
        model = train(run, experiment, training, unseen)
        found_training = find_ends(model, training, size, run.dtype)
        found = find_ends(model, unseen, size, run.dtype)
        report.final_run(run, training, found_training, unseen, found)
        if options.ablation:
            ablation.report(run, ablation.ablate(run, train, Experiment(), lines, unseen))
        question.compare(run, model, found, ask_every_pixel(run, lines, unseen), unseen)
        run.finish(document=1, claims=report.CLAIMS, ending=report.ending(run, found, unseen))


if __name__ == "__main__":
    main()
