"""What `recipes/sprint.py` prints, draws and claims: seconds of training, and the accuracy then."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from common.bounds import at_least, at_most
from common.claims import Target
from common.figures import COLOURS, UNSEEN, new_figure, save_figure
from common.runs import Run
from common.terminal import print_table
from recipes.training import seconds_of_training
from reports.recipes import CORES, judged

if TYPE_CHECKING:
    from recipes.sprint import Race

SEEDS = tuple(range(10))


def claims(run: Run, races: Mapping[str, Race]) -> list[Target]:
    """The targets of the races that the run has held; `races` are all there are.

    A race has a number: .1a is the first one's goal, .1b its seconds, .1c the stretch target.
    """
    if run.options.ladder or run.options.validate:
        return []
    settings = {"seeds": SEEDS, "limit": None}
    found: list[Target] = []
    for number, (name, race) in enumerate(races.items(), 1):
        if run.options.race not in (None, name):
            continue
        key, time = key_of(name), f"{name}: seconds on {CORES} cores"
        found += [
            Target(f"sprint.{number}a", f"{name}: right test images", "our target",
                  f"{key}_test_accuracy", at_least(race.goal), "{:.2%}", settings),
            Target(f"sprint.{number}b", time, "our target",
                  f"{key}_seconds_of_training", at_most(race.within), "{:.1f} s", settings),
        ]  # fmt: skip
        if race.stretch is not None:
            stretch = Target(f"sprint.{number}c", time, "our stretch target",
                            f"{key}_seconds_of_training", at_most(race.stretch), "{:.1f} s",
                            settings)  # fmt: skip
            found.append(stretch)
    return judged(run, found)


def validated(run: Run, runs: Sequence[Run], race: Race) -> str:
    """Measures what the images held out say about a race; returns the closing sentence."""
    shares = [one.history[-1]["val_accuracy"] for one in runs]
    seconds = [seconds_of_training(one) for one in runs]
    run.metrics |= {"val_accuracy": shares, "seconds_of_training": seconds}
    seeds = f", mean of {len(runs)} seeds" if len(runs) > 1 else ""
    return (
        f"{statistics.mean(shares):.2%} of the images held out are classified correctly after "
        f"{statistics.mean(seconds):.1f} seconds of training{seeds}; the goal is {race.goal:.1%}."
    )


def raced(
    run: Run,
    races: Mapping[str, Race],
    accuracies: Mapping[str, Sequence[float]],
    seconds: Mapping[str, Sequence[float]],
) -> str:
    """Prints and draws each race's accuracy and time; returns the closing sentence.

    `accuracies` (fractions) and `seconds` have a number for each seed.
    """
    rows = []
    won = []
    for name, race in races.items():
        run.metrics[f"{key_of(name)}_test_accuracy"] = list(accuracies[name])
        run.metrics[f"{key_of(name)}_seconds_of_training"] = list(seconds[name])
        shares = [100 * share for share in accuracies[name]]
        rows.append([
            name, f"{100 * race.goal:.1f}", f"{statistics.mean(shares):.2f}", spread(shares, 2),
            f"{race.within:g}", f"{statistics.mean(seconds[name]):.1f}", spread(seconds[name], 1),
        ])  # fmt: skip
        if statistics.mean(accuracies[name]) >= race.goal:
            won.append(f"{name} in {statistics.mean(seconds[name]):.1f} s")
    seeds = len(run.options.seeds)
    of_seeds = f"means of {seeds} seeds, ±: their standard deviation" if seeds > 1 else "one seed"
    print_table(
        f"The races: test accuracy after the last epoch, and seconds of training ({of_seeds})",
        ["race", "goal\n%", "reached\n%", "\n±", "allowed\ns", "taken\ns", "\n±"], rows,
    )  # fmt: skip
    draw(run, races, accuracies, seconds)
    by = of_seeds.split(",")[0]  # "means of 10 seeds", "one seed"
    reached = f"Goals reached ({by}): {', '.join(won)}." if won else "No goal was reached."
    return f"{reached} Open races.png."


def draw(
    run: Run,
    races: Mapping[str, Race],
    accuracies: Mapping[str, Sequence[float]],
    seconds: Mapping[str, Sequence[float]],
) -> None:
    """Saves each race's seeds by seconds and accuracy, with the corner that is the target."""
    figure, panels = new_figure(
        "Is the goal reached in time? Each dot is a seed; the target is up and to the left",
        1, len(races), width=4.2,
    )  # fmt: skip
    for panel, (name, race) in zip(panels, races.items(), strict=True):
        shares = [100 * share for share in accuracies[name]]
        panel.plot(seconds[name], shares, "o", color=UNSEEN, markersize=4, alpha=0.6, label="seeds")
        means = (statistics.mean(seconds[name]), statistics.mean(shares))
        panel.plot(*means, "D", color=UNSEEN, markersize=9, label="their mean")
        panel.axhline(100 * race.goal, color=COLOURS[4], linestyle="--", label="goal")
        panel.axvline(race.within, color=COLOURS[4], linestyle=":", label="seconds allowed")
        panel.set_xlim(0, 1.15 * max(race.within, *seconds[name]))
        panel.set(xlabel="seconds of training", ylabel="test accuracy (%)", title=name)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    save_figure(figure, run.file("races.png"))


def spread(values: Sequence[float], digits: int) -> str:
    """The standard deviation; nothing of one value."""
    return f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""


def key_of(race: str) -> str:
    """A race's name in a metric's."""
    return race.replace("-", "_").replace(".", "_")
