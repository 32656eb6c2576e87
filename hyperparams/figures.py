"""Figures of the trainings: curves by epoch, and how large the parameters became.

An experiment has the colour of its place in the chapter's table; of two in a figure that would have
the same, the later one takes a free colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from common.figures import (
    COLOURS,
    draw_histogram,
    mark_epochs,
    new_figure,
    save_figure,
    share_y_limits,
    use_log_scale,
)
from common.runs import Run
from hyperparams.results import GROUPS, Result, shared_epochs

# What there is to see in the curves of each section's experiments.
TITLES = {
    "5.4": "Pixels 0–255 and SGD: does the network learn anything?",
    "5.5": "Pixels divided by 255: how much does SGD learn then?",
    "5.7": "Small or large batches: which learns more in as many epochs?",
    "5.8": "SGD or Adam: which is ahead after one epoch, and which at the end?",
    "5.9": "Learning rates: how fast, and how far apart are training and validation?",
    "5.11": "Unscaled pixels: which learning rate still learns?",
    "5.12": "Halving the learning rate: does the gap between training and validation shrink?",
    "5.13": "Hidden layers, none to two: what does each add?",
    "5.14": "Tiny inputs: what do batch norm and the bias before it change?",
    "5.15": "Dropout: does it narrow the gap between training and validation?",
    "5.16": "Penalties on the parameters: how wide is the gap, how high the accuracy?",
    "5.17": "A white background: does the network learn as well as with a black one?",
}
PENALISED = {"5.16"}  # sections whose training loss has a penalty in it
SPLIT_BY_RATE = ("5.7", "5.12", "5.16")  # too many experiments for one figure
BASE_RATE = 1e-3
CURVES = COLOURS[:6] + COLOURS[7:]  # without the lime, too pale for a thin line
POWERS = (-6, 2)  # of ten: the sizes of parameters that are drawn
SMALLEST = 1e-9  # takes the place of a parameter that is 0, which has no logarithm


def parts(section: str, results: Mapping[str, Result]) -> dict[str, dict[str, Result]]:
    """What is drawn together: a section's experiments, or those that start with one learning rate.

    The key is what `part` is in the functions here: empty, or the learning rate if it is not the
    base's.
    """
    groups: dict[str, dict[str, Result]] = {}
    for name, result in results.items():
        rate = result.history[0]["lr"]
        split = section in SPLIT_BY_RATE and rate != BASE_RATE
        groups.setdefault(f"{rate:g}" if split else "", {})[name] = result
    return groups


def heading(section: str, part: str) -> str:
    """How a figure's title begins: `5.16` or `5.16, learning rate 0.01`."""
    return f"{section}, learning rate {part}" if part else section


def file_name(kind: str, section: str, part: str) -> str:
    """A figure's file: `curves_5.16.png` or `curves_5.16_lr-0.01.png`."""
    return f"{kind}_{section}_lr-{part}.png" if part else f"{kind}_{section}.png"


def colours_of(results: Mapping[str, Result]) -> dict[str, str]:
    """The colour of each experiment of a figure, by name."""
    chosen: dict[str, str] = {}
    for name, result in results.items():
        place = result.number % len(CURVES)
        preferred = CURVES[place:] + CURVES[:place]
        free = [colour for colour in preferred if colour not in chosen.values()]
        chosen[name] = (free or preferred)[0]
    return chosen


