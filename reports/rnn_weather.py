"""Document 2's weather: figures and tables of the forecasts that `rnn_demo.py` makes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from torch import Tensor

from common.figures import COLOURS, legend_below, new_figure, save_figure
from common.metrics import confusion_matrix, share_of
from common.runs import Run
from common.terminal import print_table, say
from common.weather import ANSWERS, MEASUREMENTS, WORDS, YEARS, Weather

if TYPE_CHECKING:
    from rnn_demo import Experiment

TEST_YEAR = YEARS[-1]
FEATURES = (4, 9, 16, 32, 64, 128)  # numbers a day: the table's four, and more
Predicted = Mapping["Experiment", Sequence[Tensor]]  # of each: 0 dry, 1 wet (N), for each seed
Guesses = Mapping[str, Tensor]  # the same by the rule that guesses


def network_name(network: str) -> str:
    names = {"mlp": "MLP, stacked days", "linear": "logistic regression"}
    return names.get(network, f"{network.upper()}, shared cell")


# The words of the table, and why the networks are not asked for them


def years(weather: Weather) -> None:
    """Prints how many days each word has in each year, and how the wet days are labelled."""
    rows, shares = [], []
    for year in YEARS:
        chosen = weather.years == year
        counts = weather.words[chosen].bincount(minlength=len(WORDS)).tolist()
        wet = weather.words[chosen & (weather.wet == 1)]
        rain = int((wet == WORDS.index("rain")).sum())
        fog = int((wet == WORDS.index("fog")).sum())
        rows.append([str(year), int(chosen.sum()), *counts, len(wet), rain, fog])
        shares.append(f"{rain / max(1, len(wet)):.0%} in {year}")
    print_table(
        "The weather of Seattle. The table names each day by a word: how many days have each, and "
        "how many wet days (precipitation above 0) are called rain or fog",
        ["year", "days", *WORDS, "wet", "wet: rain", "wet: fog"], rows,
    )  # fmt: skip
    say(
        f"Share of the wet days that are labelled rain: {', '.join(shares)}. A network learns what "
        "a word means in the years it is trained on; where the labels shift, it is wrong later. So "
        "the question here is not the word but what was measured: will the next day be wet?"
    )


# How many parameters the networks have


def parameters(run: Run, cell: str, count: Callable[[str, int, int], tuple[int, int]]) -> None:
    """Prints and draws the parameters of the MLP and of the cell's network by days and features.

    `count(cell, days, features)` gives both.
    """
    measured = len(MEASUREMENTS)
    by_days = {days: count(cell, days, measured) for days in range(1, 31)}
    by_features = {features: count(cell, 3, features) for features in range(1, FEATURES[-1] + 1)}
    names = [network_name("mlp"), network_name(cell)]
    print_table(
        "Number of parameters. The MLP sees all days at once, stacked into one long input; the "
        f"{cell.upper()} reads them one by one with the same cell ({measured} measurements a day)",
        ["days", *names], [[days, *by_days[days]] for days in (1, 3, 7, 14, 30)],
    )  # fmt: skip
    print_table(
        "The same for three days, if a day had more than its four measurements",
        ["features a day", *names], [[number, *by_features[number]] for number in FEATURES],
    )  # fmt: skip
    fewer_days, fewer_features = fewer_from(by_days), fewer_from(by_features)
    if fewer_days and fewer_features:
        say(
            f"The {cell.upper()} has fewer parameters from {fewer_days} days of {measured} "
            f"measurements on, and for three days from {fewer_features} features on. The MLP needs "
            "weights for each feature of each day. The shared cell needs them for the features of "
            "one day, and has weights between its hidden units besides."
        )
    parameters_figure(run, cell, by_days, by_features)
    stacked, shared = by_features[FEATURES[-1]]
    run.metrics |= {
        "stacked_growth": by_days[30][0] / by_days[1][0],
        "shared_growth": by_days[30][1] / by_days[1][1],
        "shared_size_many": shared / stacked,
    }


def fewer_from(counts: Mapping[int, tuple[int, int]]) -> int | None:
    """The first number at which the second count is below the first; None if it never is."""
    for number, (stacked, shared) in counts.items():
        if shared < stacked:
            return number
    return None


def parameters_figure(
    run: Run,
    cell: str,
    by_days: Mapping[int, tuple[int, int]],
    by_features: Mapping[int, tuple[int, int]],
) -> None:
    """Saves the parameters by the number of days and by the number of features."""
    title = "Stack the days or share one cell: from where on does sharing save parameters?"
    figure, panels = new_figure(title, 1, 2, width=5.6, height=4.2)
    names = [network_name("mlp"), network_name(cell)]
    labels = (f"days ({len(MEASUREMENTS)} measurements each)", "features a day (three days)")
    for panel, counts, label in zip(panels, (by_days, by_features), labels, strict=True):
        numbers = [*counts]
        for place, network in enumerate(("mlp", cell)):
            values = [count[place] for count in counts.values()]
            panel.plot(numbers, values, "--" if network == "mlp" else "-", linewidth=2.5,
                       color=colour_of(network), label=names[place])  # fmt: skip
        crossing = fewer_from(counts)
        if crossing:
            panel.axvline(crossing, color="black", linestyle=":")
            panel.text(crossing + numbers[-1] / 60, 0.8 * counts[numbers[-1]][0],
                       f"fewer by sharing\nfrom {crossing} on")  # fmt: skip
        panel.set(xlabel=label, ylabel="parameters", ylim=(0, None))
        panel.grid(alpha=0.3)
    legend_below(figure, panels[0])
    save_figure(figure, run.file("parameters.png"))


# Wet or dry? The forecasts from three days


def forecasts(run: Run, predicted: Predicted, labels: Tensor, guesses: Guesses) -> str:
    """Prints and draws the accuracy from three days, in all and by answer; returns the closing
    sentence: the mean accuracy of the networks and of the two rules."""
    rows, rows_by_answer = [], []
    for experiment, answers in predicted.items():
        name = network_name(experiment.network)
        rows.append([name, *spread(answers, labels)])
        found = days_found(answers, labels).float().mean(0).tolist()
        rows_by_answer.append([name, *(f"{days:.1f}" for days in found)])
    for rule, guess in guesses.items():
        rows.append([rule, f"{share_correct(guess, labels):.1%}", "", "", ""])
        rows_by_answer.append([rule, *days_found([guess], labels)[0].tolist()])
    rows_by_answer.append(["days in all", *answer_counts(labels).tolist()])
    seeds, tested = len(next(iter(predicted.values()))), count_of(len(labels), "day")
    print_table(
        f"Wet or dry tomorrow? Accuracy on the {tested} of {TEST_YEAR}, each predicted "
        f"from the measurements of the three days before ({count_of(seeds, 'seed')})",
        ["predicted by", "mean", "std (points)", "min", "max"], rows,
    )  # fmt: skip
    print_table(
        f"Dry and wet days of {TEST_YEAR} predicted correctly (mean of the seeds)",
        ["predicted by", *ANSWERS], rows_by_answer,
    )  # fmt: skip
    forecasts_figure(run, predicted, labels, guesses)
    forecast_metrics(run, predicted, labels, guesses)
    cell = "" if run.options.cell == "rnn" else f" --cell {run.options.cell}"
    return (
        f"Wet or dry? From the three days before, {means_in_words(predicted, labels)} of the "
        f"{tested} of {TEST_YEAR}. {rules_in_words(labels, guesses)} Open weather.png. "
        f"Next: python rnn_demo.py{cell} --windows 1,3,7,14,30, which shows whether more days help."
    )


def forecast_metrics(run: Run, predicted: Predicted, labels: Tensor, guesses: Guesses) -> None:
    """Puts the accuracy of the networks (for each seed) and of the rules among the metrics."""
    always_dry, yesterday = (share_correct(guess, labels) for guess in guesses.values())
    run.metrics |= {"always_dry_accuracy": always_dry, "same_as_yesterday_accuracy": yesterday}
    for experiment, answers in predicted.items():
        name = metric_name(experiment.network)
        shares = [share_correct(answer, labels) for answer in answers]
        run.metrics[f"{name}_accuracy"] = shares
        run.metrics[f"{name}_gain_over_always_dry"] = [share - always_dry for share in shares]


def metric_name(network: str) -> str:
    return network if network in ("mlp", "linear") else "cell"


def share_correct(predicted: Tensor, labels: Tensor) -> float:
    """The share of the days (N each) predicted correctly, a fraction in 0..1."""
    return share_of(predicted == labels)


def days_found(answers: Sequence[Tensor], labels: Tensor) -> Tensor:
    """How many days of each answer were predicted correctly, seeds×answers."""
    counts = [confusion_matrix(labels, answer, len(ANSWERS)).diagonal() for answer in answers]
    return torch.stack(counts)


def answer_counts(labels: Tensor) -> Tensor:
    """How many days have each answer."""
    return labels.bincount(minlength=len(ANSWERS))


def count_of(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def spread(answers: Sequence[Tensor], labels: Tensor) -> list[str]:
    """Mean, standard deviation (none for one seed), minimum and maximum of the accuracy."""
    shares = [share_correct(answer, labels) for answer in answers]
    deviation = f"{100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return [f"{statistics.mean(shares):.1%}", deviation, f"{min(shares):.1%}", f"{max(shares):.1%}"]


def means_in_words(predicted: Predicted, labels: Tensor) -> str:
    """The mean accuracy of each network, or from which to which where it saw several windows."""
    means: dict[str, list[float]] = {}
    for experiment, answers in predicted.items():
        name = network_name(experiment.network).split(",")[0]
        mean = statistics.mean(share_correct(answer, labels) for answer in answers)
        means.setdefault(name, []).append(mean)
    parts: list[str] = []
    for name, values in means.items():
        share = f"{min(values):.1%}"
        if f"{max(values):.1%}" != share:
            share += f" to {max(values):.1%}"
        verb = "is right on" if not parts else "on"
        parts.append(f"{name} {verb} {share}" if name.islower() else f"the {name} {verb} {share}")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def rules_in_words(labels: Tensor, guesses: Guesses) -> str:
    """How often each of the two rules is right."""
    always_dry, yesterday = (share_correct(guess, labels) for guess in guesses.values())
    return f'"Always dry" is right on {always_dry:.1%}, "same as yesterday" on {yesterday:.1%}.'


# The figures. A network has the same colour in all, and so has a rule.

RULE_COLOURS = (COLOURS[5], COLOURS[4])


def colour_of(network: str) -> str:
    return {"mlp": COLOURS[1], "linear": COLOURS[2]}.get(network, COLOURS[0])


def line_style(network: str) -> str:
    return {"mlp": "s--", "linear": "^-."}.get(network, "o-")


def forecasts_figure(run: Run, predicted: Predicted, labels: Tensor, guesses: Guesses) -> None:
    """Saves the share of all days, and of the dry and the wet ones, predicted correctly."""
    title = f"Does a network predict from three days whether a day of {TEST_YEAR} is wet?"
    figure, (totals, by_answer) = new_figure(title, 1, 2, width=6.2, height=4.0)
    bars: list[tuple[str, Sequence[Tensor], str]] = []
    for experiment, answers in predicted.items():
        bars.append((network_name(experiment.network), answers, colour_of(experiment.network)))
    for (rule, guess), colour in zip(guesses.items(), RULE_COLOURS, strict=True):
        bars.append((rule, [guess], colour))
    sizes = answer_counts(labels)
    width = 0.8 / len(bars)
    for place, (_, answers, colour) in enumerate(bars):
        shares = [100 * share_correct(answer, labels) for answer in answers]
        totals.barh(place, statistics.mean(shares), color=colour)
        draw_seeds(totals, shares, [place] * len(shares))
        totals.text(max(shares) + 2, place, f"{statistics.mean(shares):.1f}%", va="center")
        found = 100 * days_found(answers, labels) / sizes.clamp(min=1)  # seeds×answers
        left = [index + place * width - 0.4 for index in range(len(ANSWERS))]
        by_answer.bar(left, found.mean(0).tolist(), width, color=colour, align="edge")
        for start, values in zip(left, found.T.tolist(), strict=True):
            draw_seeds(by_answer, [start + width / 2] * len(values), values)
            if not any(values):
                by_answer.text(start + width / 2, 1, "0", ha="center")
    totals.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    totals.invert_yaxis()
    totals.set(xlabel="days predicted correctly (%)", xlim=(0, 100),
               title="all days (bar: mean, circle: a seed)")  # fmt: skip
    ticks = [f"{count_of(size, f'{answer} day')}"
             for answer, size in zip(ANSWERS, sizes.tolist(), strict=True)]  # fmt: skip
    by_answer.set_xticks(range(len(ANSWERS)), ticks)
    by_answer.set(ylabel="of these predicted correctly (%)", ylim=(0, 104),
                  title="dry and wet days, in the same colours")  # fmt: skip
    save_figure(figure, run.file("weather.png"))


def draw_seeds(panel: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Draws a circle for each seed where there are several."""
    if len(x) > 1:
        panel.plot(x, y, "o", color="white", markeredgecolor="black", markersize=4)


