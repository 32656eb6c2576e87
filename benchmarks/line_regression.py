"""Document 1's way against line_regression.py's: drawing lines, and an epoch of training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from skimage.draw import line
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.pairs import Way, compare, options_from_command_line
from common.cli import guarded
from common.device import configure_numerics
from common.training import train_one_epoch
from line_regression import Experiment, LineNetwork, draw_lines, make_lines

SIZE = 128
LINES = 2000


class PerExample(Dataset[tuple[Tensor, Tensor]]):
    """The document's custom data set: one example at a time; `DataLoader` makes the batches."""

    def __init__(self, images: Tensor, ends: Tensor) -> None:
        self.images, self.ends = images, ends

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.ends[index]


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = options_from_command_line(__doc__, argv)
    configure_numerics()
    lines = make_lines(options.limit or LINES, SIZE, seed=0)
    count = len(lines.ends)

    def draw_one_by_one() -> Tensor:
        images = []
        for x0, y0, x1, y1 in lines.ends.tolist():
            image = torch.zeros(1, SIZE, SIZE)
            rows, columns = line(y0, x0, y1, x1)
            image[0, rows, columns] = 1
            images.append(image)
        return torch.stack(images)

    compare(
        f"Drawing {count:,} lines",
        Way("a tensor for each line", draw_one_by_one),
        Way("project", lambda: draw_lines(lines.ends, SIZE)),
        figures_of=image_figures,
        pairs=options.pairs,
    )

    floats = lines.images.float()
    squared_errors = nn.MSELoss(reduction="sum")

    def train_per_example() -> tuple[float, nn.Module]:
        torch.manual_seed(0)
        model = LineNetwork(SIZE, Experiment())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        generator = torch.Generator().manual_seed(0)
        examples = PerExample(floats, lines.ends / SIZE)
        loader = DataLoader(examples, 64, shuffle=True, generator=generator)
        model.train()
        total = 0.0
        for images, ends in loader:
            loss = squared_errors(model(images), ends)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / count, model

    def train_in_batches() -> tuple[float, nn.Module]:
        torch.manual_seed(0)
        model = LineNetwork(SIZE, Experiment()).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, fused=True)
        batches = lines.batches(64, unit=SIZE, seed=0)
        loss = train_one_epoch(model, batches, squared_errors, optimizer, reduction="sum")
        return loss, model

    compare(
        f"An epoch on {count:,} lines",
        Way("per-example Dataset", train_per_example),
        Way("project", train_in_batches),
        figures_of=training_figures,
        pairs=options.pairs,
    )


def image_figures(images: Tensor) -> dict[str, float]:
    """The number of lit pixels, and a number that changes when one of them moves."""
    places = images.flatten(1).nonzero().double()
    return {"lit pixels": len(places), "sum of places": places.sum().item()}


def training_figures(result: tuple[float, nn.Module]) -> dict[str, float]:
    """The epoch's loss, and a number that changes when one trained weight does."""
    loss, model = result
    weights = sum(weights.detach().double().abs().sum().item() for weights in model.parameters())
    return {"loss": loss, "sum of |weights|": weights}


if __name__ == "__main__":
    main()
