"""Document 4's own training epoch, which decodes each picture file anew, against mnist_mlp.py's."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.pairs import Way, compare, pairs_from_command_line
from common.cli import PROJECT
from common.data import make_loader
from common.device import configure_numerics
from common.training import train_one_epoch
from mnist_mlp import DOCUMENT_BATCH, Network, read_folder

Figures = dict[str, float]


def main() -> None:
    pairs = pairs_from_command_line(__doc__)
    configure_numerics()
    start = time.perf_counter()
    digits, dataset = read_folder(PROJECT / "data", None)
    print(f"the folder, decoded once (and written where it was missing): {time.perf_counter() - start:.1f} s")

    def document_epoch() -> Figures:
        torch.manual_seed(0)
        network = Network()
        optimizer = torch.optim.Adam(network.parameters())
        loss_fn = nn.CrossEntropyLoss()
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for images, labels in DataLoader(dataset, DOCUMENT_BATCH, shuffle=True, generator=generator):
            loss = loss_fn(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(labels)
        return figures(total / len(dataset), network)

    def project_epoch() -> Figures:
        torch.manual_seed(0)
        network = Network()
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        loader = make_loader(digits["train"].dataset(), DOCUMENT_BATCH, shuffle=True, seed=0)
        return figures(train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer), network)

    compare("A training epoch on 60,000 pictures", Way("document", document_epoch), Way("project", project_epoch),
            figures_of=dict, pairs=pairs)


def figures(loss: float, network: nn.Module) -> Figures:
    """The epoch's loss, and a number that changes when one trained weight does."""
    return {"loss": loss, "sum of |weights|": sum(p.detach().double().abs().sum().item() for p in network.parameters())}


if __name__ == "__main__":
    main()
