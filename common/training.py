"""Training and scoring: the five steps of every batch, and what a model answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.device import autocast
from common.errors import Diverged
from common.metrics import accuracy
from common.rows import Row

Batches = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], float | Tensor]


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    loss_function: LossFunction,
    optimizer: Optimizer,
    *,
    dtype: torch.dtype = torch.float32,
    reduction: str = "mean",
    after_step: Callable[[Tensor, Tensor], None] | None = None,
    may_diverge: bool = False,
) -> float:
    """Trains on every batch (inputs B×…, targets B×…) once; returns the mean loss of an example.

    `reduction` says whether the loss function gives the `mean` or the `sum` over a batch's
    examples. With `dtype` bfloat16 the forward pass runs in autocast. `after_step(outputs, loss)`
    is called after each update. The model's mode is restored, unless an error ends the epoch.
    ValueError without a batch and, at the end, for another `reduction`; Diverged where a loss is
    not finite, unless `may_diverge`.
    """
    device = device_of(model)
    was_training = model.training
    model.train()  # dropout and batch norm now behave as in training
    losses, sizes = [], []
    for inputs, targets in batches:
        inputs, targets = inputs.to(device), targets.to(device)
        with autocast(device, dtype):
            outputs = model(inputs)  # 1. forward: what the model answers
        loss = loss_function(outputs.float(), targets)  # 2. loss: how wrong the answers are
        loss.backward()  # 3. backward: the gradient of the loss for every parameter
        optimizer.step()  # 4. step: move the parameters against their gradients
        optimizer.zero_grad()  # 5. zero: forget the gradients, to which backward() would add
        losses.append(_kept(loss))
        sizes.append(len(inputs))
        if after_step is not None:
            after_step(outputs.detach(), loss.detach())
    model.train(was_training)
    numbers = _numbers(losses)
    if not may_diverge:
        _check_finite(numbers, model, optimizer, getattr(batches, "epoch", None))
    return mean_loss(numbers, sizes, reduction)


def _kept(loss: Tensor) -> Tensor | float:
    """A loss as it is kept until the epoch ends.

    A GPU's is read only then: reading makes a GPU wait. A CPU's is read at once: small tensors that
    are kept can stop large ones from reusing their memory (6 GB instead of 1 were seen).
    """
    return loss.item() if loss.device.type == "cpu" else loss.detach()


def _numbers(kept: Sequence[Tensor | float]) -> list[float]:
    """What `_kept` returned, as numbers; a GPU's losses are fetched in one go."""
    tensors = [loss for loss in kept if isinstance(loss, Tensor)]
    if tensors:
        return [float(loss) for loss in torch.stack(tensors).tolist()]
    return [float(loss) for loss in kept]


def _check_finite(
    losses: list[float], model: nn.Module, optimizer: Optimizer, epoch: int | None
) -> None:
    """Raises Diverged at the first loss that is no number; `run.epochs`' batches know the epoch."""
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            where = f"step {step}" if epoch is None else f"epoch {epoch}, step {step}"
            raise diverged(f"{where}: the loss is {loss:g}", model, optimizer)


def diverged(what: str, model: nn.Module, optimizer: Optimizer) -> Diverged:
    """The error that says so, with the learning rate and the largest weight."""
    rate, largest = optimizer.param_groups[0]["lr"], largest_weight(model)
    return Diverged(
        f"training diverged, {what} (learning rate {rate:g}, largest weight {largest:g}); "
        "a lower learning rate helps"
    )


def largest_weight(model: nn.Module) -> float:
    """The largest absolute value of all parameters; NaN where one is NaN."""
    return float(torch.stack([p.detach().abs().max() for p in model.parameters()]).max())


def mean_loss(losses: list[float], sizes: list[int], reduction: str = "mean") -> float:
    """The mean loss of an example, from those of batches of these sizes.

    Raises ValueError without a batch, and for a `reduction` other than `mean` and `sum`.
    """
    if not losses:
        raise ValueError("no batch to train on")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction {reduction!r} is neither mean nor sum")
    counts = torch.tensor(sizes, dtype=torch.float64)
    totals = torch.tensor(losses, dtype=torch.float64)
    if reduction == "mean":
        totals = totals * counts
    return float(totals.sum() / counts.sum())


def predict(
    model: nn.Module, batches: Batches, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """The model's outputs (N×…, float32) and the targets (N×…) of all batches, on the CPU, in
    evaluation mode.

    The model's mode is restored, unless an error ends it. Raises ValueError without a batch.
    """
    device = device_of(model)
    was_training = model.training
    model.eval()  # dropout and batch norm now behave as in use
    outputs, all_targets = [], []
    with torch.inference_mode():  # no gradients are recorded
        for inputs, targets in batches:
            with autocast(device, dtype):
                outputs.append(model(inputs.to(device)).float())
            all_targets.append(targets)
    model.train(was_training)
    if not outputs:
        raise ValueError("no batch to predict")
    return torch.cat(outputs).cpu(), torch.cat(all_targets).cpu()


def evaluate(
    model: nn.Module,
    batches: Batches,
    metrics: Mapping[str, Metric],
    dtype: torch.dtype = torch.float32,
) -> Row:
    """Each of `metrics` (a loss is one too) on all outputs and targets at once, by its name."""
    outputs, targets = predict(model, batches, dtype)
    return {name: float(metric(outputs, targets)) for name, metric in metrics.items()}


def accuracy_on(model: nn.Module, batches: Batches, dtype: torch.dtype = torch.float32) -> float:
    """The share of the examples, 0..1, whose largest logit stands at the label."""
    return accuracy(*predict(model, batches, dtype))
