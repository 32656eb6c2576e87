"""What is trained: the experiments chosen, and a job for each of them with each random seed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.jobs import Job
from common.runs import Run
from hyperparams.options import experiments_of

QUICK_IMAGES = 10_000
QUICK_EPOCHS = {5: 3, 8: 5, 10: 5, 30: 6, 100: 11}  # full → shortened number of epochs


@dataclass(frozen=True)
class Settings:
    """What a worker process needs to know of a job, which is one experiment with one seed. Each
    worker takes one job at a time, and computes on one thread."""

    name: str
    experiment: Any
    data_dir: Path
    training_limit: int | None
    validation_limit: int | None


def chosen_experiments(
    options: argparse.Namespace, experiments: Mapping[str, Any], further: Mapping[str, Any]
) -> dict[str, Any]:
    """The experiments to train, by name: those named, a section's, or all; with --quick for fewer
    epochs.

    `further` ones are among all with --all, but not in the short form of all.
    """
    every = {**experiments, **further}
    names = options.names or [*(every if options.all else experiments)]
    if options.section:
        names = experiments_of(options.section, every)
    chosen = {name: every[name] for name in names}
    if options.quick:
        for name, experiment in chosen.items():
            epochs = QUICK_EPOCHS.get(experiment.epochs, min(experiment.epochs, 11))
            chosen[name] = replace(experiment, epochs=epochs)
    return chosen


def make_jobs(run: Run, options: argparse.Namespace, chosen: Mapping[str, Any]) -> list[Job]:
    """A job for each experiment and seed, in a folder of its own; the longest come first."""
    training_limit = options.limit
    if options.quick and (training_limit is None or training_limit > QUICK_IMAGES):
        training_limit = QUICK_IMAGES
    jobs = []
    for seed in options.seeds:
        for name, experiment in chosen.items():
            subrun = run.subrun(f"{name}-seed{seed}", {"name": name, **asdict(experiment)}, seed)
            settings = Settings(name, experiment, options.data_dir, training_limit, options.limit)
            jobs.append(Job(subrun, experiment.epochs, settings))
    return sorted(jobs, key=lambda job: -job.epochs)
