"""Document 4's widths of the hidden layer: the table and the figure of `mnist_mlp.py --widths`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.figures import COLOURS, new_figure, save_figure
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say


def report_widths(run: Run, histories: Mapping[int, Sequence[Sequence[Row]]]) -> str:
    """Prints and draws the test accuracy by width; returns the closing sentence.

    `histories` has a training for each width and seed.
    """
    shares = {
        width: [rows[-1]["test_accuracy"] for rows in runs] for width, runs in histories.items()
    }
    means = {width: statistics.mean(values) for width, values in shares.items()}
    run.metrics |= {f"accuracy_width_{width}": values for width, values in shares.items()}
    epochs, seeds = len(next(iter(histories.values()))[0]), run.options.seeds
    table = []
    for width, runs in histories.items():
        seconds = [row["seconds"] for rows in runs for row in rows]
        table.append([
            width, 784 * width + width + 10 * width + 10, f"{means[width]:.2%}",
            f"{min(shares[width]):.2%}", f"{max(shares[width]):.2%}",
            f"{statistics.median(seconds):.1f}",
        ])  # fmt: skip
    print_table(
        f"Test accuracy after {epochs} epochs, seeds {', '.join(map(str, seeds))}",
        ["width", "parameters", "mean", "min", "max", "s per epoch"], table,
    )  # fmt: skip
    figure_of_widths(shares, seeds, epochs, run.file("widths.png"))
    percent = [100 * mean for mean in means.values()]
    run.metrics["width_spread"] = (max(percent) - min(percent)) / 100
    best = max(means, key=lambda width: means[width])
    apart = max(max(values) - min(values) for values in shares.values())
    seeds_apart = f", those of one width's seeds up to {100 * apart:.2f}" if len(seeds) > 1 else ""
    say(
        f"The mean accuracies are at most {max(percent) - min(percent):.2f} points apart"
        f"{seeds_apart}."
    )
    average = f", on average over {len(seeds)} seeds" if len(seeds) > 1 else ""
    return (
        f"Most accurate{average}: {best} hidden numbers "
        f"({means[best]:.1%} of the test images). Open widths.png."
    )


def figure_of_widths(
    shares: Mapping[int, Sequence[float]], seeds: Sequence[int], epochs: int, path: Path
) -> None:
    """Saves the test accuracy by width: a dot for each seed, and the mean."""
    figure, (axes,) = new_figure("Does the width of the hidden layer matter?")
    positions = range(len(shares))
    means = [100 * statistics.mean(values) for values in shares.values()]
    axes.plot(positions, means, "-", color="gray", label="mean")
    for number, seed in enumerate(seeds):
        values = [100 * several[number] for several in shares.values()]
        colour = COLOURS[number % len(COLOURS)]
        aside = 0.04 * (number - (len(seeds) - 1) / 2)  # equal values do not hide each other
        places = [position + aside for position in positions]
        axes.plot(places, values, "o", color=colour, label=f"seed {seed}")
    axes.set(xlabel="width of the hidden layer", ylabel=f"test accuracy after {epochs} epochs (%)")
    axes.margins(x=0.1)
    axes.set_xticks(positions, [str(width) for width in shares])
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
