"""Document 4's own training epoch, which decodes every image file anew, against mnist_mlp.py's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.pairs import Way, compare, options_from_command_line
from common.cli import PROJECT, guarded
from common.data import LabelledImages, load_images
from common.device import configure_numerics
from common.image_folder import export_image_folder
from common.training import train_one_epoch
from mnist_mlp import Network, decode, open_folder

Figures = dict[str, float]
BATCH_SIZE = 64


def document_epoch(files: ImageFolder) -> Figures:
    """The document's loop over image files."""
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters())
    loss_function = nn.CrossEntropyLoss()
    order = torch.Generator().manual_seed(0)
    total = 0.0
    for images, labels in DataLoader(files, BATCH_SIZE, shuffle=True, generator=order):
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(labels)
    return figures(total / len(files), model)


def project_epoch(training: LabelledImages) -> Figures:
    """The chapter's epoch; a test shows that its steps and `train_one_epoch` are the same."""
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    batches = training.batches(BATCH_SIZE, shuffle=True, seed=0)
    return figures(train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer), model)


def figures(loss: float, model: nn.Module) -> Figures:
    """The epoch's loss, and a number that changes when one trained weight does."""
    weights = sum(p.detach().double().abs().sum().item() for p in model.parameters())
    return {"loss": loss, "sum of |weights|": weights}


def time_both(folder: Path, load: Callable[[str], LabelledImages], pairs: int) -> None:
    """Writes the folder of image files where it is missing, and times an epoch on it."""
    export_image_folder(folder, {"train": load("train"), "test": load("test")})
    files = open_folder(folder / "train", None)
    training = decode(files)
    compare(
        f"A training epoch on {len(training):,} images",
        Way("document", partial(document_epoch, files)),
        Way("project", partial(project_epoch, training)),
        figures_of=dict,
        pairs=pairs,
    )


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = options_from_command_line(__doc__, argv)
    configure_numerics()
    data = PROJECT / "data"

    def load(split: str) -> LabelledImages:
        return load_images("MNIST", split, data, options.limit)

    if options.limit is None:
        time_both(data / "MNIST" / "png", load, options.pairs)
        return
    with tempfile.TemporaryDirectory() as folder:
        time_both(Path(folder) / "png", load, options.pairs)


if __name__ == "__main__":
    main()