# Other numbers of days


def by_days(run: Run, predicted: Predicted, labels: Tensor, guesses: Guesses) -> str:
    """Prints and draws the accuracy by the number of days; returns the closing sentence: between
    which values the networks' mean accuracy lies, and that of the two rules."""
    rows = []
    for experiment, answers in predicted.items():
        name, days = network_name(experiment.network), experiment.days
        rows.append([name, days, *spread(answers, labels)])
        metric = f"{metric_name(experiment.network)}_accuracy_{days}_days"
        run.metrics[metric] = [share_correct(answer, labels) for answer in answers]
    seeds, tested = len(next(iter(predicted.values()))), count_of(len(labels), "day")
    print_table(
        f"Wet or dry tomorrow? Accuracy on {TEST_YEAR} by the number of days that a network sees "
        f"({count_of(seeds, 'seed')}; all are trained on the same days)",
        ["network", "days", "mean", "std (points)", "min", "max"], rows,
    )  # fmt: skip
    windows_figure(run, predicted, labels, guesses)
    other = "gru" if run.options.cell == "lstm" else "lstm"
    windows = ",".join(str(days) for days in run.options.windows)
    return (
        f"Wet or dry? From {', '.join(map(str, run.options.windows))} days before, "
        f"{means_in_words(predicted, labels)} of the {tested} of {TEST_YEAR}. "
        f"{rules_in_words(labels, guesses)} Open windows.png. Next: python rnn_demo.py "
        f"--cell {other} --windows {windows}, which reads the days with another cell."
    )


