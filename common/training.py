"""The training loop of every document: forward, loss, backward, step, zero; and the scoring of what came out."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.checkpoint import FORMAT, load_checkpoint, random_state, restore_random_state, save_tensors
from common.device import autocast
from common.errors import RunError, UsageError
from common.runs import Run, write_metrics

Row = dict[str, float]
Batches = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Tensor, Tensor], Tensor]

CHECKPOINT_SECONDS = 10.0


class Diverged(RunError):
    """The loss is no longer a finite number."""


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    *,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
) -> float:
    """Trains on every batch (inputs B×…, targets B×…) once; returns the mean loss per example, penalty included.

    Each batch counts by its examples, so an uneven last batch has its share. `penalty(model)` is added to the loss;
    `on_step(outputs, loss)` is called after every update. The model's mode is restored. ValueError without a batch.
    """
    device = device_of(model)
    was_training = model.training
    model.train()
    losses, counts = [], []
    for inputs, targets in batches:
        inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        with autocast(device, dtype):
            outputs = model(inputs)
        loss = loss_fn(outputs.float(), targets)
        if penalty is not None:
            loss = loss + penalty(model)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        # Kept on the device: reading a number back would make an accelerator wait at every step.
        losses.append(loss.detach())
        counts.append(len(inputs))
        if on_step is not None:
            on_step(outputs.detach(), loss.detach())
    model.train(was_training)
    return _per_example(losses, counts, loss_fn)


def _per_example(losses: list[Tensor], counts: list[int], loss_fn: LossFunction) -> float:
    if not losses:
        raise ValueError("no batch to train on")
    weights = torch.tensor(counts, dtype=torch.float64)
    total = torch.stack(losses).cpu().double()
    is_sum = getattr(loss_fn, "reduction", "mean") == "sum"
    return float((total if is_sum else total * weights).sum() / weights.sum())


def train_and_watch(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    *,
    epochs: int,
    watch: Callable[[Tensor, Tensor], Row],
) -> list[Row]:
    """Trains for a few epochs; returns for each update its number from 1 and what `watch(outputs, loss)` saw."""
    seen: list[Row] = []

    def record(outputs: Tensor, loss: Tensor) -> None:
        seen.append({"update": len(seen) + 1, **watch(outputs, loss)})

    for _ in range(epochs):
        train_one_epoch(model, batches, loss_fn, optimizer, on_step=record)
    return seen


def predict(model: nn.Module, batches: Batches, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The model's outputs (N×…, float32) and the targets (N×…) for all batches, on the CPU, in evaluation mode.

    The model's mode is restored. Raises ValueError without a batch.
    """
    device = device_of(model)
    was_training = model.training
    model.eval()
    outputs, all_targets = [], []
    with torch.inference_mode():
        for inputs, targets in batches:
            with autocast(device, dtype):
                outputs.append(model(inputs.to(device, non_blocking=True)).float())
            all_targets.append(targets)
    model.train(was_training)
    if not outputs:
        raise ValueError("no batch to predict")
    return torch.cat(outputs).cpu(), torch.cat(all_targets).cpu()


def evaluate(
    model: nn.Module,
    batches: Batches,
    metrics: dict[str, Callable[[Tensor, Tensor], float | Tensor]],
    dtype: torch.dtype = torch.float32,
) -> Row:
    """Each of `metrics` (losses are metrics too) on all outputs and targets at once, by its name."""
    outputs, targets = predict(model, batches, dtype)
    return {name: float(metric(outputs, targets)) for name, metric in metrics.items()}


