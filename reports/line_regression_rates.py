"""Document 1's learning rates: which of them drive the outputs to 0 or 1, for three losses?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import mse_loss

from common.figures import COLOURS, new_figure, save_figure, share_y_limits
from common.runs import Run
from common.terminal import print_table, say, track
from common.training import LossFunction
from reports.line_regression import STYLES
from reports.line_regression_draft import Updates

if TYPE_CHECKING:
    from line_regression import Experiment, Lines

RATES = (0.1, 0.01, 0.001)
SUMMED, FRACTIONS, PIXELS = "as fractions, summed", "as fractions, averaged", "in pixels, averaged"
JUDGED = {FRACTIONS: "fractions", PIXELS: "pixels"}  # and their names in the metrics
Watched = Mapping[tuple[str, float], Updates]  # by loss and learning rate


# 1. The experiment


def squashed_loss(outputs: Tensor, ends: Tensor, reduction: str, factor: int = 1) -> Tensor:
    """Applies the sigmoid in the loss, so that the outputs before it can be watched."""
    return factor * mse_loss(outputs.sigmoid(), ends, reduction=reduction)


def compare_rates(
    run: Run,
    train_watched: Callable[[Run, Experiment, Lines, LossFunction], Updates],
    experiment: Experiment,
    lines: Lines,
) -> dict[tuple[str, float], Updates]:
    """Five epochs at each learning rate, for three ways to read the document's loss.

    The `experiment` has no sigmoid: the loss applies it.
    """
    losses = {
        SUMMED: partial(squashed_loss, reduction="sum"),
        FRACTIONS: partial(squashed_loss, reduction="mean"),
        PIXELS: partial(
            squashed_loss, reduction="mean", factor=lines.images.shape[-1] ** 2
        ),
    }
    watched = {}
    for loss, rate in track(list(product(losses, RATES)), "learning rates"):
        changed = replace(experiment, epochs=5, lr=rate)
        watched[loss, rate] = train_watched(run, changed, lines, losses[loss])
    return watched


# 2. What came out


def learning_rates(run: Run, watched: Watched) -> None:
    """Prints and draws which learning rates drive the outputs to 0 or 1, for each loss."""
    table: list[list[object]] = []
    for (loss, rate), updates in watched.items():
        rows = updates.rows
        rose = sum(b["mean"] > a["mean"] for a, b in pairwise(rows)) / (len(rows) - 1)
        ends_of_epochs = rows[updates.per_epoch - 1 :: updates.per_epoch]
        shares = [f"{row['saturated']:.0%}" for row in ends_of_epochs]
        table.append([loss, rate, *shares, rows[-1]["largest_prediction"], f"{rose:.0%}"])
        if loss in JUDGED:
            run.metrics[f"saturated_{JUDGED[loss]}_{rate}"] = rows[-1]["saturated"]
            run.metrics[f"rising_{JUDGED[loss]}_{rate}"] = rose
    epochs = [str(number) for number in range(1, len(table[0]) - 3)]
    print_table(
        "Which learning rates drive the outputs to 0 or 1 (in three decimals)? The share of such "
        f"outputs in the last batch of epochs 1 to {epochs[-1]}",
        ["errors", "rate", *epochs, "largest", "rose"],
        table,
    )
    say(
        "A sigmoid squeezes any number into 0..1. Where it gives almost 0 or 1, its gradient is "
        "almost 0, and learning almost stops. largest: the number farthest from 0 before the "
        "sigmoid, in the last batch. rose: the share of updates after which the mean output for 20 "
        "lines, always the same, is above that after the update before. The document divides "
        "the ends by 128 before this study, so its errors are fractions of the image's side. It "
        "does not show whether they are summed (as --loss sum does) or averaged, so both are "
        "tried; as a third reading errors in pixels, averaged."
    )
    learning_rates_figure(run, watched)


def learning_rates_figure(run: Run, watched: Watched) -> None:
    """Saves a column of panels for each loss: outputs at 0 or 1, and the largest number before the
    sigmoid, by epoch."""
    losses = list(dict.fromkeys(loss for loss, _ in watched))
    figure, panels = new_figure(
        "Which learning rates drive the outputs to 0 or 1?", 2, len(losses), width=4.6, height=3
    )
    upper, lower = panels[: len(losses)], panels[len(losses) :]
    for column, loss in enumerate(losses):
        by_rate = {rate: updates for (name, rate), updates in watched.items() if name == loss}
        draw_rates(upper[column], by_rate, "saturated", scale=100)
        draw_rates(lower[column], by_rate, "largest_prediction")
        upper[column].set(title=f"errors {loss}", ylabel="outputs at 0 or 1 (%)",
                          ylim=(-4, 104))  # fmt: skip
        lower[column].set(xlabel="epoch", ylabel="largest before the sigmoid", yscale="log")
    share_y_limits(lower)
    save_figure(figure, run.file("learning_rates.png"))


def draw_rates(
    axes: Axes, by_rate: Mapping[float, Updates], name: str, scale: float = 1
) -> None:
    """Draws one number of the updates by epoch, a curve for each learning rate.

    Rates with the same numbers share a curve, and its label says so.
    """
    curves: dict[tuple[float, ...], list[float]] = {}
    for rate, updates in by_rate.items():
        values = tuple(scale * row[name] for row in updates.rows)
        curves.setdefault(values, []).append(rate)
    order = list(by_rate)
    for values, rates in curves.items():
        place = order.index(rates[0])
        epochs = [number / by_rate[rates[0]].per_epoch for number in range(1, len(values) + 1)]
        label = f"rate {rates[0]}"
        if len(rates) > 1:
            label = f"rates {', '.join(map(str, rates))} (same curve)"
        axes.plot(epochs, values, STYLES[place], color=COLOURS[place], linewidth=2, label=label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
