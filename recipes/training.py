"""What the recipes' trainings share: what is held out or skipped, learning rates, weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.data import LabelledImages
from common.errors import UsageError
from common.files import Damaged, load_safetensors, save_safetensors
from common.runs import Run

HELD_OUT = 6  # one training image in six is held out to choose by: 10,000 of 60,000
SPLIT_SEED = 0  # the same images are held out whatever a run's seed
Tensors = tuple[Tensor, ...] | list[Tensor]
WEIGHTS = "model.safetensors"
SHIPPED = Path(__file__).parent / "weights"  # each recipe's network of seed 0, from its stated run


def one_cycle(optimizer: Optimizer, steps: int, warm_up: float) -> OneCycleLR:
    """The learning rate of each update: up to the optimizer's, then down to almost 0.

    The first is 1/25 of that; it rises for the share `warm_up` (0 to below 1) of all `steps`, both
    ways along half a cosine wave; call `step()` after each update. L. N. Smith, N. Topin,
    "Super-Convergence", arXiv 1708.07120.
    """
    steps = max(steps, 3)  # with fewer OneCycleLR divides by zero
    lr = optimizer.param_groups[0]["lr"]
    share = max(warm_up, 2 / steps)
    return OneCycleLR(optimizer, lr, steps, pct_start=share, cycle_momentum=False)


def running_mean(network: nn.Module, share: float) -> AveragedModel:
    """A copy of the network whose weights are the exponential moving average of the network's.

    At each `update_parameters(network)` it keeps a part of what it is and takes the rest from the
    network. The part grows with the number of updates to `share` (0..1), so that the first, random
    weights are soon forgotten.
    """

    def average(means: Tensors, weights: Tensors, steps: Tensor | int) -> None:
        kept = min(share, (1 + float(steps)) / (10 + float(steps)))
        get_ema_multi_avg_fn(kept)(means, weights, steps)  # kept · means + (1 − kept) · weights

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


class SkipEasy(nn.Module):
    """Epochs that train on the hard examples, and on some of the easy ones.

    The share `easy` (0..1) of all examples is easy: those whose losses were lowest when they were
    last trained on. An epoch skips the share `skipped` (below 1) of these, at random; each one that
    is kept counts for those skipped too, so that the mean gradient is nearly that of all examples.
    New ones are taken for hard, as far as there is room, and count once; in the first epoch all are
    new, and chance decides. The last tenth of the epochs, at least one, skips as many, drawn from
    all examples: so the statistics of batch norm end as those of all. After Z. Qin et al.,
    "InfoBatch", arXiv 2303.04947; there an example is easy with less than the mean loss, and the
    last epochs skip none.

    It is the sampler of a loader, where each pass begins an epoch, and the loss function
    (cross-entropy) for the loader's batches in their order, on any device. A checkpoint keeps the
    losses and how many epochs were begun.
    """

    losses: Tensor  # N: each example's when it was last trained on; infinite before
    begun: Tensor  # how many epochs have begun

    def __init__(
        self, examples: int, epochs: int, *, easy: float, skipped: float,
        label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.easy, self.skipped = round(easy * examples), round(skipped * round(easy * examples))
        self.epochs_by_loss = epochs - max(1, round(epochs / 10))
        self.label_smoothing = label_smoothing
        self.register_buffer("losses", torch.full((examples,), math.inf))
        self.register_buffer("begun", torch.tensor(0))
        self.drawn = torch.empty(0, dtype=torch.long)  # an epoch's examples, in their order
        self.counts = torch.ones(examples)  # how much each example counts
        self.position = 0  # how many of an epoch's examples were trained on

    def __len__(self) -> int:
        return max(1, len(self.losses) - self.skipped)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.losses))
        self.counts = torch.ones(len(self.losses))
        if self.begun < self.epochs_by_loss:
            order = order[self.losses[order].argsort(descending=True)]
            hard, easy = order.split([len(order) - self.easy, self.easy])
            easy = easy[torch.randperm(self.easy)]  # those that are skipped come last, by chance
            known = easy[self.losses[easy].isfinite()]
            self.counts[known] = self.easy / max(1, self.easy - self.skipped)
            order = torch.cat([hard, easy])
        self.drawn = order[: len(self)][torch.randperm(len(self))]
        self.begun += 1
        self.position = 0
        return iter(self.drawn.tolist())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of the next batch: logits B×C, labels B → the mean, by what each counts."""
        batch = self.drawn[self.position : self.position + len(labels)]
        self.position += len(labels)
        losses = cross_entropy(logits, labels, reduction="none",
                               label_smoothing=self.label_smoothing)  # fmt: skip
        self.losses[batch] = losses.detach().cpu()
        counts = self.counts[batch].to(losses.device)
        return (losses * counts).sum() / counts.sum()


def seconds_of_training(run: Run) -> float:
    """The seconds from the first to the last batch of each epoch, without reading and scoring."""
    return sum(row["seconds"] for row in run.history)


def split(images: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Training images in two parts: to train on, and a random sixth to choose by.

    The sixth is the same whatever a run's seed, so all networks are scored on the same images.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out = len(images) // HELD_OUT
    to_train, to_choose = order[: len(order) - held_out], order[len(order) - held_out :]
    return (
        LabelledImages(images.images[to_train], images.labels[to_train]),
        LabelledImages(images.images[to_choose], images.labels[to_choose]),
    )


def save_weights(run: Run, network: nn.Module) -> None:
    """Rounds the network's weights to 16-bit floats and saves them as `model.safetensors`.

    So the file is half as large, and the network that is tested afterwards is the saved one.
    Tensors with numbers beyond 65,504, the largest of 16 bits, keep their 32.
    """
    tensors = {}
    with torch.no_grad():
        for name, value in network.state_dict().items():
            rounded = value.half() if value.is_floating_point() else value
            if not rounded.isfinite().all():
                rounded = value
            value.copy_(rounded)
            tensors[name] = rounded.cpu().contiguous()
    save_safetensors(run.file(WEIGHTS), tensors)


def load_weights(path: Path, network: nn.Module) -> None:
    """Gives the network the weights in a file that `save_weights` wrote.

    Raises UsageError for a file that cannot be read, is damaged, or of another network.
    """
    try:
        network.load_state_dict(load_safetensors(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except (Damaged, RuntimeError):
        raise UsageError(
            f"{path} is damaged or does not hold the weights of this network"
        ) from None
