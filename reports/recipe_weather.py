"""Claims, tables and figures of `recipes/weather.py`, and the table of your own days."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from common.bounds import above, at_most
from common.claims import Target
from common.errors import UsageError
from common.figures import COLOURS, UNSEEN, new_figure, save_figure, share_y_limits
from common.labels import drawable, shortened
from common.rows import Row
from common.runs import Run
from common.terminal import one_line, print_table, say
from common.weather import ANSWERS, MEASUREMENTS
from recipes.ladder import Trainings
from recipes.training import seconds_of_training
from reports import ladder as ladder_report
from reports.own_images import LONGEST_NAME
from reports.recipes import STATED, judged, measure_scores, predict_command

if TYPE_CHECKING:
    from recipes.weather import Recipe

WET = ANSWERS.index("wet")
WITHIN = 120  # seconds, on two cores
# What a day can have, of each measurement: mm, °C, °C, m/s. Missing numbers are often -9999.
POSSIBLE = {"precipitation": (0, 2000), "temp_max": (-90, 60), "temp_min": (-90, 60),
            "wind": (0, 120)}  # fmt: skip
FEWEST_DAYS = 12  # three that the network sees, and nine before: it counts spells of up to ten days
Answers = Mapping[str, Sequence[Tensor]]  # of each seed's network: probabilities, N×2
Rules = Mapping[str, Tensor]  # what a simple rule answers, N
MOST_DRAWN = 6  # tables of your own in a figure
GROUPS = 5  # of days, by the probability that the recipe gave them


def claims(run: Run, recipe: Recipe) -> list[Target]:
    """Our targets, where the run has read the test year; `recipe` is the complete one.

    The baselines are those of rnn_demo.py. Logistic regression that is given the recipe's inputs is
    none of them: it shows what the network adds to the inputs.
    """
    if run.options.ladder or run.options.validate:
        return []
    stated = {**STATED, "epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr}
    better, target = "accuracy on 2015 minus that of", "our target"
    points = "{:+.1f} points"
    judged_by: dict[str, Any] = {"settings": stated, "every_seed": True}
    targets = (
        Target("weather.1", f"{better} “always dry”", target,
              "gain_over_always_dry", above(0), points, **judged_by),
        Target("weather.2", f"{better} “same as yesterday”", target,
              "gain_over_same_as_yesterday", above(0), points, **judged_by),
        Target("weather.3", f"{better} logistic regression, measurements alone", target,
              "gain_over_logistic_regression_measurements_alone", above(0), points, **judged_by),
        Target("weather.4", f"{better} logistic regression, recipe's inputs", "our stretch target",
              "gain_over_logistic_regression_recipe_s_inputs", above(0), points, **judged_by),
        Target("weather.5", "seconds of training on 2 cores at most, mean of the seeds", target,
              "seconds_of_training", at_most(WITHIN), "{:.1f} s", stated),
    )  # fmt: skip
    return judged(run, targets)


# Training


def folder_of(name: str) -> str:
    return name.replace(",", "").replace("'", "").replace(" ", "-").lower()


def quiet(row: Row) -> None:
    """For a training whose epochs are not shown."""


def validated(run: Run, runs: Sequence[Run]) -> str:
    """Measures all seeds on the year held out; returns the closing sentence."""
    shares, losses = (
        [one.history[-1][name] for one in runs] for name in ("val_accuracy", "val_loss")
    )
    run.metrics |= {
        "val_accuracy": shares,
        "val_loss": losses,
        "seconds_of_training": [seconds_of_training(one) for one in runs],
    }
    return (
        f"{run.options.held_out}, which no network was trained on: {percent(shares)} of the days "
        f"predicted correctly, loss {statistics.mean(losses):.3f}. 2015 was not looked at."
    )


def climbed(run: Run, trainings: Trainings) -> str:
    """Prints and draws the ladder, and a table of the losses; returns the closing sentence."""
    year = run.options.held_out
    ending = ladder_report.ladder(run, trainings, label=f"accuracy on {year}")
    rows = []
    for name, by_seed in trainings.items():
        losses = [epochs[-1]["val_loss"] for epochs in by_seed.values() if epochs]
        if losses:
            rows.append([name, f"{statistics.mean(losses):.4f}", deviation(losses, 1, 4)])
            run.metrics[f"cross_entropy_{folder_of(name)}"] = losses
    print_table(f"The same ladder: loss on {year}", ["recipe", "loss", "± (seeds)"], rows)
    say(
        f"Choose by the loss: it asks how good the probabilities are, of every day. Accuracy asks "
        f"only on which side of 50% they lie, and of 365 days that is a matter of luck for "
        f"±{standard_error(0.73, 365):.1f} points."
    )
    return ending


# The test year


def tested(run: Run, runs: Sequence[Run], answers: Answers, rules: Rules, wet: Tensor) -> str:
    """Prints, draws and measures who is right how often in the test year; the closing sentences.

    `answers` begin with the recipe's; `wet` (N) says what came.
    """
    run.metrics["seconds_of_training"] = [seconds_of_training(one) for one in runs]
    shares: dict[str, list[float]] = {rule: [right(one, wet)] for rule, one in rules.items()}
    decided = {name: [one.argmax(1) for one in several] for name, several in answers.items()}
    for name, several in decided.items():
        shares[name] = [right(one, wet) for one in several]
    ours = shares["recipe"]
    rows, differ = [], []
    for name, found in shares.items():
        others = decided.get(name) or [rules[name]] * len(ours)
        only_ours, only_others = apart(decided["recipe"], others, wet)
        if beyond_chance(only_ours, only_others):
            differ.append(name)
        losses = [log_loss(one, wet) for one in answers.get(name, ())]
        rows.append([
            name, f"{100 * statistics.mean(found):.1f}", deviation(found, 100, 1),
            f"{statistics.mean(losses):.3f}" if losses else "",
            *(["", ""] if name == "recipe" else [f"{only_ours:.0f}", f"{only_others:.0f}"]),
        ])  # fmt: skip
        metric = name.replace(",", "").replace("'", " ").replace(" ", "_")
        run.metrics[f"accuracy_{metric}"] = found
        if name != "recipe":
            differences = zip(ours, found * (len(ours) // len(found)), strict=True)
            run.metrics[f"gain_over_{metric}"] = [one - other for one, other in differences]
    measure_scores(run, ours)
    trained = f"{len(ours)} seeds; ±: their standard deviation" if len(ours) > 1 else "one seed"
    print_table(
        f"The {len(wet)} days of 2015, wet or dry? All networks were trained on 2012 to 2014 "
        f"({trained}). The last columns: days that only the "
        "recipe has right, and days that only the other one has right",
        ["predicted by", "right\n%", "\n±", "loss", "days: only\nrecipe", "only\nother"], rows,
    )  # fmt: skip
    error = standard_error(statistics.mean(ours), len(wet))
    say(
        f"One year is a small sample: chance alone moves each share by about ±{error:.1f} points. "
        "The numbers of the last two columns differ by more than chance for: "
        f"{', '.join(differ) or 'none'} (by more than twice the square root of their sum, which "
        "chance does in one case of twenty)."
    )
    draw(run, shares, answers["recipe"], wet)
    command = predict_command(run, runs[0], "my_days.csv")
    return f"{ending(shares)} Open weather.png. For your own days:\n{command}"


def right(answers: Tensor, wet: Tensor) -> float:
    """The share of the days (N each) answered correctly, 0..1."""
    return (answers == wet).double().mean().item()


def log_loss(probabilities: Tensor, wet: Tensor) -> float:
    """The mean cross-entropy of probabilities (N×2), in nats."""
    of_truth = probabilities.double()[torch.arange(len(wet)), wet]
    return -of_truth.log().mean().item()


def apart(
    ours: Sequence[Tensor], others: Sequence[Tensor], wet: Tensor
) -> tuple[float, float]:
    """Days that only ours has right, and days that only the other one has; means of the seeds."""
    only_ours, only_others = [], []
    for our, other in zip(ours, others, strict=True):
        only_ours.append(int(((our == wet) & (other != wet)).sum()))
        only_others.append(int(((our != wet) & (other == wet)).sum()))
    return statistics.mean(only_ours), statistics.mean(only_others)


def beyond_chance(one: float, other: float) -> bool:
    """Whether two numbers of days differ by more than two standard deviations of a fair coin's."""
    return abs(one - other) > 2 * math.sqrt(one + other)