def fit(
    model: nn.Module,
    loader: DataLoader[Any],
    loss_fn: LossFunction,
    optimizer: Optimizer,
    *,
    epochs: int,
    run: Run,
    validate: Callable[[nn.Module], Row] | None = None,
    scheduler: Any = None,
    schedule_on: str | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    show: Mapping[str, str] = MappingProxyType({"train_loss": "loss"}),
    weights_name: str = "model.pt",
) -> list[Row]:
    """Trains for `epochs` epochs and returns one row of numbers for each.

    A row holds `epoch`, `seconds` (training alone), `lr`, `train_loss` and what `validate(model)` returns; it is
    written to `metrics.csv` in the run's folder at once, and its values in `show` are displayed under the names given
    there; with `on_epoch`, `on_epoch(row)` is called instead. `on_step(outputs, loss)` is called after every update.
    The scheduler steps after each epoch, on the row's value `schedule_on` where that is named. A checkpoint is saved
    every few seconds and at the end; with `run.resume` a checkpoint in the folder is gone on from, and the end is
    bit-identical to that of an uninterrupted run. Raises Diverged when the loss is no finite number.
    """
    history = _restore(run, model, optimizer, scheduler, loader) if run.resume else []
    write_metrics(run.folder / "metrics.csv", history)
    saved = time.monotonic()
    quiet = on_epoch is not None
    with _Progress(run.name, len(history), epochs, len(loader), show, quiet) as progress:

        def after_step(outputs: Tensor, loss: Tensor) -> None:
            progress.bar.update()
            if on_step is not None:
                on_step(outputs, loss)

        for epoch in range(len(history) + 1, epochs + 1):
            row: Row = {"epoch": epoch, "seconds": 0.0, "lr": optimizer.param_groups[0]["lr"]}
            start = time.perf_counter()
            row["train_loss"] = train_one_epoch(
                model, loader, loss_fn, optimizer, penalty=penalty, dtype=run.dtype, on_step=after_step
            )
            row["seconds"] = time.perf_counter() - start
            if not math.isfinite(row["train_loss"]):
                raise Diverged(f"training diverged: the loss of epoch {epoch} is {row['train_loss']}; lower --lr")
            if validate is not None:
                row.update(validate(model))
            if scheduler is not None:
                scheduler.step(*([row[schedule_on]] if schedule_on else []))
            history.append(row)
            write_metrics(run.folder / "metrics.csv", [row], append=True)
            if on_epoch is None:
                progress.epoch(row)
            else:
                on_epoch(row)
            if epoch == epochs or time.monotonic() - saved > CHECKPOINT_SECONDS:
                _save(run, model, optimizer, scheduler, loader, history)
                saved = time.monotonic()
    save_tensors(run.folder / weights_name, model.state_dict())
    return history


def _save(
    run: Run, model: nn.Module, optimizer: Optimizer, scheduler: Any, loader: DataLoader[Any], history: list[Row]
) -> None:
    state = {
        "format": FORMAT,
        "script": run.script,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler is not None else None,
        "loader": loader.generator.get_state() if loader.generator is not None else None,
        "random": random_state(device_of(model)),
    }
    save_tensors(checkpoint_path(run.folder), state)


def _restore(
    run: Run, model: nn.Module, optimizer: Optimizer, scheduler: Any, loader: DataLoader[Any]
) -> list[Row]:
    path = checkpoint_path(run.folder)
    if not path.exists():
        return []
    state = load_checkpoint(path, run.script)
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
        if loader.generator is not None:
            loader.generator.set_state(state["loader"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(f"{path} does not fit this network: {str(error).splitlines()[0]}") from None
    restore_random_state(state["random"], device_of(model))
    return list(state["history"])


def checkpoint_path(folder: Path) -> Path:
    """Where a run's folder keeps the state to go on from."""
    return folder / "checkpoint.pt"


class _Progress:
    """A bar over all updates on a terminal; one plain line an epoch elsewhere."""

    def __init__(
        self, label: str, done: int, epochs: int, steps: int, show: Mapping[str, str], quiet: bool
    ) -> None:
        self.label, self.epochs, self.show = label, epochs, show
        self.bar = tqdm(total=epochs * steps, initial=done * steps, desc=label, unit="step",
                        disable=quiet or not sys.stderr.isatty())

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def epoch(self, row: Row) -> None:
        scores = {shown: f"{row[name]:.3g}" for name, shown in self.show.items()}
        self.bar.set_description_str(f"{self.label} {row['epoch']}/{self.epochs}", refresh=False)
        self.bar.set_postfix(scores, refresh=False)
        if self.bar.disable:
            line = "  ".join(f"{name} {value}" for name, value in scores.items())
            print(f"{self.label} epoch {row['epoch']}/{self.epochs}  {line}  {row['seconds']:.1f} s", flush=True)
