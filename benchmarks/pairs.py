"""Times two ways of doing the same work in turn, A B A B …, and shows that both did the same.

Two timings a minute apart may differ because the machine does; two in a row seldom. So the ratio is
taken pair by pair, and its median is the number to quote.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from common.cli import whole_number


@dataclass(frozen=True)
class Way:
    """One way of doing the work: `run()` does it `times` over; its result shows what was done."""

    name: str
    run: Callable[[], Any]
    times: int = 1


def options_from_command_line(
    description: str | None, argv: Sequence[str] | None
) -> argparse.Namespace:
    """`pairs`, how many are timed, and `limit`, the examples of a try or None for all."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--pairs", type=whole_number(1), default=7, help="timed pairs (default %(default)s)")
    add("--limit", type=whole_number(1), help="only so many examples, to try whether it runs")
    return parser.parse_args(argv)


def compare(
    title: str,
    slow: Way,
    *fast: Way,
    figures_of: Callable[[Any], Mapping[str, float]],
    pairs: int,
    warm_up: bool = True,
) -> None:
    """Runs all ways in turn, with `warm_up` once unmeasured first.

    Prints the seconds and figures of each way, and the ratios of the slow way to the others.
    """
    ways = (slow, *fast)
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    figures: dict[str, Mapping[str, float]] = {}
    for pair in range(0 if warm_up else 1, pairs + 1):
        for way in ways:
            start = time.perf_counter()
            result = way.run()
            elapsed = (time.perf_counter() - start) / way.times
            figures[way.name] = figures_of(result)
            if pair:
                seconds[way.name].append(elapsed)
    print(f"\n{title} ({pairs} pairs, {torch.get_num_threads()} threads)")
    width = max(len(way.name) for way in ways)
    for way in ways:
        shown = "  ".join(f"{name} {value:.9g}" for name, value in figures[way.name].items())
        print(f"  {way.name:<{width}}  {_spread(seconds[way.name], ' s')}   {shown}")
    for way in fast:
        ratios = [a / b for a, b in zip(seconds[slow.name], seconds[way.name], strict=True)]
        print(f"  {slow.name} ÷ {way.name}: {_spread(ratios, '×')}")


def _spread(values: list[float], unit: str) -> str:
    median = f"median {statistics.median(values):.3g}{unit}"
    return f"{median} (min {min(values):.3g}, max {max(values):.3g})"
