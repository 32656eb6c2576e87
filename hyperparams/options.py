"""The command line of document 5: which experiments to train, how long, how many at a time."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from common.cli import add_data_flag, add_run_flags, make_parser, whole_number, whole_numbers
from common.data import check_has_pairs
from common.errors import UsageError
from common.parser import all_seeds
from common.ranks import default_jobs, under_torchrun

SECTIONS = [f"5.{number}" for number in range(1, 18)]
COMPARED_WITH = {  # a section's own experiments are compared with these of other sections
    "5.5": ("unscaled",),
    "5.7": ("hidden-1",),
    "5.10": ("lr-high", "lr-medium", "lr-low"),
    "5.11": ("lr-medium", "lr-low"),
    "5.14": ("no-annealing-100", "no-dropout"),
    "5.16": ("no-dropout", "hidden-1", "batch-32"),
    "5.17": ("hidden-1",),
}


def experiments_of(section: str, experiments: Mapping[str, Any]) -> list[str]:
    """The names of a section's experiments, then of those compared with them."""
    own = [name for name, experiment in experiments.items() if experiment.section == section]
    return [*own, *COMPARED_WITH.get(section, ())]


def by_section(experiments: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each section the names of its experiments, and of those compared with them."""
    return {section: experiments_of(section, experiments) for section in SECTIONS}


def parse(
    docstring: str | None, argv: Sequence[str] | None, experiments: Mapping[str, Any]
) -> argparse.Namespace:
    """The options; `experiments` are those that may be chosen, by name.

    Raises UsageError for an unknown experiment, and for choices that exclude each other.
    """
    parser = make_parser(docstring)
    add = parser.add_argument
    add("names", nargs="*", metavar="EXPERIMENT", help="experiments to train; --list shows them")
    add("--list", action="store_true", help="print the experiments and stop")
    add("--section", choices=SECTIONS, metavar="5.N",
        help="a section's experiments and those compared with them")  # fmt: skip
    add("--all", action="store_true", help="every experiment, at full length")
    add("--quick", action="store_true",
        help="shorter: 10,000 training images, fewer epochs (the default when no experiments are "
             "chosen)")
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="train each experiment with each of these random seeds (default: --seed alone)")
    add("--jobs", type=whole_number(1), metavar="N",
        help="experiments trained at the same time (default: one for each CPU core; on a GPU, "
             "and for each rank of torchrun, one)")  # fmt: skip
    add_data_flag(parser)
    add_run_flags(parser, resumable=True)
    options = parser.parse_args(argv)
    _check(options, experiments)
    options.quick = options.quick or not (options.names or options.section or options.all)
    options.seeds = all_seeds(options)
    if options.jobs is None:
        options.jobs = default_jobs(options.device)
    return options


def _check(options: argparse.Namespace, experiments: Mapping[str, Any]) -> None:
    for name in options.names:
        if name not in experiments:
            near = difflib.get_close_matches(name, experiments, n=1)
            hint = f"did you mean {near[0]}?" if near else "--list shows them"
            raise UsageError(f"no experiment {name!r}; {hint}")
    chosen = options.names or [*experiments]
    if options.section:  # some sections train nothing
        chosen = experiments_of(options.section, experiments)
    check_has_pairs(any(experiments[name].batch_norm for name in chosen), options.limit)
    if bool(options.names) + bool(options.section) + options.all > 1:
        raise UsageError("names, --section and --all each choose experiments; give one of them")
    if options.list and under_torchrun():
        raise UsageError("torchrun shares trainings, and --list trains nothing; use python")
    if options.all and options.quick:
        raise UsageError("--all trains at full length and --quick shorter; give one of them")
