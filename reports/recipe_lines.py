"""What `recipes/lines.py` prints, draws and claims: our targets, what else was tried, pictures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.bounds import below
from common.claims import Target
from common.data import InMemoryDataset
from common.figures import (
    COLOURS,
    UNSEEN,
    draw_curves,
    draw_histogram,
    image_grid,
    new_figure,
    save_figure,
)
from common.labels import drawable, shortened
from common.layers import count_parameters
from common.runs import Run
from common.terminal import one_line, print_table, say
from recipes.line_pictures import COLUMNS, describe_test_lines, distances, share_within
from recipes.training import seconds_of_training
from reports.line_regression import mark_ends
from reports.own_images import LONGEST_NAME
from reports.own_images import SHOWN as DRAWN
from reports.recipes import STATED, final, judged, next_commands, targets

if TYPE_CHECKING:
    from recipes.lines import Recipe

RECIPE = "recipe"
KEYS = ("recipe", "clean", "cleaned", "rule")  # of the answers' metrics, in their order
SCORE = "unseen lines with both ends within 2 px"
TOLERANCES = (1, 2, 5)  # pixels
SHOWN = 8  # pictures in a row
SURE = 0.8  # below this share in the two windows the answer comes with a warning
RIVAL = 0.0025  # above it too: of 600 pictures of one line 3% have more, of 600 of two lines 95%


def claims(run: Run, recipe: Recipe) -> list[Target]:
    """Our targets, where the run has drawn the test lines; `recipe` is the complete one."""
    if run.options.ladder or run.options.validate:
        return []
    settings: dict[str, object] = {
        "epochs": recipe.epochs, "batch_size": recipe.batch_size, "lr": recipe.lr,
    }  # fmt: skip
    stated = targets(
        "lines", SCORE, at_least_=0.97, stretch=0.99, within=5 * 60, settings=settings
    )
    limits = {**STATED, **settings}
    others = (
        Target("lines.4", "within 2 px: 89 parameters trained on clean lines", "they fail here",
              "clean_within_2", below(0.5), "{:.1%}", limits),
        Target("lines.5", "within 2 px: the rule of the outermost pixels", "it fails here",
              "rule_within_2", below(0.5), "{:.1%}", limits),
    )  # fmt: skip
    return judged(run, [*stated, *others])


def validated(run: Run, runs: Sequence[Run]) -> str:
    """Draws one seed's curves; measures all seeds on the lines held out; the closing sentence."""
    shares = [one.history[-1]["val_accuracy"] for one in runs]
    seconds = [seconds_of_training(one) for one in runs]
    run.metrics |= {"val_accuracy": shares, "seconds_of_training": seconds}
    figure, panels = new_figure("Would a longer training help? The lines held out", 1, 2)
    draw_curves(panels[0], runs[0].history, {"train_loss": "training lines"},
                y_label="loss (cross-entropy)")  # fmt: skip
    draw_curves(panels[1], runs[0].history, {"val_accuracy": "lines held out"},
                y_label="both ends within 2 px (%)", percent=True)  # fmt: skip
    save_figure(figure, run.file("learning_curves.png"))
    return (
        f"{statistics.mean(shares):.2%} of the lines held out have both ends within 2 px after "
        f"{statistics.mean(seconds):.0f} seconds of training. Open learning_curves.png."
    )


# The test lines


def tested(
    run: Run,
    runs: Sequence[Run],
    network: nn.Module,
    test: InMemoryDataset,
    found: Mapping[str, Sequence[Tensor]],
) -> str:
    """Prints each seed's score beside the other answers, draws them; the closing sentences.

    `found` has the ends (N×4, pixels) of the `test` lines: of each seed of the recipe, and of the
    other answers.
    """
    run.metrics["parameters"] = count_parameters(network)
    print_answers(run, found, test.targets)
    pictures(run, test, found)
    kinds(run, test, found)
    shares = [share_within(ends, test.targets, 2) for ends in found[RECIPE]]
    seconds = [seconds_of_training(one) for one in runs]
    ending = final(run, shares, seconds, SCORE.capitalize())
    return (
        f"{ending} Open lines.png and mistakes.png.\n"
        f"{next_commands(run, runs[0])}"
    )


