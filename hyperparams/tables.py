"""The printed tables of document 5: the experiments, and their results."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping
from typing import Any

from common.terminal import print_table
from hyperparams.figures import values_by_group
from hyperparams.results import (
    TRAINING,
    VALIDATION,
    Result,
    Results,
    by_name,
    differences,
    median_seconds,
)

LONG_NAME = 21  # characters; where there are many columns a longer one is broken at a hyphen


def print_contents(
    experiments: Mapping[str, Any], further: Mapping[str, Any], base: Any
) -> None:
    """Prints the chapter's tables of experiments, and what each changes."""
    titles = (
        "The document's experiments, and one of ours (…-no-bias). The base is 784→1000→10 with "
        "ReLU, trained by Adam with learning rate (lr) 0.001 and batches of 32, pixels ÷ 255",
        "Further ones: other readings, longer trainings and more batch sizes; a bare command, "
        "which shortens all, leaves them out",
    )
    for title, table in zip(titles, (experiments, further), strict=True):
        room = 61 - max(len(name) for name in table)  # in a line, beside the other columns
        rows = []
        for name, one in table.items():
            changes = textwrap.fill(differences(one, base) or "nothing", room)
            rows.append([one.section, name, one.epochs, changes])
        print_table(title, ["sec.", "experiment", "epochs", "changed from the base"], rows)


def print_widths(heading: str, results: Mapping[str, Result], hidden: bool) -> None:
    """Prints the standard deviation of each group of parameters."""
    groups = values_by_group(results, hidden)
    rows = []
    for name in results:
        widths = [values[name] for values in groups.values()]
        shown = [f"{width.std():.3g}" if len(width) else "" for width in widths]
        rows.append([textwrap.fill(name, LONG_NAME), *shown])
    header = ["experiment", *(group.replace(" ", "\n", 2) for group in groups)]
    title = f"{heading}: how widely the values spread (standard deviation after the last epoch)"
    print_table(title, header, rows)


def print_results(results: Results) -> None:
    """Prints every experiment's accuracy after its last epoch: means over the seeds."""
    rows = []
    several = len(results) > 1
    for name, found in by_name(results).items():
        shown = textwrap.fill(name, LONG_NAME) if several else name
        row: list[object] = [found[0].section, shown, found[0].epochs]
        for column in (TRAINING, VALIDATION):
            values = [100 * one.last(column) for one in found]
            row.append(f"{statistics.fmean(values):.1f}")
            if several:
                row.append(f"{statistics.stdev(values):.1f}" if len(values) > 1 else "")
        rows.append([*row, f"{median_seconds(found):.1f}"])
    spread = ["± %"] if several else []
    if rows:
        print_table(
            "Accuracy after the last epoch"
            + (f" (mean ± standard deviation of {len(results)} seeds)" if several else "")
            + ", and median seconds of training per epoch",
            [
                "sec.", "experiment", "epochs",
                "train\n%", *spread, "val.\n%", *spread, "s per\nepoch",
            ],
            rows,
        )
