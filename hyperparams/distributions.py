"""Distributions as document 5 draws them: parameters with their signs, hidden values, γ and β.

`figures.parameters` draws sizes on a logarithmic axis, on which all experiments can be compared.
Here the axis of values is linear: it shows signs, shapes and single large values. The counts are
logarithmic, so that one weight of 784,000 is seen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor, nn

from common.figures import (
    FEW,
    draw_histogram,
    legend_below,
    new_figure,
    save_figure,
    share_y_limits,
)
from common.runs import Run
from common.terminal import print_table
from hyperparams.figures import colours_of, file_name, heading, values_by_group
from hyperparams.results import Result

Limits = tuple[float, float]
BINS = 81  # odd: 0 is in the middle of a bar
LEGIBLE = 10  # times: if ranges differ by more, each histogram gets a scale of its own
HIDDEN, OUTPUT = "hidden values", "output biases"  # every network has the latter


# Parameters with their signs, and hidden values


def signed(
    run: Run, section: str, results: Mapping[str, Result], hidden: bool, part: str = ""
) -> None:
    """Saves the histograms of weights and biases, and with `hidden` of the hidden values.

    A row for each experiment, a column for each group. A column has one scale where all can be read
    on it; otherwise its heading says that each has its own.
    """
    groups, colours = signed_values(results, hidden), colours_of(results)
    things = "weights, biases and hidden values" if hidden else "weights and biases"
    question = "with their signs: how far from 0, and which stand alone?"
    title = f"{heading(section, part)}: {things} {question}"
    figure, panels = new_figure(title, len(results), len(groups), width=3.2, height=1.8)
    for column, (group, values) in enumerate(groups.items()):
        shown = panels[column :: len(groups)]
        limits = axis_limits(values)
        for panel, (name, tensor) in zip(shown, values.items(), strict=True):
            draw_signed(panel, tensor, limits[name], colours[name])
            if group != HIDDEN and len(tensor):
                mark_start(panel, start_limit(results[name], group))
        own = len({limits[name] for name, tensor in values.items() if len(tensor)}) > 1
        scale = " (each on its own scale)" if own else ""
        shown[0].set_title(f"{group}{scale}\n{shown[0].get_title()}", fontsize=10)
        drawn = [panel for panel in shown if panel.patches]
        if drawn:
            share_y_limits(drawn)
    for panel, (name, result) in zip(panels[:: len(groups)], results.items(), strict=True):
        label = textwrap.fill(name, 18)
        panel.set_ylabel(f"{label}\n{result.epochs} epochs\nvalues per bar", fontsize=9)
    legend_below(figure, panels[list(groups).index(OUTPUT)])
    save_figure(figure, run.file(file_name("signed", section, part)))


def signed_values(results: Mapping[str, Result], hidden: bool) -> dict[str, dict[str, Tensor]]:
    """Each experiment's values in every group, flat; empty where it has no such group.

    The hidden values are those after the activation, zeros included.
    """
    groups = {}
    for group, values in values_by_group(results, hidden=False).items():
        groups[group] = {name: tensor.flatten() for name, tensor in values.items()}
    if hidden:
        groups[HIDDEN] = {name: one.hidden_values.flatten() for name, one in results.items()}
    return groups


def axis_limits(values: Mapping[str, Tensor]) -> dict[str, Limits]:
    """For each experiment from where to where its axis goes: with 0 in the middle, or from 0.

    The same for all unless one reaches more than `LEGIBLE` times as far as another.
    """
    reach = {name: float(tensor.abs().max()) for name, tensor in values.items() if len(tensor)}
    widest, narrowest = max(reach.values(), default=1.0), min(reach.values(), default=1.0)
    negative = any(bool((tensor < 0).any()) for tensor in values.values())
    limits = {}
    for name in values:
        far = reach.get(name, widest) if widest > LEGIBLE * narrowest else widest
        far = far or 1.0  # where all values are 0
        limits[name] = (-far if negative else 0.0, far)
    return limits


def draw_signed(axes: Axes, values: Tensor, limits: Limits, colour: str) -> None:
    """Draws a histogram with logarithmic counts, few values as dots; its title is their range."""
    if not len(values):
        axes.set_title("none", fontsize=9)
        axes.set_axis_off()
        return
    if len(values) <= FEW:
        axes.plot(values.numpy(), [0.5] * len(values), "o", color=colour, alpha=0.6)
        axes.set(ylim=(0, 1), yticks=[])
        axes.set_ylabel("a dot for each value", fontsize=9)
    else:
        axes.hist(values.numpy(), bins=BINS, range=limits, log=True, histtype="stepfilled",
                  facecolor=(colour, 0.4), edgecolor=colour)  # fmt: skip
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=limits[0] < 0))
    margin = 0.03 * (limits[1] - limits[0])
    axes.set_xlim(limits[0] - margin, limits[1] + margin)
    axes.set_title(value_range(values), fontsize=9)


def start_limit(result: Result, group: str) -> float:
    """The size below which PyTorch draws a layer's weights and biases at the start: 1 ÷ √inputs."""
    layer = result.network.get_submodule(group.split()[0])
    assert isinstance(layer, nn.Linear)
    return float(layer.in_features**-0.5)