def standard_error(share: float, days: int) -> float:
    """By how many points chance moves a share (0..1) of so many days: one standard deviation."""
    return 100 * math.sqrt(share * (1 - share) / days)


def deviation(values: Sequence[float], factor: float, digits: int) -> str:
    """The standard deviation of several values, times `factor`; nothing for one value."""
    return f"{factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""


def percent(shares: Sequence[float]) -> str:
    spread = f" ± {deviation(shares, 100, 1)}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread}%"


def ending(shares: Mapping[str, Sequence[float]]) -> str:
    """How often the recipe is right, and which of the others are right more often."""
    means = {name: statistics.mean(found) for name, found in shares.items()}
    ours = means.pop("recipe")
    sentence = f"The recipe is right on {percent(shares['recipe'])} of the days of 2015"
    no_worse = [f"{name} ({share:.1%})" for name, share in means.items() if share >= ours]
    if not no_worse:
        return f"{sentence}, more often than everything it is compared with."
    return f"{sentence}. Not behind it: {'; '.join(no_worse)}."


# The figure


def draw(
    run: Run, shares: Mapping[str, Sequence[float]], ours: Sequence[Tensor], wet: Tensor
) -> None:
    """Saves who is right how often, and whether the recipe's probabilities come true."""
    title = f"Wet or dry tomorrow? The {len(wet)} days of 2015"
    figure, (accuracies, probabilities) = new_figure(title, 1, 2, width=6.0, height=4.4)
    for place, (name, found) in enumerate(shares.items()):
        mean = 100 * statistics.mean(found)
        error = standard_error(statistics.mean(found), len(wet))
        colour = UNSEEN if name == "recipe" else COLOURS[5]
        accuracies.errorbar(mean, place, xerr=error, fmt="o", color=colour, capsize=3)
        accuracies.text(mean, place - 0.16, f"{mean:.1f}%", ha="center", va="bottom", fontsize=9)
    accuracies.set_yticks(range(len(shares)), [name.replace(", ", ",\n") for name in shares])
    accuracies.set_ylim(len(shares) - 0.5, -0.6)
    accuracies.set(xlabel="days predicted correctly (%)")
    accuracies.set_title("mean of the seeds;\nbar: what chance does to a year (±1 standard error)",
                         fontsize=10)  # fmt: skip
    accuracies.grid(axis="x", alpha=0.3)
    draw_reliability(probabilities, torch.stack([one[:, WET] for one in ours]).mean(0), wet)
    save_figure(figure, run.file("weather.png"))


