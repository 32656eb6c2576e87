"""The branches of Inception: how strongly they are read, and how much they are needed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from common.figures import COLOURS, new_figure, save_figure
from common.rows import Row
from common.runs import Run

BRANCH_LAYERS = {
    "branch_pool": "average pooling, 1×1",
    "branch1x1": "1×1",
    "branch5x5": "1×1, 5×5",
    "branch3x3": "1×1, 3×3, 3×3",
}


def draw_branches(run: Run, uses: Mapping[str, Mapping[str, Row]]) -> None:
    """Saves each branch's gain in weight and the accuracy lost without it, for both blocks."""
    title = "Inception: which branches gain weight in training, and which does the network need?"
    figure, (gains, losses) = new_figure(title, 1, 2)
    for number, (place, block) in enumerate(uses.items()):
        places = [index + 0.4 * (number - 0.5) for index in range(len(block))]
        for panel, values in (
            (gains, [100 * gain(use) for use in block.values()]),
            (losses, [100 * use["lost"] for use in block.values()]),
        ):
            bars = panel.bar(places, values, 0.4, color=COLOURS[number], label=place)
            panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    for panel, label in (
        (gains, "gain in weight (%)"),
        (losses, "accuracy lost without the branch (points)"),
    ):
        labels = [BRANCH_LAYERS[name].replace(", ", "\n") for name in BRANCH_LAYERS]
        panel.set_xticks(range(len(labels)), labels)
        panel.set(xlabel="layers of the branch", ylabel=label)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.margins(y=0.1)
        panel.legend(title="Inception")
    save_figure(figure, run.file("branches.png"))


def gain(use: Row) -> float:
    """By how much the next layer reads a branch more strongly after training, as a fraction."""
    return use["after"] / use["before"] - 1


def correlation(block: Mapping[str, Row]) -> float:
    """Rank correlation, −1..1, of the branches' gain in weight and the accuracy lost without them.

    0 where all are lost alike, so that there is no order.
    """
    # Here, not above: importing it takes a second, and only Inception needs it.
    from scipy.stats import spearmanr

    gains = [gain(use) for use in block.values()]
    losses = [use["lost"] for use in block.values()]
    return 0.0 if len(set(losses)) == 1 else float(spearmanr(gains, losses).statistic)


def most_needed_gain(block: Mapping[str, Row]) -> float:
    """The gain of the branch without which most accuracy is lost, minus the others' mean gain.

    0 where two branches are needed alike, so that there is no such branch.
    """
    first, second, *_ = sorted(block.values(), key=lambda use: use["lost"], reverse=True)
    if first["lost"] == second["lost"]:
        return 0.0
    others = [gain(use) for use in block.values() if use is not first]
    return gain(first) - statistics.mean(others)
