"""A recipe's ladder as one table and one figure: what each step gives, and what it costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from common.figures import COLOURS, UNSEEN, new_figure, save_figure
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say
from recipes.ladder import Trainings, without

COLUMN = "val_accuracy"  # of the trainings' rows, a fraction: what counts
SLOWER = 0.1  # a training that takes more than a tenth longer is called slower
Scores = Mapping[int, float]  # by seed, fractions 0..1; without a training that diverged


def ladder(
    run: Run,
    trainings: Trainings,
    *,
    label: str = "validation accuracy",
) -> str:
    """Prints, draws and measures a ladder; returns the closing sentence.

    `trainings` has the document's recipe, then one after each step, then `without <step>` for each
    step. `label` says what their score is.
    """
    climbed = [name for name in trainings if not name.startswith(without(""))]
    scores = {name: last(trainings[name]) for name in trainings}
    times = {name: seconds(trainings[name]) for name in trainings}
    measure(run, climbed, scores, times)
    title = f"The ladder: {label} after each step, and without each"
    print_table(title, HEADER, table(climbed, scores, times))
    say(explanation(run, trainings))
    draw(run, climbed, scores, times, label)
    return ending(climbed, scores, times, label)


# Then, with this step alone taken away: the change of the score, and the seconds that it costs.
HEADER = ["step", "\nscore\n%", "\n\n±", "\ngain\npoints", "\n\n±", "\ntime\ns", "\nadded\ns",
          "taken\naway\npoints", "\n\n±", "\nsaved\ns"]  # fmt: skip


def table(
    climbed: Sequence[str], scores: Mapping[str, Scores], times: Mapping[str, float | None]
) -> list[list[str]]:
    """A row for each step: with all up to it, and with all but it."""
    rows = []
    for place, name in enumerate(climbed):
        row = [name, *as_percent(scores[name])]
        if place == 0:
            rows.append([*row, "", "", rounded(times[name]), *[""] * 4])
            continue
        before, top, lacking = climbed[place - 1], climbed[-1], without(name)
        row += as_points(differences(scores[name], scores[before]))
        row += [rounded(times[name]), signed(difference(times[name], times[before]))]
        row += as_points(differences(scores[lacking], scores[top]))
        rows.append([*row, signed(difference(times[top], times[lacking]))])
    return rows


def explanation(run: Run, trainings: Trainings) -> str:
    """What the table's numbers are, and where its seconds can be compared."""
    seeds = len(next(iter(trainings.values())))
    several = f"means of {seeds} seeds, ±: their standard deviation" if seeds > 1 else "one seed"
    diverged = []
    for name, by_seed in trainings.items():
        count = sum(not rows for rows in by_seed.values())
        if count:
            diverged.append(f"{name} ({count} of {len(by_seed)})")
    lost = f" Diverged and left out of the means: {', '.join(diverged)}." if diverged else ""
    return (
        f"Each row adds a step to those above; on the right it is taken away from all together, "
        f"with what fits only with it ({several}; gains and losses seed by seed). Seconds: the "
        f"median training, each on one thread (device {run.device.type}, --jobs {run.options.jobs})"
        f", so they compare with each other and with nothing outside this table.{lost}"
    )


def measure(
    run: Run,
    climbed: Sequence[str],
    scores: Mapping[str, Scores],
    times: Mapping[str, float | None],
) -> None:
    """Puts every score and time among the run's metrics; gains and losses too, one a seed."""
    for name, found in scores.items():
        key = name.replace(" ", "_").replace("-", "_")
        run.metrics[f"ladder_{key}"] = list(found.values())
        time = times[name]
        if time is not None:
            run.metrics[f"ladder_{key}_seconds"] = time
    for before, name in pairwise(climbed):
        key = name.replace(" ", "_").replace("-", "_")
        gains = differences(scores[name], scores[before])
        losses = differences(scores[without(name)], scores[climbed[-1]])
        run.metrics |= {f"gain_of_{key}": gains, f"change_without_{key}": losses}


