"""The course's epoch of the basic CNN against mnist_cnn.py's: training and test.

The course's images go through `ToTensor` and `Normalize` one by one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.pairs import Way, compare, options_from_command_line
from common.cli import PROJECT, guarded
from common.data import LabelledImages, load_images
from common.device import configure_numerics
from common.training import accuracy_on, train_one_epoch
from mnist_cnn import MEAN, STANDARD_DEVIATION, TEST_BATCH, basic, normalise

Figures = dict[str, float]
Files = Dataset[tuple[Tensor, int]]


def unpack(split: str, limit: int | None) -> Files:
    """torchvision's data set, of which each image goes through `ToTensor` and `Normalize`."""
    transform = Compose([ToTensor(), Normalize((MEAN,), (STANDARD_DEVIATION,))])
    with tempfile.TemporaryDirectory() as folder:
        # torchvision unpacks the archives where they are; that happens in a copy.
        source = PROJECT / "data" / "MNIST" / "raw"
        shutil.copytree(source, Path(folder) / "MNIST" / "raw")
        files = MNIST(folder, train=split == "train", download=True, transform=transform)
    return Subset(files, range(limit or len(files)))


def course_epoch(training: Files, test: Files) -> Figures:
    """The course's loops."""
    torch.manual_seed(0)
    model = basic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    loss_function = nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(0)
    batches: DataLoader[Any] = DataLoader(training, 64, shuffle=True, generator=generator)
    total, examples = 0.0, 0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        examples += len(labels)
    right, seen = 0, 0
    with torch.no_grad():
        for images, labels in DataLoader(test, 64):
            right += int((model(images).argmax(1) == labels).sum())
            seen += len(labels)
    return {"loss": total / examples, "accuracy": right / seen}


def project_epoch(training: LabelledImages, test: LabelledImages) -> Figures:
    """The chapter's training and test."""
    torch.manual_seed(0)
    model = basic().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
    batches = training.batches(64, shuffle=True, seed=0, transform=normalise)
    loss = train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer)
    accuracy = accuracy_on(model, test.batches(TEST_BATCH, transform=normalise))
    return {"loss": loss, "accuracy": accuracy}


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = options_from_command_line(__doc__, argv)
    configure_numerics()
    training_files, test_files = unpack("train", options.limit), unpack("test", options.limit)
    training = load_images("MNIST", "train", PROJECT / "data", options.limit)
    test = load_images("MNIST", "test", PROJECT / "data", options.limit)
    compare(
        f"An epoch: {len(training):,} training and {len(test):,} test images",
        Way("course", partial(course_epoch, training_files, test_files)),
        Way("project", partial(project_epoch, training, test)),
        figures_of=dict,
        pairs=options.pairs,
    )


if __name__ == "__main__":
    main()