def curves(
    run: Run, section: str, results: Mapping[str, Result], own: Sequence[str], part: str = ""
) -> None:
    """Saves loss and accuracy by epoch of a section's `own` experiments and of those beside them.

    Where a learning rate was halved there is a third panel, with the rates. No curve is longer than
    the longest of the section's own.
    """
    epochs = max(results[name].epochs for name in own)
    annealed = any(results[name].halvings() for name in own)
    question = TITLES.get(section, "what do these settings change?")
    title = f"{heading(section, part)}: {question}"
    height = 4.2 + 0.2 * len(results)
    figure, panels = new_figure(title, 1, 3 if annealed else 2, width=5.6, height=height)
    draw_quantity(panels[0], results, "loss", epochs)
    use_log_scale(panels[0])
    panels[0].set_ylabel("loss (training: penalty included)" if section in PENALISED else "loss")
    draw_quantity(panels[1], results, "accuracy", epochs)
    panels[1].set_ylabel("accuracy (%)")
    low, _ = panels[1].get_ylim()
    panels[1].set_ylim(10 * (low // 10) if low > 50 else 0, 100)
    if annealed:
        draw_rates(panels[2], results, epochs)
    legend(figure, panels[1], "dotted: training images, solid: validation images")
    save_figure(figure, run.file(file_name("curves", section, part)))


def draw_quantity(
    axes: Axes, results: Mapping[str, Result], quantity: str, epochs: int
) -> None:
    """Draws loss or accuracy by epoch, training dotted and validation solid."""
    factor = 100 if quantity == "accuracy" else 1
    labels, colours = curve_labels(results, epochs), colours_of(results)
    for place, (name, result) in enumerate(results.items()):
        # Thinner from curve to curve: of two that coincide both are seen.
        width = 1.5 + 0.8 * (len(results) - 1 - place)
        for part, style, label in (("train", ":", None), ("validation", "-", labels[name])):
            values = [factor * value for value in result.column(f"{part}_{quantity}")[:epochs]]
            axes.plot(range(1, len(values) + 1), values, style, marker="o", markersize=2 + width,
                      markevery=max(1, len(values) // 10), color=colours[name], linewidth=width,
                      label=label)  # fmt: skip
    mark_epochs(axes)


def draw_rates(axes: Axes, results: Mapping[str, Result], epochs: int) -> None:
    """Draws the learning rate of each epoch."""
    colours = colours_of(results)
    for place, (name, result) in enumerate(results.items()):
        width = 1.5 + 0.8 * (len(results) - 1 - place)
        rates = result.column("lr")[:epochs]
        axes.plot(range(1, len(rates) + 1), rates, drawstyle="steps-mid", color=colours[name],
                  linewidth=width)  # fmt: skip
    mark_epochs(axes)
    axes.set(yscale="log", ylabel="learning rate")


def curve_labels(results: Mapping[str, Result], epochs: int) -> dict[str, str]:
    """For each experiment its name, what differs from the base, and the epochs its curve has.

    Where a curve coincides with an earlier one, from the first epoch on, the label says how far.
    """
    labels = {}
    earlier: list[Result] = []
    for name, result in results.items():
        shown = min(epochs, result.epochs)
        had = f"{shown} epochs" if shown == result.epochs else f"{shown} of {result.epochs} epochs"
        same = coincidence(result, earlier, shown)
        labels[name] = f"{name} ({result.changed}): {had}{same}"
        earlier.append(result)
    return labels


def coincidence(result: Result, earlier: Sequence[Result], epochs: int) -> str:
    """Which of the earlier curves this one coincides with longest; empty where with none."""
    longest, other = 0, ""
    for one in earlier:
        shared = min(shared_epochs(one, result), epochs)
        if shared > longest:
            longest, other = shared, one.name
    if not longest:
        return ""
    if longest == epochs:
        return f", all the same as {other}"
    return f", the first {longest} the same as {other}"


def parameters(
    run: Run, section: str, results: Mapping[str, Result], hidden: bool, part: str = ""
) -> None:
    """Saves how large the weights and biases became, and with `hidden` the hidden values too."""
    groups = values_by_group(results, hidden)
    things = "weights, biases and hidden values" if hidden else "weights and biases"
    title = f"{heading(section, part)}: how large {things} became: the further right, the larger"
    height = 3.6 + 0.2 * len(results)
    figure, panels = new_figure(title, 1, len(groups), width=3.6, height=height)
    colours = [*colours_of(results).values()]
    for panel, (group, tensors) in zip(panels, groups.items(), strict=True):
        # On a logarithmic axis: on a plain one that shows the widest, the others are a single bar.
        sizes = {name: values.abs().clamp(SMALLEST).log10() for name, values in tensors.items()}
        draw_histogram(panel, sizes, bins=60, limits=POWERS, colours=colours)
        panel.set(title=group, xlabel="absolute value (first bar: all below)", xlim=POWERS)
        marks = range(POWERS[0], POWERS[1] + 1, 2)
        panel.set_xticks(marks, [f"$10^{{{power}}}$" for power in marks])
    dots = [panel for panel in panels if not panel.patches]
    share_y_limits([panel for panel in panels if panel.patches])
    for panel in dots:
        panel.set(yticks=[], ylabel="a dot for each value", ylim=(-2 * len(results) - 2, 0))
    legend(figure, panels[0], None)
    save_figure(figure, run.file(file_name("parameters", section, part)))


def values_by_group(
    results: Mapping[str, Result], hidden: bool
) -> dict[str, dict[str, Tensor]]:
    """Each experiment's values in every group of parameters; none where it has no such group."""
    groups: dict[str, dict[str, Tensor]] = {}
    for group in GROUPS:
        layer, kind = group.split(".")
        title = f"{layer} {'biases' if kind == 'bias' else 'weights'}"
        groups[title] = {
            name: result.parameters().get(group, torch.empty(0)) for name, result in results.items()
        }
    if hidden:
        groups["hidden values above 0"] = {
            name: result.hidden_values[result.hidden_values > 0] for name, result in results.items()
        }
    return groups


def legend(figure: Figure, axes: Axes, title: str | None) -> None:
    """One legend for all panels, below them, an experiment a line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=1, title=title, fontsize=9
    )