def draw_reliability(panel: Axes, probabilities: Tensor, wet: Tensor) -> None:
    """Groups the days by the probability that they were given (N); draws how many became wet."""
    order = probabilities.argsort()
    for group in order.chunk(GROUPS):
        said, came = probabilities[group].mean().item(), wet[group].double().mean().item()
        error = standard_error(came, len(group))
        panel.errorbar(100 * said, 100 * came, yerr=error, fmt="o", color=UNSEEN, capsize=3)
    panel.plot([0, 100], [0, 100], ":", color="black")
    panel.text(4, 94, "on the dotted line: as often as it said", va="top", fontsize=9)
    panel.set(xlabel="probability of a wet day that the recipe gave (%)",
              ylabel="of these days became wet (%)", xlim=(0, 100), ylim=(0, 100))  # fmt: skip
    panel.set_title("each dot a fifth of the days;\nbar: ±1 standard error", fontsize=10)
    panel.grid(alpha=0.3)


# Your own days


def read_days(path: Path) -> Tensor:
    """The measurements (D×4) of the days in a table of your own, in order.

    The table has the columns of data/weather's. UsageError where it has not, lacks a day between
    its first and its last, or has a number that no weather has.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # as Excel saves it, too
            days = sorted(csv.DictReader(file), key=date_of)  # as text 10/1 would be before 9/1
        dates = [date_of(day) for day in days]
        measurements = [[float(day[name]) for name in MEASUREMENTS] for day in days]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        columns = ", ".join(("date (2015/12/31)", *MEASUREMENTS))
        message = f"{path} is no table of days ({error}); its columns must be {columns}"
        raise UsageError(message) from None
    for day, row in zip(days, measurements, strict=True):
        for name, value in zip(MEASUREMENTS, row, strict=True):
            low, high = POSSIBLE[name]
            if not low <= value <= high:  # NaN is not either
                raise UsageError(
                    f"{path}: {name} of {day['date']} is {value:g}; accepted: {low} to {high}"
                )
    if len(days) < FEWEST_DAYS or any((b - a).days != 1 for a, b in pairwise(dates)):
        raise UsageError(f"{path}: {FEWEST_DAYS} days or more are needed, one after the other")
    return torch.tensor(measurements)


def date_of(day: Mapping[str, str]) -> datetime:
    return datetime.strptime(day["date"], "%Y/%m/%d")


def own_days(run: Run, tables: Sequence[tuple[Path, Tensor]], wet: Sequence[float]) -> str:
    """Prints and draws how probable a wet day is after the days of each table (measurements D×4,
    probability 0..1); returns the closing sentence."""
    rows = []
    for number, ((path, _), share) in enumerate(zip(tables, wet, strict=True), 1):
        run.metrics[f"wet_{number}"] = share
        rows.append([shortened(one_line(path.name), LONGEST_NAME), f"{share:.0%}"])
    print_table("Is the day after the last one wet?", ["table", "probability"], rows)
    say("The network knows Seattle, from 2012 to 2014; elsewhere the weather has other habits.")
    shown = min(len(tables), MOST_DRAWN)
    figure, panels = new_figure("Rain of the last days: is the next one wet?", shown, height=2.6)
    for panel, (path, measurements), share in zip(panels, tables, wet, strict=False):
        rain = measurements[-FEWEST_DAYS:, MEASUREMENTS.index("precipitation")]
        panel.bar(range(1 - len(rain), 1), rain.tolist())
        panel.set_title(f"{drawable(path.name)}: {share:.0%} probable that the next day is wet")
        panel.set(xlabel="days (0: the last one)", ylabel="precipitation (mm)")
    share_y_limits(panels)
    save_figure(figure, run.file("seen.png"))
    which = "your tables" if shown == len(tables) else f"the first {shown} of your tables"
    return f"Open seen.png: the rain of the last days of {which}."
