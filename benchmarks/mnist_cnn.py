"""The notes' own epoch of the basic CNN, each picture through `ToTensor` and `Normalize`, against mnist_cnn.py's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.pairs import Way, compare, pairs_from_command_line
from common.cli import PROJECT
from common.data import load_images, make_loader
from common.device import configure_numerics
from common.metrics import accuracy
from common.training import evaluate, train_one_epoch
from mnist_cnn import MEAN, STANDARD_DEVIATION, Digits, basic

Figures = dict[str, float]


def main() -> None:
    pairs = pairs_from_command_line(__doc__)
    configure_numerics()
    transform = Compose([ToTensor(), Normalize((MEAN,), (STANDARD_DEVIATION,))])
    with tempfile.TemporaryDirectory() as folder:
        # torchvision unpacks the archives where they are; that happens in a copy.
        shutil.copytree(PROJECT / "data" / "MNIST" / "raw", Path(folder) / "MNIST" / "raw")
        files = {part: MNIST(folder, train=part == "train", download=True, transform=transform)
                 for part in ("train", "test")}
    train, test = (Digits(*load_images("MNIST", split, PROJECT / "data")) for split in ("train", "test"))

    def notes_epoch() -> Figures:
        torch.manual_seed(0)
        network = basic()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5)
        loss_fn = nn.CrossEntropyLoss()
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for images, labels in DataLoader(files["train"], 64, shuffle=True, generator=generator):
            loss = loss_fn(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        right = 0
        with torch.no_grad():
            for images, labels in DataLoader(files["test"], 64):
                right += (network(images).argmax(1) == labels).sum().item()
        return {"loss": total / len(files["train"]), "accuracy": right / len(files["test"])}

    def project_epoch() -> Figures:
        torch.manual_seed(0)
        network = basic().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5, fused=True)
        loader = make_loader(train.dataset(), 64, shuffle=True, seed=0)
        loss = train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer)
        return {"loss": loss, **evaluate(network, make_loader(test.dataset(), 500), {"accuracy": accuracy})}

    compare("An epoch: 60,000 training and 10,000 test pictures", Way("notes", notes_epoch),
            Way("project", project_epoch), figures_of=dict, pairs=pairs)


if __name__ == "__main__":
    main()
