"""What a run prints: tables, the layers of a network, and which of a document's statements held."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Claim:
    """One statement of a document, the number that tests it, and the bound, fixed before the run, it must meet.

    Over several seeds the mean must meet it, or with `every_seed` (for directions) each one.
    """

    id: str
    text: str
    claimed: str
    metric: str
    holds: Callable[[float], bool]
    shown: str = "{:.3g}"
    every_seed: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: `reproduced`, `not reproduced` or `not run`; `measured` is None where nothing was.

    `measured` is the mean over the seeds and `spread` their standard deviation, None for a single one.
    """

    id: str
    text: str
    claimed: str
    measured: float | None
    verdict: str
    spread: float | None = None

    def as_dict(self) -> dict[str, object]:
        """For `summary.json`."""
        return {name: value for name, value in asdict(self).items() if name != "spread" or value is not None}


def judge(
    claims: Sequence[Claim], metrics: Mapping[str, float | Sequence[float]], not_run: Collection[str] = ()
) -> list[Verdict]:
    """Holds each claim against its metric, one number or one for each seed.

    A claim without a number, or named in `not_run`, gets `not run`.
    """
    verdicts = []
    for claim in claims:
        metric = metrics.get(claim.metric, ())
        values = [metric] if isinstance(metric, float | int) else [*metric]
        measured = statistics.fmean(values) if values else None
        if measured is None or claim.id in not_run:
            verdict = "not run"
        else:
            holds = all(map(claim.holds, values)) if claim.every_seed else claim.holds(measured)
            verdict = "reproduced" if holds else "not reproduced"
        spread = statistics.stdev(values) if len(values) > 1 else None
        verdicts.append(Verdict(claim.id, claim.text, claim.claimed, measured, verdict, spread))
    return verdicts


def print_claims(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> None:
    """Prints the claims as a table, each measured number in its claim's own format."""
    rows = []
    for claim, verdict in zip(claims, verdicts, strict=True):
        measured = "" if verdict.measured is None else claim.shown.format(verdict.measured)
        if verdict.spread is not None:
            measured += f" ± {claim.shown.format(verdict.spread).lstrip('+')}"
        rows.append([verdict.id, verdict.text, verdict.claimed, measured, verdict.verdict])
    header = ["", "statement", "claimed", "measured", "verdict"]
    print_table("What the document states, and what was measured", header, rows)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows under a header; numbers to the right, text to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = range(len(header))
    widths = [max(len(row[column]) for row in [header, *cells]) for column in columns]
    numeric = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in columns]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    print(f"\n{title}")
    print(line(header))
    print("  ".join("-" * width for width in widths))
    for row in cells:
        print(line(row))
    print()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)


def layer_table(model: nn.Module, example: Tensor) -> list[tuple[str, str, int]]:
    """Pushes a dummy batch through and returns each layer's name, output shape and number of parameters.

    The way of document 1, figure 7, to find a layer's size without arithmetic. The model's mode is restored.
    """
    rows: list[tuple[str, str, int]] = []

    def record(layer: nn.Module, _: object, output: Tensor) -> None:
        shape = "×".join(str(size) for size in output.shape)
        rows.append((repr(layer), shape, sum(p.numel() for p in layer.parameters())))

    _watch_layers(model, example, record)
    return rows


def _watch_layers(
    model: nn.Module, example: Tensor, record: Callable[[nn.Module, object, Tensor], None]
) -> None:
    """Pushes an example through and calls `record(layer, inputs, output)` for each layer without parts."""
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(record) for layer in leaves]
    was_training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            model(example)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def count_multiplications(model: nn.Module, example: Tensor) -> int:
    """Multiplications in the convolutions and linear layers for one example (1×…), counted as they compute it.

    Each number a layer puts out takes as many as numbers enter it: input channels × kernel for a convolution.
    """
    counts: list[int] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counts.append(output.numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            counts.append(output.numel() * layer.in_features)

    _watch_layers(model, example, count)
    return sum(counts)
