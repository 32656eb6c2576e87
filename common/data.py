"""MNIST and Fashion-MNIST from their official archives, and batches without per-image work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.archives import read_archive
from common.errors import UsageError

# Fashion-MNIST's classes, by label.
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
Transform = Callable[[Tensor], Tensor]


class InMemoryDataset(Dataset[tuple[Tensor, Tensor]]):
    """Examples held as tensors, which gives one example or a whole batch by one index operation.

    `DataLoader` calls `__getitems__` with a batch's indices where a data set has it, so the usual
    loader stays and the cost per example goes. `transform` is applied to the inputs of a batch.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, transform: Transform | None = None) -> None:
        """`inputs` N×… and `targets` N×…, of equal length; raises ValueError otherwise."""
        if len(inputs) != len(targets):
            raise ValueError(f"{len(inputs)} inputs but {len(targets)} targets")
        self.inputs, self.targets, self.transform = inputs, targets, transform

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.__getitems__([index])
        return inputs[0], targets[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor(indices)
        # Several times as fast as `self.inputs[chosen]`, which takes each element, not each
        # example, by itself.
        inputs = self.inputs.index_select(0, chosen)
        if self.transform is not None:
            inputs = self.transform(inputs)
        return inputs, self.targets.index_select(0, chosen)


def check_has_pairs(batch_norm: bool, *counts: int | None) -> None:
    """Raises UsageError where batch norm would see single examples, by one of these counts.

    `make_loader` checks it; a script checks its options too, before --overwrite deletes a run.
    """
    if batch_norm and 1 in counts:
        raise UsageError("batch norm needs two examples in a batch; --limit too is at least 2")


def make_loader(
    dataset: InMemoryDataset, batch_size: int, *, shuffle: bool = False, seed: int = 0,
    sampler: Iterable[int] | None = None, no_single: bool = False,
) -> DataLoader[Any]:  # fmt: skip
    """A loader of batches (inputs B×…, targets B×…); the last one may be smaller.

    The order comes from the loader's own generator, so that nothing else that draws random numbers
    can change it; or from a `sampler`, which gives each epoch's indices. With `no_single` (and no
    sampler) a last batch of one example is left out, as training with batch normalisation needs it;
    UsageError where no other batch is left.
    """
    check_has_pairs(no_single, batch_size, len(dataset))
    drop_last = no_single and len(dataset) % batch_size == 1
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        dataset, batch_size, shuffle=shuffle, sampler=sampler, generator=generator,
        drop_last=drop_last, collate_fn=lambda batch: batch,  # it is one already
    )  # fmt: skip


def to_unit_range(images: Tensor) -> Tensor:
    """Bytes 0..255 → floats 0..1, as torchvision's `ToTensor` does it."""
    return images.float() / 255


@dataclass(frozen=True)
class LabelledImages:
    """Images (uint8, N×1×28×28, 0..255), labels (int64, N), and files where they have any."""

    images: Tensor
    labels: Tensor
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> LabelledImages:
        """The first `count` of them, or all where there are fewer."""
        return LabelledImages(self.images[:count], self.labels[:count], self.files[:count])

    def batches(
        self, batch_size: int, *, transform: Transform = to_unit_range, **order: Any
    ) -> DataLoader[Any]:
        """Batches for a network: images as floats (B×1×28×28) and labels (B).

        `order` has the keywords of `make_loader`: `shuffle`, `seed`, `sampler`, `no_single`.
        """
        dataset = InMemoryDataset(self.images, self.labels, transform)
        return make_loader(dataset, batch_size, **order)


def load_images(name: str, split: str, data_dir: Path, limit: int | None = None) -> LabelledImages:
    """The images and labels of `MNIST` or `FashionMNIST`.

    `split` is `train` (60,000 images) or `test` (10,000); `limit` keeps the first so many. The
    archives are read and their checksums compared at every call, and nothing is unpacked on disk: a
    read-only folder, runs that start at the same time and half-written files need no care. A
    missing or damaged archive is fetched from torchvision's mirrors. RunError names it where that
    fails; UsageError where there is no folder `data_dir`.
    """
    if not data_dir.is_dir():
        raise UsageError(f"--data-dir {data_dir}: there is no such folder")
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _parse_idx(read_archive(name, f"{prefix}-images-idx3-ubyte.gz", data_dir), limit)
    labels = _parse_idx(read_archive(name, f"{prefix}-labels-idx1-ubyte.gz", data_dir), limit)
    return LabelledImages(images.unsqueeze(1), labels.long())


def _parse_idx(content: bytes, limit: int | None) -> Tensor:
    # The IDX format: two zero bytes, the element type (8: unsigned byte), the number of dimensions,
    # each dimension as a big-endian 32-bit number, then the elements.
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
    shape[0] = min(shape[0], limit or shape[0])
    elements = bytearray(memoryview(content)[start : start + math.prod(shape)])
    return torch.frombuffer(elements, dtype=torch.uint8).view(shape)