def windows_figure(run: Run, predicted: Predicted, labels: Tensor, guesses: Guesses) -> None:
    """Saves the mean accuracy by the number of days, in a band from the minimum to the maximum."""
    title = "Wet or dry tomorrow? Do more days help a network?"
    figure, (panel,) = new_figure(title, width=7.4, height=4.6)
    for network in dict.fromkeys(experiment.network for experiment in predicted):
        shares = {}
        for experiment, answers in predicted.items():
            if experiment.network == network:
                shares[experiment.days] = [100 * share_correct(one, labels) for one in answers]
        days = sorted(shares)
        label, colour = network_name(network), colour_of(network)
        if len(shares[days[0]]) > 1:
            label += " (mean; band: min to max)"
        means = [statistics.mean(shares[number]) for number in days]
        panel.plot(days, means, line_style(network), color=colour, label=label)
        low, high = [min(shares[number]) for number in days], [max(shares[n]) for n in days]
        panel.fill_between(days, low, high, color=colour, alpha=0.15)
    for (rule, guess), colour in zip(guesses.items(), RULE_COLOURS, strict=True):
        share = 100 * share_correct(guess, labels)
        panel.axhline(share, color=colour, linestyle=":", label=rule)
    panel.set(xlabel="days that the network sees", ylabel="days predicted correctly (%)",
              xscale="log")  # fmt: skip
    panel.set_xticks(days, [str(number) for number in days])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    save_figure(figure, run.file("windows.png"))