def mark_start(axes: Axes, limit: float) -> None:
    """Dashed lines at −limit and limit."""
    label = "weights and biases start between these lines (no lines: they are outside the panel)"
    axes.axvline(-limit, color="black", linestyle="--", linewidth=0.8, label=label)
    axes.axvline(limit, color="black", linestyle="--", linewidth=0.8)


def value_range(values: Tensor) -> str:
    """The lowest and highest of values, and the share of zeros, if any: `0 to 3.66, 51% are 0`."""
    low, high = (f"{float(value):.3g}".replace("-", "−") for value in values.aminmax())
    zeros = float((values == 0).float().mean())
    return f"{low} to {high}, {zeros:.0%} are 0" if zeros >= 0.005 else f"{low} to {high}"


# γ and β of batch norm


def batch_norms(results: Mapping[str, Result]) -> dict[str, nn.BatchNorm1d]:
    """The first batch norm of each network that has one, by the experiment's name."""
    found = {}
    for name, result in results.items():
        layer = dict(result.network.named_children()).get("batch_norm1")
        if isinstance(layer, nn.BatchNorm1d):
            found[name] = layer
    return found


def batch_norm(run: Run, section: str, results: Mapping[str, Result]) -> None:
    """Saves and prints what γ and β became, which began as 1 and 0; nothing without batch norm."""
    layers = batch_norms(results)
    if not layers:
        return
    colours = [colour for name, colour in colours_of(results).items() if name in layers]
    title = f"{section}: γ and β of batch norm after training: how far from their start?"
    figure, panels = new_figure(title, 1, 2, width=5.6)
    rows = []
    for panel, symbol, parameter, start in zip(
        panels, "γβ", ("weight", "bias"), (1.0, 0.0), strict=True
    ):
        values = {name: getattr(layer, parameter).detach() for name, layer in layers.items()}
        together = torch.cat([*values.values(), torch.tensor([start])])
        limits = (float(together.min()), float(together.max()))
        draw_histogram(panel, values, bins=60, limits=limits, colours=colours)
        panel.axvline(start, color="black", linestyle="--", label="start")
        panel.set(xlabel=f"{symbol}, one for each hidden unit", title=f"{symbol}: start {start:g}")
        for name, tensor in values.items():
            numbers = (tensor.mean(), tensor.min(), tensor.max())
            rows.append([name, symbol, f"{start:g}", *(f"{float(one):.3f}" for one in numbers)])
    share_y_limits(panels)
    legend_below(figure, panels[0])
    save_figure(figure, run.file(f"gamma_beta_{section}.png"))
    header = ["experiment", "parameter", "start", "mean", "min", "max"]
    print_table(f"{section}: batch norm after the last epoch, all hidden units", header, rows)
