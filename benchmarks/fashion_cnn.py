"""Document 3's own epoch against fashion_cnn.py's: training and validation."""

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
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from benchmarks.pairs import Way, compare, options_from_command_line
from common.cli import PROJECT, guarded
from common.data import LabelledImages, load_images
from common.device import configure_numerics, resolve_precision
from common.training import accuracy_on, train_one_epoch
from fashion_cnn import VALIDATION_BATCH, ClothesCNN, Experiment

Figures = dict[str, float]
Files = Dataset[tuple[Tensor, int]]


class DocumentCNN(ClothesCNN):
    """The same network in the document's order, ReLU before pooling."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for convolution, _, pool, relu in (self.block1, self.block2):
            hidden = pool(relu(convolution(hidden)))
        logits: Tensor = self.classify(hidden.flatten(1))
        return logits


def unpack(split: str, limit: int | None) -> Files:
    """torchvision's data set, of which each image goes through `ToTensor`."""
    with tempfile.TemporaryDirectory() as folder:
        # torchvision unpacks the archives where they are; that happens in a copy.
        source = PROJECT / "data" / "FashionMNIST" / "raw"
        shutil.copytree(source, Path(folder) / "FashionMNIST" / "raw")
        files = FashionMNIST(folder, train=split == "train", download=True, transform=ToTensor())
    return Subset(files, range(limit or len(files)))


def document_epoch(training: Files, validation: Files) -> Figures:
    """The notebook's loops; it records gradients in validation too."""
    torch.manual_seed(0)
    model = DocumentCNN(Experiment())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_function = nn.CrossEntropyLoss()
    cost = torch.zeros(())
    batches: DataLoader[Any] = DataLoader(training, 100)
    for images, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        cost += loss.data
    right, seen = 0, 0
    for images, labels in DataLoader(validation, 5000):
        right += int((model(images).argmax(1) == labels).sum())
        seen += len(labels)
    return {"cost": cost.item() / len(batches), "accuracy": right / seen}


def project_epoch(
    training: LabelledImages, validation: LabelledImages, dtype: torch.dtype
) -> Figures:
    """The chapter's training and validation."""
    torch.manual_seed(0)
    model = ClothesCNN(Experiment()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    batches = training.batches(100)
    cost = train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer, dtype=dtype)
    accuracy = accuracy_on(model, validation.batches(VALIDATION_BATCH), dtype)
    return {"cost": cost, "accuracy": accuracy}


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = options_from_command_line(__doc__, argv)
    configure_numerics()
    training_files, validation_files = unpack("train", options.limit), unpack("test", options.limit)
    training = load_images("FashionMNIST", "train", PROJECT / "data", options.limit)
    validation = load_images("FashionMNIST", "test", PROJECT / "data", options.limit)
    project = partial(project_epoch, training, validation)
    ways = [Way("project, fp32", partial(project, torch.float32))]
    if resolve_precision("auto", torch.device("cpu")) == torch.bfloat16:
        ways.append(Way("project, bf16", partial(project, torch.bfloat16)))
    compare(
        f"An epoch: {len(training):,} training and {len(validation):,} validation images",
        Way("document", partial(document_epoch, training_files, validation_files)),
        *ways,
        figures_of=dict,
        pairs=options.pairs,
    )


if __name__ == "__main__":
    main()