def print_answers(run: Run, found: Mapping[str, Sequence[Tensor]], ends: Tensor) -> None:
    """Prints and measures how many of the lines each answer finds."""
    rows = []
    for (name, answers), key in zip(found.items(), KEYS, strict=True):
        row = [name]
        for pixels in TOLERANCES:
            shares = [share_within(one, ends, pixels) for one in answers]
            run.metrics[f"{key}_within_{pixels}"] = shares if len(shares) > 1 else shares[0]
            row.append(f"{statistics.mean(shares):.1%}")
        nearest = [distances(one, ends).median().item() for one in answers]
        run.metrics[f"{key}_median_distance"] = statistics.mean(nearest)
        rows.append([*row, f"{statistics.mean(nearest):.2f} px"])
    print_table(
        f"{len(ends):,} unseen lines: both ends within 1 to 5 px; the median distance of an end",
        ["answer", *(f"{pixels} px" for pixels in TOLERANCES), "median"], rows,
    )  # fmt: skip
    say(
        "89 parameters: the network that line_regression.py ends with, trained on clean lines, "
        "where it is exact. Otsu: black and white by Otsu's threshold, the rarer one white. "
        "outermost pixels: of the white ones, the rule that is exact on clean lines. A distance is "
        "that in the nearer order: which end is found first does not count."
    )


def pictures(run: Run, test: InMemoryDataset, found: Mapping[str, Sequence[Tensor]]) -> None:
    """Saves what each answer makes of the first test lines, and the recipe's worst mistakes."""
    count = min(SHOWN, len(test))
    captions, answers = [], []
    for first, *_ in found.values():
        away = distances(first, test.targets).amax(1)[:count]
        captions += [f"{error:.1f} px" for error in away.tolist()]
        answers.append(first[:count])
    truth = test.targets[:count].repeat(len(found), 1)
    side = test.inputs.shape[-1]
    image_grid(
        test.inputs[:count].repeat(len(found), 1, 1, 1), run.file("lines.png"), columns=count,
        width=1.8, captions=captions, row_names=list(found),
        annotate=mark_ends(side, truth, torch.cat(answers)),
        title="The first unseen lines, and how far the farther end of each answer is off",
    )  # fmt: skip
    away = distances(found[RECIPE][0], test.targets).amax(1)
    worst = away.argsort(descending=True)[: 2 * SHOWN]
    image_grid(
        test.inputs[worst], run.file("mistakes.png"), columns=SHOWN, width=1.8,
        captions=[f"{error:.1f} px" for error in away[worst].tolist()],
        annotate=mark_ends(side, test.targets[worst], found[RECIPE][0][worst]),
        title="The unseen lines on which the recipe is worst, and how far it is off",
    )  # fmt: skip


def kinds(run: Run, test: InMemoryDataset, found: Mapping[str, Sequence[Tensor]]) -> None:
    """Prints and draws which lines the recipe misses: by thickness, contrast and so on."""
    descriptions = describe_test_lines()[: len(test)]
    numbers = dict(zip(COLUMNS, descriptions.unbind(1), strict=True))
    missed = distances(found[RECIPE][0], test.targets).amax(1) > 2
    contrast = numbers["opacity"] * (numbers["ink"] - numbers["grey"]).abs()
    peak = contrast * (numbers["thickness"] / (2.5 * numbers["blur"])).clamp(max=1)
    groups = {
        "all": torch.ones_like(missed),
        "dashed": numbers["period"] < (test.targets[:, 2:] - test.targets[:, :2]).norm(dim=1) - 1,
        "thinner than 2 px": numbers["thickness"] < 2,
        "faint (contrast under 5 × noise)": peak < 5 * numbers["noise"],
        "shorter than 24 px": (test.targets[:, 2:] - test.targets[:, :2]).norm(dim=1) < 24,
    }
    rows = []
    for name, chosen in groups.items():
        if chosen.any():
            rows.append([name, int(chosen.sum()), f"{1 - missed[chosen].double().mean():.1%}"])
    title = f"Which lines the recipe (seed {run.options.seeds[0]}) finds within 2 px"
    print_table(title, ["lines", "how many", "found"], rows)
    figure, (axes,) = new_figure("How far off is the farther end? The last bar holds all above")
    away = {name: distances(ends[0], test.targets).amax(1) for name, ends in found.items()}
    draw_histogram(axes, away, bins=40, limits=(0, 10), colours=(UNSEEN, *COLOURS))
    axes.set(xlabel="distance of the farther end (px)", yscale="log")
    axes.legend()
    save_figure(figure, run.file("distances.png"))


