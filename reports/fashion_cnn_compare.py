"""What `fashion_cnn.py --compare` shows: does each change help, and what does it cost?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import nn

from common.figures import COLOURS, mark_epochs, new_figure, save_figure, share_y_limits
from common.layers import count_parameters
from common.rows import Row
from common.runs import Run
from common.terminal import print_table
from reports.classification import comparison_figure

History = Sequence[Row]


def comparison(
    run: Run, histories: Mapping[str, Sequence[History]], models: Mapping[str, nn.Module]
) -> str:
    """Prints and draws what each network reaches; returns the closing sentence.

    `histories` has a training for each network and seed; those of the first two networks, 5×5 and
    3×3 kernels, have twice as many epochs as the others. Measures what each proposal gains.
    """
    plain, small, normed, small_normed, unpadded, small_unpadded = histories
    epochs = len(histories[normed][0])
    short = {name: [rows[:epochs] for rows in runs] for name, runs in histories.items()}
    last = {name: final(trainings) for name, trainings in short.items()}
    longer = {name: final(histories[name]) for name in (plain, small)}

    networks_table(short, models)
    longer_table({name: histories[name] for name in longer}, epochs)
    gains = {
        "small_kernel_gain": (
            f"3×3 instead of 5×5, {epochs} epochs", last[small], last[plain]),
        "small_kernel_gain_trained_longer": (
            f"3×3 for {2 * epochs} epochs, 5×5 for {epochs}", longer[small], last[plain]),
        "small_kernel_gain_both_longer": (
            f"3×3 instead of 5×5, {2 * epochs} epochs", longer[small], longer[plain]),
        "small_kernel_gain_unpadded": (
            "3×3 instead of 5×5, without padding", last[small_unpadded], last[unpadded]),
        "small_kernel_gain_normed": (
            "3×3 instead of 5×5, with batch norm", last[small_normed], last[normed]),
        "batch_norm_gain": ("batch norm, 5×5", last[normed], last[plain]),
        "padding_gain": ("padding instead of none, 5×5", last[plain], last[unpadded]),
        "padding_gain_small": ("padding instead of none, 3×3", last[small], last[small_unpadded]),
        "longer_gain": (
            f"{2 * epochs} epochs instead of {epochs}, 5×5", longer[plain], last[plain]),
    }  # fmt: skip
    rows = []
    for metric, (change, values, others) in gains.items():
        by_seed = differences(values, others)
        run.metrics[metric] = by_seed
        shown = (statistics.mean(by_seed), min(by_seed), max(by_seed))
        rows.append([change, *[f"{100 * gain:+.2f}" for gain in shown]])
    print_table(
        "What a change does to the validation accuracy, in points, seed by seed",
        ["change", "mean", "min", "max"], rows,
    )  # fmt: skip
    times = zip(seconds(histories[small]), seconds(histories[plain]), strict=True)
    longer_times = [
        sum(seconds([rows])) / sum(seconds([others]))
        for rows, others in zip(histories[small], short[plain], strict=True)
    ]
    goals = zip(last[plain], histories[normed], histories[small], strict=True)
    reached = [[epochs_to_reach(goal, rows) for rows in others] for goal, *others in goals]
    run.metrics |= {
        "small_kernel_time": statistics.median(one / other for one, other in times),
        "small_kernel_time_trained_longer": statistics.median(longer_times),
        "batch_norm_epochs": [by_normed for by_normed, _ in reached],
        "small_kernel_epochs": [by_small for _, by_small in reached],
        "gap_trained_longer": [gap(rows[-1]) for rows in histories[plain]],
    }
    figures(run, histories, short, models)
    best = max(last, key=lambda name: statistics.mean(last[name]))
    seeds = f", on average over {len(last[plain])} seeds" if len(last[plain]) > 1 else ""
    return (
        f"Most accurate after {epochs} epochs{seeds}: {best} "
        f"({statistics.mean(last[best]):.1%} of the validation images). Open comparison.png and "
        "longer_and_unpadded.png."
    )


def networks_table(
    histories: Mapping[str, Sequence[History]], models: Mapping[str, nn.Module]
) -> None:
    """Prints what each network reaches after the same number of epochs."""
    rows = []
    for name, trainings in histories.items():
        shares = final(trainings)
        rows.append([
            name,
            f"{statistics.mean(shares):.2%}",
            f"{min(shares):.2%}",
            f"{max(shares):.2%}",
            f"{statistics.median(seconds(trainings)):.1f}",
            count_parameters(models[name]),
        ])  # fmt: skip
    (first, *_) = histories.values()
    print_table(
        f"Validation accuracy (epochs: {len(first[0])}, seeds: {len(first)})",
        ["network", "mean", "min", "max", "s per epoch", "parameters"],
        rows,
    )


def longer_table(histories: Mapping[str, Sequence[History]], epochs: int) -> None:
    """Prints what training for twice as many epochs brings, and how long it takes."""
    rows = []
    for name, trainings in histories.items():
        for count in (epochs, 2 * epochs):
            cut = [history[:count] for history in trainings]
            training = statistics.mean(rows[-1]["train_accuracy"] for rows in cut)
            apart = statistics.mean(gap(rows[-1]) for rows in cut)
            time = statistics.mean(sum(seconds([rows])) for rows in cut)
            rows.append([
                name, count, f"{training:.2%}", f"{statistics.mean(final(cut)):.2%}",
                f"{100 * apart:+.1f}", f"{time:.0f}",
            ])  # fmt: skip
    print_table(
        "Trained for longer: training and validation accuracy, means of the seeds",
        ["network", "epochs", "training", "validation", "apart (points)", "seconds"],
        rows,
    )


def figures(
    run: Run,
    histories: Mapping[str, Sequence[History]],
    short: Mapping[str, Sequence[History]],
    models: Mapping[str, nn.Module],
) -> None:
    """Saves the proposals side by side; and the longer trainings beside those without padding."""
    plain, small, normed, small_normed, unpadded, small_unpadded = histories
    proposals = (plain, small, normed, small_normed)
    comparison_figure(
        {name: short[name] for name in proposals},
        run.file("comparison.png"),
        title="Do smaller kernels or batch norm help, and do they take longer to train?",
        column="val_accuracy",
        label="validation accuracy (%)",
        sizes={name: f"{count_parameters(model):,} parameters" for name, model in models.items()},
    )
    figure, panels = new_figure(
        "Do 3×3 kernels catch up when both are trained for longer, and what does padding change?",
        1, 2,
    )  # fmt: skip
    longer, cut = panels
    for place, (with_padding, without) in enumerate(((plain, unpadded), (small, small_unpadded))):
        colour, kernel = COLOURS[place], with_padding.split(",")[0]
        draw_mean(longer, histories[with_padding], "train_accuracy", ":", colour,
                  f"{kernel}, training images")  # fmt: skip
        draw_mean(longer, histories[with_padding], "val_accuracy", "-o", colour,
                  f"{kernel}, validation images")  # fmt: skip
        draw_mean(cut, short[with_padding], "val_accuracy", "-o", colour, f"{kernel}, padding")
        draw_mean(cut, short[without], "val_accuracy", "--s", colour, f"{kernel}, no padding")
    longer.set(title="trained for longer", ylabel="accuracy (%)")
    cut.set(title="with and without padding", ylabel="validation accuracy (%)")
    share_y_limits(panels)
    for panel in panels:
        mark_epochs(panel)
        panel.legend()
    save_figure(figure, run.file("longer_and_unpadded.png"))


def draw_mean(
    axes: Axes, trainings: Sequence[History], column: str, style: str, colour: str, label: str
) -> None:
    """Draws a column of fractions by epoch as a percentage: the mean in a band from min to max."""
    epochs = [row["epoch"] for row in trainings[0]]
    shares = torch.tensor([[100 * row[column] for row in rows] for rows in trainings])
    axes.plot(epochs, shares.mean(0), style, color=colour, markersize=4, label=label)
    axes.fill_between(epochs, shares.amin(0), shares.amax(0), color=colour, alpha=0.15)


def final(trainings: Sequence[History]) -> list[float]:
    """The validation accuracy after the last epoch of each training."""
    return [history[-1]["val_accuracy"] for history in trainings]


def gap(row: Row) -> float:
    """How much more accurate a network is on training images than on validation images."""
    return row["train_accuracy"] - row["val_accuracy"]


def seconds(trainings: Sequence[History]) -> list[float]:
    """The seconds of every epoch of several trainings."""
    return [row["seconds"] for history in trainings for row in history]


def differences(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each value minus the other at the same position."""
    return [value - other for value, other in zip(values, others, strict=True)]


def epochs_to_reach(goal: float, history: History) -> int:
    """The first epoch whose validation accuracy is at least the goal; one more than all if none."""
    for row in history:
        if row["val_accuracy"] >= goal:
            return int(row["epoch"])
    return len(history) + 1
