"""Document 2's weather: figures and tables of the forecasts that `rnn_demo.py` makes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from common.figures import COLOURS, legend_below, new_figure, save_figure, share_y_limits
from common.layers import count_parameters
from common.metrics import confusion_matrix
from common.runs import Run
from common.terminal import print_table, say
from common.weather import CLASSES, YEARS, Weather

if TYPE_CHECKING:
    from rnn_demo import Experiment

TEST_YEAR = YEARS[-1]
Predicted = Mapping["Experiment", Sequence[Tensor]]  # of each: the classes (N), for each seed
Guesses = Mapping[str, Tensor]  # the classes (N) by the rule that guesses them


def network_name(network: str) -> str:
    return "MLP, stacked days" if network == "mlp" else f"{network.upper()}, shared cell"


def years(weather: Weather) -> None:
    """Prints how many days each class has in each year, and how the wet days are labelled."""
    rows, shares = [], []
    for year in YEARS:
        chosen = weather.years == year
        counts = weather.classes[chosen].bincount(minlength=len(CLASSES)).tolist()
        wet = weather.classes[chosen & (weather.measurements[:, 0] > 0)]
        rain = int((wet == CLASSES.index("rain")).sum())
        fog = int((wet == CLASSES.index("fog")).sum())
        rows.append([str(year), int(chosen.sum()), *counts, len(wet), rain, fog])
        shares.append(f"{rain / max(1, len(wet)):.0%} in {year}")
    print_table(
        "The weather of Seattle: days of each class, and how the wet days (with precipitation) are "
        "labelled",
        ["year", "days", *CLASSES, "wet", "wet: rain", "wet: fog"], rows,
    )  # fmt: skip
    say(f"Share of the wet days that are labelled rain: {', '.join(shares)}.")


def forecasts(run: Run, predicted: Predicted, guesses: Guesses, labels: Tensor) -> str:
    """Prints and draws the accuracy from three days, in all and by class; returns the closing
    sentence: the best network, and how it compares with the two rules."""
    rows, rows_by_class = [], []
    for experiment, answers in predicted.items():
        names = [network_name(experiment.network), inputs_of(experiment)]
        rows.append([*names, *spread(answers, labels)])
        found = days_found(answers, labels).float().mean(0).tolist()
        rows_by_class.append([*names, *(f"{days:.1f}" for days in found)])
    for rule, guess in guesses.items():
        rows.append([rule, "", f"{share_correct(guess, labels):.1%}", "", "", ""])
        rows_by_class.append([rule, "", *days_found([guess], labels)[0].tolist()])
    rows_by_class.append(["days of the class", "", *class_sizes(labels).tolist()])
    seeds = len(next(iter(predicted.values())))
    print_table(
        f"Accuracy on the {len(labels)} days of {TEST_YEAR}, each predicted from the three days "
        f"before ({count_of(seeds, 'seed')}; the input may hold the weather of these days too)",
        ["predicted by", "input", "mean", "std (points)", "min", "max"], rows,
    )  # fmt: skip
    print_table(
        f"Days of {TEST_YEAR} predicted correctly, by class (mean of the seeds)",
        ["predicted by", "input", *CLASSES], rows_by_class,
    )  # fmt: skip
    forecasts_figure(run, predicted, guesses, labels)
    forecast_metrics(run, predicted, guesses, labels)
    cell = "" if run.options.cell == "rnn" else f" --cell {run.options.cell}"
    return (
        f"{best_network(predicted, guesses, labels)} Open weather.png. Next: python rnn_demo.py"
        f"{cell} --windows 1,3,7,14,30, which shows whether more days help."
    )


def forecast_metrics(run: Run, predicted: Predicted, guesses: Guesses, labels: Tensor) -> None:
    """Puts the accuracy of both networks and of both rules among the run's metrics."""
    most_common, yesterday = (share_correct(guess, labels) for guess in guesses.values())
    run.metrics |= {
        "most_common_accuracy": most_common,
        "same_as_yesterday_accuracy": yesterday,
    }
    for experiment, answers in predicted.items():
        name = "mlp" if experiment.network == "mlp" else "cell"
        if experiment.with_weather:
            name += "_told_weather"
        shares = [share_correct(answer, labels) for answer in answers]
        run.metrics[f"{name}_accuracy"] = statistics.mean(shares)
        run.metrics[f"{name}_accuracy_least"] = min(shares)
        if name == "cell":
            run.metrics["gain_over_most_common"] = min(shares) - most_common


def share_correct(predicted: Tensor, labels: Tensor) -> float:
    """The share of the days (N each) predicted correctly, a fraction in 0..1."""
    return (predicted == labels).float().mean().item()