# Pictures of your own


@dataclass(frozen=True)
class Answer:
    """A file's picture (bytes, H×W×3), the ends found (2×2: x, y in its pixels), how sure they are,
    and how much another place is like an end (0..1 both, see `line_pictures.read_out`)."""

    name: str
    colours: npt.NDArray[np.uint8]
    ends: Tensor
    sure: float
    rival: float


def own_pictures(run: Run, answers: Sequence[Answer]) -> str:
    """Prints and draws the ends found in your own pictures; returns the closing sentence."""
    rows = []
    for number, answer in enumerate(answers, 1):
        height, width = answer.colours.shape[:2]
        run.metrics[f"sure_{number}"] = answer.sure
        row = [shortened(one_line(answer.name), LONGEST_NAME)]
        for name, (x, y) in zip(("start", "end"), answer.ends.tolist(), strict=True):
            across, down = (x + 0.5) / width, (y + 0.5) / height
            run.metrics |= {f"{name}_x_{number}": across, f"{name}_y_{number}": down}
            row.append(f"{across:.1%}, {down:.1%}")
        rows.append([*row, f"{answer.sure:.0%}"])
    print_table(
        "Where the two ends are: the share of the picture's width from the left, and of its height "
        "from the top",
        ["picture", "one end", "the other", "sure"], rows,
    )  # fmt: skip
    say("sure: how much of all that the network gives to the pixels goes to those around the two.")
    if any(answer.sure < SURE for answer in answers):
        say(
            f"Below {SURE:.0%} do not believe it: the picture shows no line, several lines, or one "
            "unlike those that the network was trained on."
        )
    several = [one_line(answer.name) for answer in answers if answer.rival > RIVAL]
    if several:
        say(f"More than one line? A third place looks like an end too: {', '.join(several)}.")
    own_figure(run, answers[:DRAWN])
    which = "your pictures" if len(answers) <= DRAWN else f"the first {DRAWN} of your pictures"
    return f"Open seen.png: {which}, and the ends found."


def own_figure(run: Run, answers: Sequence[Answer]) -> None:
    """Saves each picture with the ends found, under its name and how sure they are."""
    columns = min(4, len(answers))
    rows = -(-len(answers) // columns)
    title = "The ends found in your pictures"
    figure, panels = new_figure(title, rows, columns, width=3.2, height=3.2)
    for panel in panels:
        panel.set_axis_off()
    for panel, answer in zip(panels, answers, strict=False):
        panel.set_axis_on()  # a frame, without which a white picture would run into the page
        panel.set(xticks=[], yticks=[])
        panel.imshow(answer.colours)
        for (x, y), colour in zip(answer.ends.tolist(), COLOURS[:2], strict=True):
            panel.scatter(x, y, s=110, marker="o", facecolors="none", edgecolors=colour,
                          linewidths=2.5, clip_on=False)  # fmt: skip
        panel.set_title(f"{drawable(answer.name)}\n{answer.sure:.0%} sure", fontsize=9)
    save_figure(figure, run.file("seen.png"))
