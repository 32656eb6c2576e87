"""Document 2's gradient descent with all samples, one, or 64: tables, figure and measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.figures import legend_below, new_figure, save_figure, use_log_scale
from common.rows import Row, write_rows
from common.runs import Run
from common.terminal import print_table, say

if TYPE_CHECKING:
    from gradient_demo import Experiment

Histories = Mapping[str, Sequence[Row]]
EPOCHS = (1, 2, 4, 8)  # equal numbers of epochs, after which the three are compared
CONVERGED = 0.002  # a test accuracy that rises by less than 0.2 points has converged


def when_to_evaluate(experiment: Experiment, images: int) -> set[int]:
    """The updates after which a training on so many images is evaluated: close together at its
    start, then evenly, and after the numbers of epochs that are compared."""
    at_first = np.geomspace(1, experiment.updates, 20)
    evenly = np.linspace(0, experiment.updates, 25)[1:]
    epochs = math.ceil(images / experiment.batch_size) * np.array(EPOCHS)
    return {round(update) for update in [*at_first, *evenly, *epochs]}


def descents(
    run: Run,
    experiments: Mapping[str, Experiment],
    histories: Histories,
    images: int,
    goals: Sequence[float],
) -> None:
    """Prints, draws, writes and measures the three trainings on so many images.

    `experiments` are three: with all samples, with one, and with 64 for each update. `goals` are
    losses, from high to low; the time to the last of them is measured.
    """
    trained(experiments, histories, images)
    descent_figure(run, histories, goals)
    rows = [{"update_with": name, **row} for name, history in histories.items() for row in history]
    write_rows(run.file("descent.csv"), rows)
    to_the_goals(run, histories, images, goals)
    at_equal_epochs(run, histories, images)
    at_equal_time(run, histories, images)
    full, _, mini = histories
    cost = {name: history[-1]["seconds"] / history[-1]["updates"]
            for name, history in histories.items()}  # fmt: skip
    run.metrics |= {
        "full_update_cost": cost[full] / cost[mini],
        "epoch_difference": epoch_difference(experiments, histories, images),
    }


def trained(experiments: Mapping[str, Experiment], histories: Histories, images: int) -> None:
    """Prints how long each training was."""
    rows = []
    for name, experiment in experiments.items():
        end = histories[name][-1]
        epochs = end["samples"] / images
        rows.append([
            name, experiment.lr, experiment.updates, f"{epochs:.1f}", f"{end['seconds']:.1f}",
            f"{1000 * end['seconds'] / end['updates']:.2f}", f"{end['seconds'] / epochs:.2f}",
        ])  # fmt: skip
    print_table(
        "Gradient descent with all samples, one, or 64 for each update (ms: the median of all "
        "updates; seconds: that median times the updates)",
        ["update with", "learning\nrate", "updates", "epochs", "seconds", "ms per\nupdate",
         "seconds\nper epoch"],
        rows,
    )  # fmt: skip


def to_the_goals(
    run: Run, histories: Histories, images: int, goals: Sequence[float]
) -> None:
    """Prints what each training needed until the loss over all training images was a goal's."""
    rows = []
    for goal in goals:
        if all(row["loss"] > goal for history in histories.values() for row in history):
            say(f"No training reached a loss of {goal}.")
            continue
        for name, history in histories.items():
            needed = first_at(goal, history)
            rows.append([
                f"{goal}", name, shown(needed["seconds"], "{:.2f}"),
                shown(needed["updates"], "{:,.0f}"), shown(needed["samples"] / images, "{:.2f}"),
            ])  # fmt: skip
    if rows:
        print_table(
            "The first evaluation at which the loss over all training images is this low",
            ["loss", "update with", "seconds", "updates", "epochs"],
            rows,
        )
    full, single, mini = (first_at(goals[-1], history) for history in histories.values())
    run.metrics |= {
        "full_time": full["seconds"] / mini["seconds"],
        "single_time": single["seconds"] / full["seconds"],
        "single_updates": single["updates"] / full["updates"],
        "mini_time": mini["seconds"] / min(full["seconds"], single["seconds"]),
    }


def first_at(goal: float, history: Sequence[Row]) -> Row:
    """The first row whose loss is at most the goal; one of infinities if there is none."""
    for row in history:
        if row["loss"] <= goal:
            return row
    return {"updates": math.inf, "samples": math.inf, "seconds": math.inf}