def days_found(answers: Sequence[Tensor], labels: Tensor) -> Tensor:
    """How many days of each class were predicted correctly, seeds×classes."""
    counts = [confusion_matrix(labels, answer, len(CLASSES)).diagonal() for answer in answers]
    return torch.stack(counts)


def class_sizes(labels: Tensor) -> Tensor:
    """How many days each class has."""
    return labels.bincount(minlength=len(CLASSES))


def inputs_of(experiment: Experiment) -> str:
    return "measurements, weather" if experiment.with_weather else "measurements"


def count_of(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def spread(answers: Sequence[Tensor], labels: Tensor) -> list[str]:
    """Mean, standard deviation (none for one seed), minimum and maximum of the accuracy."""
    shares = [share_correct(answer, labels) for answer in answers]
    deviation = f"{100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return [f"{statistics.mean(shares):.1%}", deviation, f"{min(shares):.1%}", f"{max(shares):.1%}"]


def best_network(predicted: Predicted, guesses: Guesses, labels: Tensor) -> str:
    """Which network was the most accurate, and how it compares with the two rules, in sentences."""
    means = {}
    for experiment, answers in predicted.items():
        means[experiment] = statistics.mean(share_correct(answer, labels) for answer in answers)
    best = max(means, key=means.__getitem__)
    seeds = len(predicted[best])
    name = "MLP" if best.network == "mlp" else best.network.upper()
    inputs = "measurements and the weather" if best.with_weather else "measurements"
    averaged = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    common, yesterday = (share_correct(guess, labels) for guess in guesses.values())
    return (
        f"The most accurate network is the {name} with the {inputs} of "
        f"{count_of(best.days, 'day')} as input. It predicts {means[best]:.1%} of the "
        f"{len(labels)} days of {TEST_YEAR} correctly{averaged}. That is "
        f"{compared(means[best], common)} always guessing the most common class ({common:.1%}), "
        f"and {compared(means[best], yesterday)} \"same as yesterday\" ({yesterday:.1%})."
    )


def compared(network: float, rule: float) -> str:
    if network == rule:
        return "as good as"
    return "better than" if network > rule else "worse than"


# The figures. A network has the same colour in both, and so has a rule.

MOST_COMMON, YESTERDAY = COLOURS[5], COLOURS[4]
RULE_COLOURS = (MOST_COMMON, YESTERDAY)


def colour_of(experiment: Experiment) -> str:
    return COLOURS[1] if experiment.network == "mlp" else COLOURS[0]


def forecasts_figure(run: Run, predicted: Predicted, guesses: Guesses, labels: Tensor) -> None:
    """Saves the share of all days, and how many days of each class, were predicted correctly."""
    title = f"Does a network predict the weather of {TEST_YEAR} better than two simple rules?"
    figure, (totals, by_class) = new_figure(title, 1, 2, width=6.6, height=4.4)
    names = []
    bars: list[tuple[Sequence[Tensor], str, float]] = []  # answers, colour, opacity
    for experiment, answers in predicted.items():
        names.append(f"{network_name(experiment.network)}\n{inputs_of(experiment)}")
        bars.append((answers, colour_of(experiment), 1.0 if experiment.with_weather else 0.45))
    for (rule, guess), colour in zip(guesses.items(), RULE_COLOURS, strict=True):
        names.append(rule)
        bars.append(([guess], colour, 1.0))
    present = class_sizes(labels).nonzero().flatten().tolist()
    width = 0.8 / len(bars)
    for place, (answers, colour, opacity) in enumerate(bars):
        shares = [100 * share_correct(answer, labels) for answer in answers]
        totals.barh(place, statistics.mean(shares), color=colour, alpha=opacity)
        if len(shares) > 1:
            totals.plot(shares, [place] * len(shares), "o", color="white", markeredgecolor="black",
                        markersize=5)  # fmt: skip
        found = days_found(answers, labels).float().mean(0)[present].tolist()
        left = [index + place * width - 0.4 for index in range(len(present))]
        by_class.bar(left, found, width, color=colour, alpha=opacity, align="edge")
    totals.set_yticks(range(len(bars)), names)
    totals.invert_yaxis()
    totals.set(xlabel="days predicted correctly (%)", title="all days (bar: mean, circle: a seed)")
    sizes = class_sizes(labels)[present].tolist()
    by_class.hlines(sizes, [index - 0.42 for index in range(len(present))],
                    [index + 0.42 for index in range(len(present))], color="black",
                    linestyle="dashed", label="days of the class")  # fmt: skip
    ticks = [f"{CLASSES[number]}\n{count_of(size, 'day')}"
             for number, size in zip(present, sizes, strict=True)]  # fmt: skip
    by_class.set_xticks(range(len(present)), ticks)
    by_class.set(ylabel="days predicted correctly (mean)", title="by class, in the same colours")
    by_class.set_ylim(top=1.2 * max(sizes))  # room for the legend
    by_class.legend(loc="upper left")
    save_figure(figure, run.file("weather.png"))


def by_days(
    run: Run,
    predicted: Predicted,
    guesses: Guesses,
    labels: Tensor,
    make_model: Callable[[Experiment], nn.Module],
) -> str:
    """Prints and draws parameters and accuracy by the number of days; returns the closing
    sentence: the best network, and how it compares with the two rules."""
    sizes = {experiment: count_parameters(make_model(experiment)) for experiment in predicted}
    seeds = len(next(iter(predicted.values())))
    for with_weather in (False, True):
        chosen = [e for e in predicted if e.with_weather == with_weather]
        rows = []
        for experiment in sorted(chosen, key=network_then_days):
            name, days = network_name(experiment.network), experiment.days
            rows.append([name, days, sizes[experiment], *spread(predicted[experiment], labels)])
        print_table(
            f"Accuracy on {TEST_YEAR} by the number of days, "
            f"{'with' if with_weather else 'without'} the earlier weather as input "
            f"({count_of(seeds, 'seed')})",
            ["network", "days", "parameters", "mean", "std (points)", "min", "max"], rows,
        )  # fmt: skip
    windows_figure(run, predicted, guesses, labels, sizes)
    other = "gru" if run.options.cell == "lstm" else "lstm"
    windows = ",".join(str(days) for days in run.options.windows)
    return (
        f"{best_network(predicted, guesses, labels)} Open windows.png. Next: python rnn_demo.py "
        f"--cell {other} --windows {windows}, which reads the days with another cell."
    )


def network_then_days(experiment: Experiment) -> tuple[bool, int]:
    return experiment.network == "mlp", experiment.days


def windows_figure(
    run: Run,
    predicted: Predicted,
    guesses: Guesses,
    labels: Tensor,
    sizes: Mapping[Experiment, int],
) -> None:
    """Saves parameters and accuracy by the number of days; a panel of accuracy for each input."""
    title = "How many days should a network see? What more days cost, and what they bring"
    figure, (costs, *scores) = new_figure(title, 1, 3, width=4.6, height=4.2)
    days = sorted({experiment.days for experiment in predicted})
    for with_weather, panel in zip((False, True), scores, strict=True):
        chosen = [e for e in predicted if e.with_weather == with_weather]
        for network in dict.fromkeys(experiment.network for experiment in chosen):
            line = sorted((e for e in chosen if e.network == network), key=network_then_days)
            if not with_weather:
                costs.plot([e.days for e in line], [sizes[e] for e in line], style(line[0]),
                           color=colour_of(line[0]))  # fmt: skip
            draw_scores(panel, line, [predicted[e] for e in line], labels)
        for (rule, guess), colour in zip(guesses.items(), RULE_COLOURS, strict=True):
            share = 100 * share_correct(guess, labels)
            panel.axhline(share, color=colour, linestyle=":", label=rule)
        inputs = "with the earlier weather as input" if with_weather else "measurements as input"
        panel.set(title=f"accuracy, {inputs}", ylabel="days predicted correctly (%)")
    share_y_limits(scores)
    costs.set(title="size, measurements as input", ylabel="parameters")
    costs.set_ylim(bottom=0)
    for panel in (costs, *scores):
        panel.set(xlabel="days that the network sees", xscale="log")
        panel.set_xticks(days, [str(number) for number in days])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    legend_below(figure, scores[0])
    save_figure(figure, run.file("windows.png"))


def style(experiment: Experiment) -> str:
    return "s--" if experiment.network == "mlp" else "o-"


def draw_scores(
    panel: Axes, line: Sequence[Experiment], runs: Sequence[Sequence[Tensor]], labels: Tensor
) -> None:
    """Draws the mean accuracy by the number of days, in a band from the minimum to the maximum."""
    shares = [[100 * share_correct(answer, labels) for answer in answers] for answers in runs]
    days, colour = [experiment.days for experiment in line], colour_of(line[0])
    label = network_name(line[0].network)
    if len(shares[0]) > 1:
        label += " (mean; band: min to max)"
    means = [statistics.mean(values) for values in shares]
    panel.plot(days, means, style(line[0]), color=colour, label=label)
    panel.fill_between(days, [*map(min, shares)], [*map(max, shares)], color=colour, alpha=0.15)
