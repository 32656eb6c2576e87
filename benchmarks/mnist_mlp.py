"""Document 4's own training epoch, which decodes every image file anew, against mnist_mlp.py's."""

from __future__ import annotations

import time
from argparse import Namespace

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.pairs import Way, compare, pairs_from_command_line
from common.cli import PROJECT
from common.device import configure_numerics
from common.training import train_one_epoch
from mnist_mlp import Network, load_digits

Figures = dict[str, float]
BATCH_SIZE = 64


def main() -> None:
    pairs = pairs_from_command_line(__doc__)
    configure_numerics()
    start = time.perf_counter()
    options = Namespace(source="folder", data_dir=PROJECT / "data", limit=None, seed=0,
                        batch_size=BATCH_SIZE, widths=None, explain=False)  # fmt: skip
    training, _, from_files = load_digits(options)
    seconds = time.perf_counter() - start
    print(f"the folder, decoded once (and written where it was missing): {seconds:.1f} s")

    def document_epoch() -> Figures:
        torch.manual_seed(0)
        model = Network()
        optimizer = torch.optim.Adam(model.parameters())
        loss_function = nn.CrossEntropyLoss()
        order = torch.Generator().manual_seed(0)
        total = 0.0
        for images, labels in DataLoader(
            from_files.dataset, BATCH_SIZE, shuffle=True, generator=order
        ):
            loss = loss_function(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(labels)
        return figures(total / len(training), model)

    def project_epoch() -> Figures:
        # A test shows that the steps written out in mnist_mlp.py give the same numbers.
        torch.manual_seed(0)
        model = Network()
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        batches = training.batches(BATCH_SIZE, shuffle=True, seed=0)
        return figures(train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer), model)

    compare("A training epoch on 60,000 images", Way("document", document_epoch),
            Way("project", project_epoch), figures_of=dict, pairs=pairs)  # fmt: skip


def figures(loss: float, model: nn.Module) -> Figures:
    """The epoch's loss, and a number that changes when one trained weight does."""
    weights = sum(p.detach().double().abs().sum().item() for p in model.parameters())
    return {"loss": loss, "sum of |weights|": weights}


if __name__ == "__main__":
    main()
