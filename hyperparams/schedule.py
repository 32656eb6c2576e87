"""The lines of a scheduler that lowers the learning rate, as document 5 has them printed (5.12)."""

from __future__ import annotations

from collections.abc import Mapping

from common.terminal import say
from hyperparams.results import Result

THRESHOLD = 0.001  # so far below its best validation loss must fall


def lowered(result: Result) -> list[tuple[int, float]]:
    """The epochs after which the learning rate fell, from 1, each with the rate from then on."""
    rates = result.column("lr")
    return [(epoch, rates[epoch]) for epoch in result.halvings()]


def best_before(result: Result, epoch: int) -> float:
    """The best validation loss before that epoch, as `ReduceLROnPlateau` keeps it.

    It takes a loss as its new best only where that is `THRESHOLD` below the best until then;
    infinity before the first epoch.
    """
    best = float("inf")
    for loss in result.column("validation_loss")[: epoch - 1]:
        if loss < best - THRESHOLD:
            best = loss
    return best


def rate_lines(result: Result) -> list[str]:
    """A line for each epoch after which the learning rate fell: the rate, and the reason."""
    lines = []
    for epoch, rate in lowered(result):
        loss, best = result.at(epoch, "validation_loss"), best_before(result, epoch)
        lines.append(
            f"epoch {epoch}: learning rate {rate:.4g} (validation loss {loss:.4f}, best before "
            f"{best:.4f})"
        )
    return lines


def print_rates(section: str, results: Mapping[str, Result]) -> None:
    """Prints these lines for each experiment whose learning rate fell; nothing where none did.

    An experiment that has the same lines as one above is said to have them.
    """
    every = {name: rate_lines(result) for name, result in results.items()}
    if not any(every.values()):
        return
    say(
        f"{section}: a validation loss is a new best where it is more than {THRESHOLD:g} below the "
        "best before. After these epochs it was not, and the scheduler lowered the learning rate."
    )
    named: dict[tuple[str, ...], str] = {}
    for name, lines in every.items():
        if not lines:
            continue
        result = results[name]
        first = named.setdefault(tuple(lines), name)
        say(f"{name}, {result.epochs} epochs, from learning rate {result.history[0]['lr']:g}:")
        for line in lines if first == name else [f"the same as {first}"]:
            say(f"  {line}")
    say()
