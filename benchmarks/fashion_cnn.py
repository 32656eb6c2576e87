"""Document 3's own epoch against fashion_cnn.py's: training on 60,000 pictures and validation on 10,000."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from benchmarks.pairs import Way, compare, pairs_from_command_line
from common.cli import PROJECT
from common.data import load_images, make_loader
from common.device import configure_numerics, resolve_precision
from common.metrics import accuracy
from common.training import evaluate, train_one_epoch
from fashion_cnn import VALIDATION_BATCH, Clothes, Variant

Figures = dict[str, float]


def document_network() -> nn.Sequential:
    """The project's network with the document's order, ReLU before pooling."""
    conv1, pool1, relu1, conv2, pool2, relu2, *last = Variant().network()
    return nn.Sequential(conv1, relu1, pool1, conv2, relu2, pool2, *last)


def main() -> None:
    pairs = pairs_from_command_line(__doc__)
    configure_numerics()
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        # torchvision unpacks the archives where they are; that happens in a copy.
        shutil.copytree(PROJECT / "data" / "FashionMNIST", Path(folder) / "FashionMNIST")
        files = {part: FashionMNIST(folder, train=part == "train", download=True, transform=ToTensor())
                 for part in ("train", "test")}
    train, test = (Clothes(*load_images("FashionMNIST", split, PROJECT / "data")) for split in ("train", "test"))

    def document_epoch() -> Figures:
        torch.manual_seed(0)
        network = document_network()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        loss_fn = nn.CrossEntropyLoss()
        cost = torch.zeros(())
        for images, labels in DataLoader(files["train"], 100):
            optimizer.zero_grad()
            loss = loss_fn(network(images), labels)
            loss.backward()
            optimizer.step()
            cost += loss.data
        right = 0
        for images, labels in DataLoader(files["test"], 5000):  # the notebook records gradients here too
            right += (network(images).argmax(1) == labels).sum().item()
        return {"cost": cost.item() / 600, "accuracy": right / len(files["test"])}

    def project_epoch(dtype: torch.dtype) -> Figures:
        torch.manual_seed(0)
        network = Variant().network().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
        loader = make_loader(train.dataset(), 100)
        cost = train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer, dtype=dtype)
        held_out = make_loader(test.dataset(), VALIDATION_BATCH)
        return {"cost": cost, **evaluate(network, held_out, {"accuracy": accuracy}, dtype)}

    ways = [Way("project, fp32", lambda: project_epoch(torch.float32))]
    if resolve_precision("auto", cpu) == torch.bfloat16:
        ways.append(Way("project, bf16", lambda: project_epoch(torch.bfloat16)))
    compare("An epoch: 60,000 training and 10,000 validation pictures", Way("document", document_epoch), *ways,
            figures_of=dict, pairs=pairs)


if __name__ == "__main__":
    main()
