"""What the reports of all recipes share: our targets as claims, and the seeds' final scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from common.bounds import at_least, at_most
from common.claims import Claim
from common.runs import Run
from common.terminal import print_table, say

CORES = 2  # the targets' seconds are those of two cores
SEEDS = (0, 1, 2, 3, 4)
# The options of the run that the targets are about; with --epochs, --batch-size and --lr as the
# recipe has them, which each recipe adds.
STATED = {"seeds": SEEDS, "limit": None, "ladder": False, "validate": False}


def targets(
    name: str,
    score: str,
    *,
    at_least_: float,
    stretch: float,
    within: float,
    settings: dict[str, object],
    parameters: int | None = None,
) -> tuple[Claim, ...]:
    """A recipe's targets: `name`.1 its score, .2 the stretch target, .3 seconds, .4 parameters.

    `score` says what `test_score` is, a fraction; `within` is in seconds; `settings` are the
    recipe's own `epochs`, `batch_size` and `lr`.
    """
    stated = {**STATED, **settings}
    target, further = "our target", "our stretch target"
    claims = [
        Claim(f"{name}.1", f"{score}, mean of the seeds", target,
              "test_score", at_least(at_least_), "{:.2%}", stated),
        Claim(f"{name}.2", f"{score}, mean of the seeds", further,
              "test_score", at_least(stretch), "{:.2%}", stated),
        Claim(f"{name}.3", f"seconds of training on {CORES} cores, mean of the seeds", target,
              "seconds_of_training", at_most(within), "{:.0f} s", stated),
    ]  # fmt: skip
    if parameters is not None:
        claims.append(Claim(f"{name}.4", "parameters", target, "parameters",
                            at_most(parameters), "{:,.0f}"))  # fmt: skip
    return tuple(claims)


def judged(run: Run, claims: Sequence[Claim]) -> list[Claim]:
    """The claims that this machine can judge: those about seconds only on two cores at most."""
    if run.device.type == "cpu" and torch.get_num_threads() <= CORES:
        return list(claims)
    say(f"The targets' seconds are those of {CORES} cores, and are not judged here.")
    return [claim for claim in claims if claim.metric != "seconds_of_training"]


def final(run: Run, scores: Sequence[float], seconds: Sequence[float], score: str) -> str:
    """Prints what each seed's network scores on the test set; returns the closing sentence.

    `scores` are fractions and `seconds` those of the training, one for each of `options.seeds`.
    """
    run.metrics |= {"test_score": list(scores), "seconds_of_training": list(seconds)}
    if len(scores) > 1:
        rows = [
            [seed, f"{100 * share:.2f}", f"{time:.0f}"]
            for seed, share, time in zip(run.options.seeds, scores, seconds, strict=True)
        ]
        spread = [f"{100 * statistics.stdev(scores):.2f}", f"{statistics.stdev(seconds):.0f}"]
        rows.append(["mean", f"{100 * statistics.mean(scores):.2f}",
                     f"{statistics.mean(seconds):.0f}"])  # fmt: skip
        rows.append(["±", *spread])
        title = f"{score}, of networks trained from {len(scores)} seeds (±: standard deviation)"
        print_table(title, ["seed", "%", "seconds of training"], rows)
    return (
        f"{score}: {statistics.mean(scores):.2%} after {statistics.mean(seconds):.0f} seconds of "
        "training."
    )