def draw(
    run: Run,
    climbed: Sequence[str],
    scores: Mapping[str, Scores],
    times: Mapping[str, float | None],
    label: str,
) -> None:
    """Saves the ladder from top to bottom: the score, what is lost without a step, the seconds."""
    height = 1.2 + 0.34 * len(climbed)
    figure, panels = new_figure(
        "The ladder: what does each step give, and what does it cost? (small dots: the seeds, "
        "large: their mean)", 1, 3, width=4.4, height=height,
    )  # fmt: skip
    reached, lost, costs = panels
    top = scores[climbed[-1]]
    for place, name in enumerate(climbed):
        draw_seeds(reached, place, [100 * share for share in scores[name].values()], UNSEEN)
        if name != climbed[0]:
            changes = [100 * one for one in differences(scores[without(name)], top)]
            if changes or not scores[without(name)]:  # otherwise the complete recipe diverged
                draw_seeds(lost, place, changes, COLOURS[0])
        if times[name] is not None:
            costs.barh(place, times[name] or 0, color=COLOURS[2])
            costs.text(times[name] or 0, place, f" {rounded(times[name])}", va="center")
    means = [100 * statistics.mean(scores[name].values()) for name in climbed if scores[name]]
    places = [place for place, name in enumerate(climbed) if scores[name]]
    reached.plot(means, places, color=UNSEEN, linewidth=1, zorder=1)
    lost.axvline(0, color="gray", linewidth=0.8)
    reached.set(xlabel=f"{label} (%)", title="with all steps down to this one")
    lost.set(xlabel=f"change of {label} (points)", title="all steps but this one")
    costs.set(xlabel="seconds of training, one thread", title="with all steps down to this one")
    costs.margins(x=0.2)
    for panel in panels:
        panel.set_ylim(len(climbed) - 0.5, -0.5)
        panel.set_yticks(range(len(climbed)), climbed if panel is reached else [""] * len(climbed))
        panel.grid(axis="x" if panel is costs else "both", alpha=0.3)
    save_figure(figure, run.file("ladder.png"))


def draw_seeds(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    """Draws a small dot for each seed and a large one for their mean."""
    if not values:
        middle = axes.get_yaxis_transform()  # x from 0 to 1 across the panel, y as it is
        axes.text(0.5, place, "diverged", transform=middle, ha="center", va="center")
        return
    axes.plot(values, [place] * len(values), "o", color=colour, markersize=3, alpha=0.5)
    axes.plot([statistics.mean(values)], [place], "o", color=colour, markersize=8)


def ending(
    climbed: Sequence[str],
    scores: Mapping[str, Scores],
    times: Mapping[str, float | None],
    label: str,
) -> str:
    """How far the ladder leads, and which steps could be left out, at which cost of time."""
    foot, top = scores[climbed[0]], scores[climbed[-1]]
    useless = []
    for name in climbed[1:]:
        lacking = scores[without(name)]
        changes = differences(lacking, top)
        none_diverged = len(lacking) == max(map(len, scores.values()))
        if none_diverged and changes and statistics.mean(changes) >= 0:
            slower = difference(times[without(name)], times[climbed[-1]]) or 0.0
            is_slower = slower > SLOWER * (times[climbed[-1]] or 0.0)
            useless.append(f"{name} ({rounded(slower)} s slower)" if is_slower else name)
    sentence = f"From {shown(foot)} to {shown(top)}: {label}."
    if useless:
        sentence += f" No worse without: {', '.join(useless)}."
    return f"{sentence} Open ladder.png."


# Numbers


def last(by_seed: Mapping[int, Sequence[Row]]) -> dict[int, float]:
    """Each seed's score after its last epoch; without those that diverged."""
    return {seed: rows[-1][COLUMN] for seed, rows in by_seed.items() if rows}


def seconds(by_seed: Mapping[int, Sequence[Row]]) -> float | None:
    """The median of the trainings' seconds; None where all diverged."""
    sums = [sum(row["seconds"] for row in rows) for rows in by_seed.values() if rows]
    return statistics.median(sums) if sums else None


def differences(scores: Scores, others: Scores) -> list[float]:
    """Each seed's score minus the other, for seeds that have both."""
    return [score - others[seed] for seed, score in scores.items() if seed in others]


def difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def as_percent(scores: Scores) -> list[str]:
    """Mean and standard deviation of fractions, in percent."""
    if not scores:
        return ["nan", ""]
    spread = f"{100 * statistics.stdev(scores.values()):.2f}" if len(scores) > 1 else ""
    return [f"{100 * statistics.mean(scores.values()):.2f}", spread]


def as_points(changes: Sequence[float]) -> list[str]:
    """Mean and standard deviation of differences of fractions, in percentage points."""
    if not changes:
        return ["nan", ""]
    spread = f"{100 * statistics.stdev(changes):.2f}" if len(changes) > 1 else ""
    return [f"{100 * statistics.mean(changes):+.2f}", spread]


def shown(scores: Scores) -> str:
    return f"{statistics.mean(scores.values()):.2%}" if scores else "nothing (it diverged)"


def rounded(time: float | None) -> str:
    """Seconds with the digits that they deserve."""
    if time is None:
        return ""
    return f"{time:.0f}" if time >= 20 else f"{time:.1f}"


def signed(time: float | None) -> str:
    if time is None:
        return ""
    return f"{time:+.0f}" if abs(time) >= 20 else f"{time:+.1f}"