def at_equal_epochs(run: Run, histories: Histories, images: int) -> None:
    """Prints the test accuracy of the three after the same numbers of epochs; measures that with
    one sample and that with all, after the last number that all three reached."""
    rows = []
    single_gain = full_gain = math.nan
    for epochs in EPOCHS:
        accuracies = []
        for history in histories.values():
            row = after_samples(epochs * images, history)
            accuracies.append(math.nan if row is None else row["test_accuracy"])
        if not any(math.isnan(accuracy) for accuracy in accuracies):
            full, single, mini = accuracies
            single_gain, full_gain = single - full, full - max(single, mini)
            rows.append([epochs, *(f"{accuracy:.1%}" for accuracy in accuracies)])
    if rows:
        print_table("Test accuracy after as many epochs", ["epochs", *histories], rows)
    run.metrics |= {"single_gain_by_epochs": single_gain, "full_gain_by_epochs": full_gain}


def after_samples(samples: int, history: Sequence[Row]) -> Row | None:
    """The row after exactly so many samples, if the training was evaluated there."""
    for row in history:
        if row["samples"] == samples:
            return row
    return None


def at_equal_time(run: Run, histories: Histories, images: int) -> None:
    """Prints and measures the three trainings after the longest time that all three reached."""
    seconds = min(history[-1]["seconds"] for history in histories.values())
    rows, accuracies, rises = [], [], []
    for name, history in histories.items():
        row = at_time(seconds, history)
        rise = last_rise(history)
        accuracies.append(row["test_accuracy"])
        rises.append(rise)
        rows.append([
            name, f"{row['updates']:,.0f}", f"{row['samples'] / images:.1f}", f"{row['loss']:.3f}",
            f"{row['test_accuracy']:.2%}", f"{100 * rise:+.2f}",
            "yes" if rise < CONVERGED else "not yet",
        ])  # fmt: skip
    print_table(
        f"After {seconds:.3g} seconds of training each. Converged: from the middle third of the "
        f"training to the last, the test accuracy rose by less than {100 * CONVERGED:.1f} points",
        ["update with", "updates", "epochs", "training\nloss", "test\naccuracy", "rise\n(points)",
         "converged"],
        rows,
    )  # fmt: skip
    full, single, mini = accuracies
    run.metrics |= {
        "equal_seconds": seconds,
        "full_gain": full - max(single, mini),
        "single_gain": single - full,
        "mini_gain": mini - max(full, single),
        "full_rise": rises[0],
        "single_rise": rises[1],
        "mini_rise": rises[2],
    }


def at_time(seconds: float, history: Sequence[Row]) -> Row:
    """The last row that was reached within so many seconds; the first row if none was."""
    reached = [row for row in history if row["seconds"] <= seconds]
    return reached[-1] if reached else history[0]


def last_rise(history: Sequence[Row]) -> float:
    """By how much the test accuracy rose: its median in the last third of the updates minus that
    in the middle third. (A mean would count a single evaluation in which a training jumps away.)"""
    third = history[-1]["updates"] / 3
    middle = [row["test_accuracy"] for row in history if third < row["updates"] <= 2 * third]
    last = [row["test_accuracy"] for row in history if row["updates"] > 2 * third]
    return statistics.median(last) - statistics.median(middle)


def epoch_difference(
    experiments: Mapping[str, Experiment], histories: Histories, images: int
) -> float:
    """How far batch size × iterations is from an epoch's samples, in batches: the largest
    difference of the trainings that were evaluated after their first epoch; NaN if none was."""
    differences = []
    for name, experiment in experiments.items():
        row = after_samples(images, histories[name])
        if row is not None:
            batch_size = min(experiment.batch_size, images)
            differences.append(abs(batch_size * row["updates"] - images) / batch_size)
    return max(differences, default=math.nan)


def shown(number: float, form: str) -> str:
    return form.format(number) if math.isfinite(number) else "never"


def descent_figure(run: Run, histories: Histories, goals: Sequence[float]) -> None:
    """Draws training loss and test errors by updates, by samples, and by seconds."""
    figure, panels = new_figure(
        "Which batch size is the fastest? Compare by updates, by samples and by seconds",
        2, 3, width=4.4, height=3.4,
    )  # fmt: skip
    counts = {
        "updates": "updates",
        "samples": "samples seen",
        "seconds": "seconds of training",
    }
    for place, (column, label) in enumerate(counts.items()):
        losses, errors = panels[place], panels[place + 3]
        for name, history in histories.items():
            along = [row[column] for row in history]
            losses.plot(along, [row["loss"] for row in history], label=name)
            errors.plot(along, [100 - 100 * row["test_accuracy"] for row in history], label=name)
        for goal, style in zip(goals, (":", "--"), strict=True):
            losses.axhline(goal, color="black", linestyle=style, label=f"loss {goal}")
        for panel in (losses, errors):
            use_log_scale(panel)
            panel.set(xscale="log", xlabel=label)
            panel.grid(alpha=0.3)
    panels[0].set_ylabel("loss over all training images")
    panels[3].set_ylabel("errors on the test images (%)")
    legend_below(figure, panels[0])
    save_figure(figure, run.file("descent.png"))
