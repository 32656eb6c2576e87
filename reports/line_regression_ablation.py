"""Document 1's repairs, each taken away in turn; and lines whose ends have no order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.errors import Diverged
from common.figures import mark_epochs, new_figure, save_figure
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say
from reports.line_regression import PALETTE, STYLES

if TYPE_CHECKING:
    from line_regression import Experiment, Lines

# 1. Ends in any order


def either_order_loss(outputs: Tensor, ends: Tensor) -> Tensor:
    """The sum of a batch's squared errors (B×4), for each line in the order of its ends that has
    the smaller ones: the loss does not ask which end comes first."""
    as_given = (outputs - ends).square().sum(1)  # B
    exchanged = (outputs - ends.roll(2, dims=1)).square().sum(1)  # B: x1, y1, x0, y0
    return torch.minimum(as_given, exchanged).sum()


def exchange_some_ends(lines: Lines, generator: torch.Generator) -> Lines:
    """The same lines; for each line a coin decides whether its two ends are exchanged."""
    heads = torch.rand(len(lines.ends), 1, generator=generator) < 0.5
    return replace(lines, ends=torch.where(heads, lines.ends.roll(2, dims=1), lines.ends))


# 2. The experiments

# Twice the final run's rate, so that 20 epochs show what 40 do at 0.001. (At 0.008 it would decide:
# the network with dropout then ends with all its ReLUs off.)
BASE = {"lr": 0.002, "epochs": 20}
MOST_LINES = 10_000  # to train on, however many the final run has
GOAL = 0.8  # of the unseen coordinates within 10 px
TRAINED, UNSEEN = "train_either_order_within_10", "unseen_either_order_within_10"
PIXELS = {"sigmoid": False, "ends_in_pixels": True}  # above 1 no sigmoid can answer
ABLATIONS: dict[str, dict[str, Any]] = {  # what is changed
    "all repairs": {},
    "no ReLU": {"relu": False},
    "four convolutions": {"channels": (4, 8, 16, 32)},
    "dropout": {"dropout": 0.5},
    "any order": {"any_order": True},
    "any order, own loss": {"any_order": True, "loss": "either order"},
    "no sigmoid": {"sigmoid": False},
    "pixels, summed": {**PIXELS, "lr": 0.001, "epochs": 5},
    "pixels, averaged": {**PIXELS, "loss": "mean", "lr": 0.001, "epochs": 5},
    # The highest of six rates at which the network survives its first updates; it learns slowly.
    "pixels, averaged, slow": {**PIXELS, "loss": "mean", "lr": 0.00005, "epochs": 45},
}


def ablate(
    run: Run,
    train: Callable[[Run, Experiment, Lines, Lines], nn.Module],
    repaired: Experiment,
    training: Lines,
    unseen: Lines,
) -> dict[str, list[Row]]:
    """Trains with all repairs, then without each one in turn; the histories, by name.

    A training that diverges ends there. Of more than 10,000 lines the first ones are trained on.
    """
    training = training.first(MOST_LINES)
    histories = {}
    for name, changes in ABLATIONS.items():
        experiment = replace(repaired, **{**BASE, **changes})
        lines, others = training, unseen
        if experiment.any_order:
            generator = torch.Generator().manual_seed(run.seed)
            lines, others = (exchange_some_ends(part, generator) for part in (training, unseen))
        subrun = run.subrun("ablation-" + key_of(name).replace("_", "-"), asdict(experiment))
        try:
            train(subrun, experiment, lines, others)
        except Diverged as error:
            say(f"{name}: {error}")
        histories[name] = subrun.history
    return histories


def key_of(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def epochs_to_goal(history: Sequence[Row]) -> float:
    """The first epoch with 80% of the unseen coordinates within 10 px; infinite without one."""
    for row in history:
        if row[UNSEEN] >= GOAL:
            return row["epoch"]
    return math.inf


def slowdown(history: Sequence[Row], repaired: Sequence[Row]) -> float:
    """The epochs to the goal, divided by those of the network with all repairs.

    A network that does not get there counts as if it did in the next epoch: the number is then too
    small. NaN where the repaired network does not.
    """
    epochs = min(epochs_to_goal(history), len(history) + 1)
    goal = epochs_to_goal(repaired)
    return epochs / goal if math.isfinite(goal) else math.nan


# 3. What came out


def report(run: Run, histories: Mapping[str, Sequence[Row]]) -> None:
    """Prints and draws what the network finds with all repairs (the first of `histories`), and
    without each one."""
    repaired = next(iter(histories.values()))
    rows: list[list[object]] = []
    for name, history in histories.items():
        goal = epochs_to_goal(history)
        run.metrics["slowdown_" + key_of(name)] = slowdown(history, repaired)
        if not history:
            rows.append([name, "", 0, "NaN", "NaN", "–"])
            continue
        last = history[-1]
        run.metrics["ablation_" + key_of(name)] = last[UNSEEN] - repaired[-1][UNSEEN]
        shares = [f"{last[column]:.1%}" for column in (TRAINED, UNSEEN)]
        reached = f"{goal:.0f}" if math.isfinite(goal) else "–"
        rows.append([name, f"{last['lr']:g}", len(history), *shares, reached])
    for answer, key in (("always the mean", "mean"), ("outermost pixels", "outermost")):
        share = run.metrics[f"{key}_either_order_within_10"]
        rows.append([answer, "", "", "", f"{share:.1%}", ""])
    print_table(
        "What is each repair worth? Coordinates within 10 px without it, and the first epoch with "
        f"{GOAL:.0%} of the unseen ones",
        ["network", "rate", "epochs", "training", "unseen", f"epochs to {GOAL:.0%}"], rows,
    )  # fmt: skip
    say(
        "Each network differs from the first in what its name says. Of the two orders of a "
        "line's ends the nearer one is scored, for all of them. any order: either end of a line "
        "may come first; its own loss does not ask which. pixels: ends in pixels, which need a "
        "network without the sigmoid; mind their rates and epochs. –: not reached. The last two "
        "rows are answers without learning."
    )
    draw(run, histories)


def draw(run: Run, histories: Mapping[str, Sequence[Row]]) -> None:
    """Saves the coordinates found by epoch: without each repair, and with ends in any order."""
    orders = [name for name in histories if "order" in name]
    pixels = [name for name in histories if "pixels" in name]
    parts = {
        "one thing changed": [name for name in histories if name not in (*orders, *pixels)],
        "ends in any order": ["all repairs", *orders],
        "ends in pixels, no sigmoid": ["no sigmoid", *pixels],
    }
    figure, panels = new_figure(
        "What is each repair worth? Unseen coordinates within 10 px", 1, 3, width=4.8
    )
    places = list(histories)
    for panel, (title, names) in zip(panels, parts.items(), strict=True):
        for name in names:
            history, place = histories[name], places.index(name)
            label = name if history else f"{name} (NaN)"
            panel.plot(
                [row["epoch"] for row in history], [100 * row[UNSEEN] for row in history],
                linestyle=STYLES[place % len(STYLES)], color=PALETTE[place % len(PALETTE)],
                label=label,
            )  # fmt: skip
        panel.axhline(100 * GOAL, color="gray", linewidth=0.8)
        mark_epochs(panel)
        panel.set(ylabel="coordinates within 10 px (%)", ylim=(-3, 103), title=title)
        panel.legend(fontsize=8)
    save_figure(figure, run.file("ablation.png"))
