"""Document 1's claims, figures and tables, from what `line_regression.py` measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.bounds import about, above, at_least, at_most, below
from common.claims import Claim
from common.figures import (
    COLOURS,
    TRAINING,
    UNSEEN,
    draw_curves,
    draw_histogram,
    image_grid,
    legend_below,
    mark_epochs,
    new_figure,
    save_figure,
    share_y_limits,
    use_log_scale,
)
from common.layers import layer_table
from common.metrics import rows_within
from common.rows import Row, write_rows
from common.runs import Run
from common.terminal import print_table, say

if TYPE_CHECKING:
    from line_regression import Lines

DOCUMENT_EPOCHS = 500
TOLERANCES = (1, 2, 5, 10)  # pixels
# Three seeds of the same network differ by so much after as many epochs: less shows nothing.
SEED_SPREAD = 0.05
STYLES = ("-", "--", ":")

# The options of the runs that test the claims: on the first draft and the learning rates, on the
# final run, and on what each repair is worth.
DOCUMENT = {"image_size": 128, "limit": None, "precision": "fp32"}
FINAL_RUN = {**DOCUMENT, "epochs": DOCUMENT_EPOCHS, "batch_size": 64, "lr": 0.001}
ABLATION = {**DOCUMENT, "ablation": True}

CLAIMS = (
    Claim("1.4a", "first draft, 100 lines, 1 epoch: unseen lines within 10 px", "very bad",
          "draft_100_unseen_lines_within_10", below(0.05), "{:.1%}", DOCUMENT),
    Claim("1.4b", "first draft, 1,000 lines: first update with weights that are NaN",
          "after a few rounds", "draft_1000_nan_at_update", at_most(80), "{:.0f}", DOCUMENT),
    Claim("1.4c", "growth of its largest weight per update, in the three updates before",
          "exponential", "draft_1000_growth", at_least(2), "{:.2g}×", DOCUMENT),
    Claim("1.8a", "learning rate 0.1, after 5 epochs: share of outputs at 0 or 1", "either 1 or 0",
          "saturated_lr_0.1", at_least(0.5), "{:.1%}", DOCUMENT),
    Claim("1.8b", "learning rate 0.01, after 5 epochs: share of outputs at 0 or 1",
          "the same, but later", "saturated_lr_0.01", at_least(0.5), "{:.1%}", DOCUMENT),
    Claim("1.8c", "learning rate 0.001, after 5 epochs: share of outputs at 0 or 1",
          "not really 1 or 0", "saturated_lr_0.001", at_most(0.05), "{:.1%}", DOCUMENT),
    Claim("1.8d", "learning rate 0.001: share of batches whose mean output rose",
          "rise after one batch, fall after the next",
          "rising_lr_0.001", about(0.5, 0.4), "{:.0%}", DOCUMENT),
    Claim("1.9a", "final run, training lines: coordinates within 2 px", "> 94%",
          "train_coordinates_within_2", above(0.94), "{:.1%}", FINAL_RUN),
    Claim("1.9b", "final run, unseen lines: coordinates within 2 px", "> 94%",
          "unseen_coordinates_within_2", above(0.94), "{:.1%}", FINAL_RUN),
    Claim("1.10a", "no activations: relative difference from one linear map",
          "one big linear function",
          "draft_nonlinearity", below(1e-4), "{:.1e}", DOCUMENT),
    Claim("1.10b", "no activations: change of the unseen coordinates within 10 px",
          "cannot show a non-linear relation",
          "ablation_no_relu", below(-SEED_SPREAD), "{:+.1f} points", ABLATION),
    Claim("1.10c", "ends in any order: change of the unseen coordinates within 10 px",
          "ordered ends may train faster",
          "ablation_ends_in_any_order", below(-SEED_SPREAD), "{:+.1f} points", ABLATION),
    Claim("1.10d", "dropout: change of the unseen coordinates within 10 px", "may hurt learning",
          "ablation_dropout", below(-SEED_SPREAD), "{:+.1f} points", ABLATION),
)  # fmt: skip


# The data


def examples(run: Run, example: Lines, training: Lines) -> None:
    """Prints and draws one small example (the document's figure 2); draws some training lines."""
    x0, y0, x1, y1 = example.ends[0].tolist()
    size = example.images.shape[-1]
    say(
        f"An example of {size}×{size} pixels: a line from (x {x0}, y {y0}) to (x {x1}, y {y1}). "
        "x counts from the left, y from the top."
    )
    for row in example.images[0, 0].tolist():
        print("  " + " ".join(map(str, row)))
    image_grid(
        example.images, run.file("example.png"), columns=1, width=4,
        title=f"A line from (x {x0}, y {y0}) to (x {x1}, y {y1})",
        annotate=mark_ends(example.ends),
    )  # fmt: skip
    images, ends = next(iter(training.batches(64, unit=training.images.shape[-1])))
    shapes = ["×".join(map(str, tensor.shape)) for tensor in (images, ends)]
    say(
        f"A batch for the network has images {shapes[0]} (images × channels × height × width) and "
        f"ends {shapes[1]}, as fractions of the image's side."
    )
    image_grid(
        training.images[:15], run.file("samples.png"), columns=5,
        title="Training lines: the left end is the start", annotate=mark_ends(training.ends),
    )  # fmt: skip


def mark_ends(truth: Tensor, found: Tensor | None = None) -> Callable[[Axes, int], None]:
    """For `image_grid`: marks around the true ends (N×4, pixels), crosses at those found."""

    def annotate(axes: Axes, index: int) -> None:
        # A frame, without which a line at the edge would run into the white page.
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("gray")
        for place, (name, colour, outline, cross) in enumerate(
            (("start", COLOURS[0], "o", "x"), ("end", COLOURS[1], "s", "+"))
        ):
            x, y = truth[index].view(2, 2)[place].tolist()
            axes.scatter(
                x, y, s=70, marker=outline, facecolors="none", edgecolors=colour, linewidths=1.5,
                clip_on=False, label=f"true {name}",
            )  # fmt: skip
            if found is not None:
                x, y = found[index].view(2, 2)[place].tolist()
                axes.scatter(
                    x, y, s=55, marker=cross, color=colour, clip_on=False, label=f"{name} found"
                )
        if index == 0:
            assert isinstance(axes.figure, Figure)
            legend_below(axes.figure, axes)

    return annotate


# The first draft, and the learning rates: small trainings, watched update by update


class Updates:
    """What every update of a training did; `train_one_epoch` calls `note` as its `after_step`.

    A row is one update. Before the update: its loss, the largest of its batch's outputs, the mean
    of their sigmoids, and the share of sigmoids that are 0.000 or 1.000 in three decimals. After
    the update: the largest weight.
    """

    def __init__(self, model: nn.Module, per_epoch: int) -> None:
        self.model, self.per_epoch = model, per_epoch
        self.rows: list[Row] = []

    def note(self, outputs: Tensor, loss: Tensor) -> None:
        weights = [weights.detach().abs().max() for weights in self.model.parameters()]
        squashed = outputs.sigmoid()
        saturated = (squashed < 0.0005) | (squashed > 0.9995)
        self.rows.append(
            {
                "update": len(self.rows) + 1,
                "loss": loss.item(),
                "largest_prediction": outputs.abs().max().item(),
                "largest_weight": torch.stack(weights).max().item(),  # NaN if one of them is
                "saturated": saturated.double().mean().item(),
                "mean": squashed.mean().item(),
            }
        )


def nonlinearity(model: nn.Module, a: Tensor, b: Tensor) -> float:
    """The relative difference of f(a + b) and f(a) + f(b) − f(0); 0 for one linear map."""
    with torch.inference_mode():
        together = model(a + b)
        apart = model(a) + model(b) - model(torch.zeros_like(a))
    return float((together - apart).abs().max() / together.abs().max())


def first_draft(run: Run, model: nn.Module, image: Tensor, found: Tensor, ends: Tensor) -> None:
    """Prints the first draft's layers and what it finds after its short training on 100 lines.

    `image` (1×1×S×S) goes through the layers, to measure their sizes and whether they are linear.
    """
    image = image.float().to(run.device)
    header = ["layer", "output", "parameters"]
    print_table("The first draft: the size after each layer", header, layer_table(model, image))
    distance = nonlinearity(model, image, image.flip(-2))
    share = rows_within(found, ends, 10)
    say(
        "The first draft has no activations. Together its layers are one linear map f, so that "
        "f(a + b) = f(a) + f(b) − f(0). Measured with two images a and b, the relative difference "
        f"of the two sides is {distance:.0e}."
    )
    say(
        f"After one epoch on 100 lines, {share:.1%} of the unseen lines are found: all four "
        "coordinates within 10 px. The median error of a coordinate is "
        f"{(found - ends).abs().median():.0f} px."
    )
    run.metrics |= {
        "draft_nonlinearity": distance,
        "draft_100_unseen_lines_within_10": share,
    }


def explosion(run: Run, updates: Updates, lines: int) -> None:
    """Prints, draws and saves how the first draft's predictions and weights grow until NaN."""
    columns = ("update", "loss", "largest_prediction", "largest_weight")
    rows = [{name: row[name] for name in columns} for row in updates.rows]
    write_rows(run.file("first_draft.csv"), rows)
    finite = [row for row in rows if math.isfinite(row["largest_weight"])]
    last = len(finite) + 1
    exploded = len(finite) < len(rows)
    if exploded:
        run.metrics["draft_1000_nan_at_update"] = last
        print_table(
            f"The first draft on {lines:,} lines, update by update",
            [name.replace("_", " ") for name in columns],
            [[int(row["update"]), *list(row.values())[1:]] for row in rows[:last]],
        )
        say(
            f"From update {last} on, its weights are not finite: the training has exploded. The "
            "networks below have the document's repairs: ends as fractions of the image's side, "
            "ReLU, two convolutions, outputs between 0 and 1."
        )
        title = f"The first draft explodes: no finite weights from update {last} on"
    else:
        say(f"On {lines:,} lines, its weights are still finite after {len(rows)} updates.")
        title = f"The first draft: its weights are still finite after {len(rows)} updates"
    if len(finite) > 3:
        growth = finite[-1]["largest_weight"] / finite[-4]["largest_weight"]
        run.metrics["draft_1000_growth"] = growth ** (1 / 3)
    figure, (axes,) = new_figure(title)
    names = {"largest_prediction": "largest prediction (px)", "largest_weight": "largest weight"}
    for (name, label), style in zip(names.items(), STYLES, strict=False):
        steps = [row["update"] for row in finite]
        axes.plot(steps, [row[name] for row in finite], f"o{style}", label=label)
    if exploded:
        axes.axvline(last, color="black", linestyle=":", label="no finite weights from here on")
    axes.set_yscale("log")
    mark_epochs(axes)
    axes.set(xlabel="update", ylabel=f"magnitude, training on {lines:,} lines")
    axes.legend()
    save_figure(figure, run.file("explosion.png"))


def learning_rates(run: Run, watched: Mapping[tuple[str, float], Updates]) -> None:
    """Prints and draws which learning rates drive the outputs to 0 or 1, for each loss."""
    table: list[list[object]] = []
    for (loss, rate), updates in watched.items():
        rows = updates.rows
        rose = sum(b["mean"] > a["mean"] for a, b in pairwise(rows)) / (len(rows) - 1)
        ends_of_epochs = rows[updates.per_epoch - 1 :: updates.per_epoch]
        shares = [f"{row['saturated']:.0%}" for row in ends_of_epochs]
        table.append([loss, rate, *shares, rows[-1]["largest_prediction"], f"{rose:.0%}"])
        if loss == "summed":
            run.metrics[f"saturated_lr_{rate}"] = rows[-1]["saturated"]
            run.metrics[f"rising_lr_{rate}"] = rose
    epochs = [str(number) for number in range(1, len(table[0]) - 3)]
    print_table(
        "Which learning rates drive the outputs to 0 or 1 (in three decimals)? The share of such "
        f"outputs after epochs 1 to {epochs[-1]}",
        ["squared errors", "rate", *epochs, "largest", "rose"],
        table,
    )
    say(
        "largest: the largest number before the sigmoid, in the last batch. rose: the share of "
        "batches whose mean output is above that of the batch before. The document does not say "
        "how the squared errors of a batch are combined: they are summed, averaged, or averaged "
        "with the errors in pixels (px²). The final run sums them."
    )
    learning_rates_figure(run, watched)


def learning_rates_figure(run: Run, watched: Mapping[tuple[str, float], Updates]) -> None:
    """Saves a column of panels for each loss: outputs at 0 or 1, and the largest number before the
    sigmoid, by epoch."""
    losses = list(dict.fromkeys(loss for loss, _ in watched))
    figure, panels = new_figure(
        "Which learning rates drive the outputs to 0 or 1?", 2, len(losses), width=4.6, height=3
    )
    upper, lower = panels[: len(losses)], panels[len(losses) :]
    for column, loss in enumerate(losses):
        by_rate = {rate: updates for (name, rate), updates in watched.items() if name == loss}
        draw_rates(upper[column], by_rate, "saturated", scale=100)
        draw_rates(lower[column], by_rate, "largest_prediction")
        upper[column].set(title=f"squared errors {loss}", ylabel="outputs at 0 or 1 (%)",
                          ylim=(-4, 104))  # fmt: skip
        lower[column].set(xlabel="epoch", ylabel="largest before the sigmoid", yscale="log")
    share_y_limits(lower)
    save_figure(figure, run.file("learning_rates.png"))


def draw_rates(
    axes: Axes, by_rate: Mapping[float, Updates], name: str, scale: float = 1
) -> None:
    """Draws one number of the updates by epoch, a curve for each learning rate.

    Rates with the same numbers share a curve, and its label says so.
    """
    curves: dict[tuple[float, ...], list[float]] = {}
    for rate, updates in by_rate.items():
        values = tuple(scale * row[name] for row in updates.rows)
        curves.setdefault(values, []).append(rate)
    order = list(by_rate)
    for values, rates in curves.items():
        place = order.index(rates[0])
        epochs = [number / by_rate[rates[0]].per_epoch for number in range(1, len(values) + 1)]
        label = f"rate {rates[0]}"
        if len(rates) > 1:
            label = f"rates {', '.join(map(str, rates))} (same curve)"
        axes.plot(epochs, values, STYLES[place], color=COLOURS[place], linewidth=2, label=label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


# The final run


def final_run(run: Run, training_errors: Tensor, found: Tensor, unseen: Lines) -> None:
    """Prints the scores, and draws learning curves, errors, and the best and worst lines.

    `training_errors` (N×4) are in pixels, as are the ends `found` (M×4) for the unseen lines.
    """
    print_scores(run)
    learning_curves(run.history, run)
    figure, (axes,) = new_figure("How far off is a coordinate, on training and on unseen lines?")
    errors = {
        "training lines": training_errors.abs(),
        "unseen lines": (found - unseen.ends).abs(),
    }
    draw_histogram(axes, errors, bins=40, limits=(0, 20), colours=(TRAINING, UNSEEN))
    axes.set(xlabel="error of a coordinate (px; the last bar holds all above)")
    axes.legend()
    save_figure(figure, run.file("errors.png"))
    largest, order = (found - unseen.ends).abs().amax(1).sort()
    shown = torch.cat([order[:5], order[5:][-5:]])
    captions = [f"off by {error:.1f} px" for error in torch.cat([largest[:5], largest[5:][-5:]])]
    image_grid(
        unseen.images[shown], run.file("predictions.png"), columns=5, captions=captions,
        title="Unseen lines: the best five answers above, the worst five below",
        annotate=mark_ends(unseen.ends[shown], found[shown]),
    )  # fmt: skip


def print_scores(run: Run) -> None:
    """Prints the final scores of training and unseen lines side by side."""
    scores = {name: value for name, value in run.metrics.items() if isinstance(value, float)}
    print_table(
        "The final run: found within 1 to 10 px (a line: all its four coordinates)",
        ["within", "coordinates, training", "coordinates, unseen", "lines, training",
         "lines, unseen"],
        [
            [f"{pixels} px", *(
                f"{scores[f'{part}_{what}_within_{pixels}']:.1%}"
                for what in ("coordinates", "lines") for part in ("train", "unseen")
            )]
            for pixels in TOLERANCES
        ],
    )  # fmt: skip
    for part, name in (("train", "Training"), ("unseen", "Unseen")):
        say(
            f"{name} lines: the median error of a coordinate is "
            f"{scores[f'{part}_median_error']:.2f} px, and 94% of the coordinates (the document's "
            f"figure) are within {scores[f'{part}_error_at_94_percent']:.1f} px."
        )


def learning_curves(history: Sequence[Row], run: Run) -> None:
    """Saves the squared error and the coordinates found by epoch, training and unseen lines."""
    figure, panels = new_figure(
        "How far are unseen lines behind training lines? Loss and coordinates found",
        1, 3, width=4.8,
    )  # fmt: skip
    parts = {"train": "training lines", "unseen": "unseen lines"}
    draw_curves(panels[0], history, {f"{part}_squared_error": name for part, name in parts.items()},
                y_label="loss (mean squared error, px²)")  # fmt: skip
    use_log_scale(panels[0])
    for panel, pixels in zip(panels[1:], (10, 2), strict=True):
        columns = {f"{part}_coordinates_within_{pixels}": name for part, name in parts.items()}
        draw_curves(panel, history, columns, y_label=f"coordinates within {pixels} px (%)",
                    percent=True)  # fmt: skip
        panel.set_ylim(-3, 103)
    save_figure(figure, run.file("learning_curves.png"))


def ending(run: Run, found: Tensor, unseen: Lines) -> str:
    """How many unseen lines were found, the worst, and what to run next: the closing sentences.

    The ends `found` (N×4) are in pixels.
    """
    count = len(unseen.ends)
    errors = (found - unseen.ends).abs()
    largest, order = errors.amax(1).sort()
    lines = {pixels: int((largest <= pixels).sum()) for pixels in (2, 10)}
    shares = {pixels: (errors <= pixels).double().mean().item() for pixels in (2, 10)}
    worst = unseen.ends[order[-5:]]
    return (
        f"Your network found {lines[10]:,} of {count:,} unseen lines ({lines[10] / count:.1%}) "
        f"with all four coordinates within 10 px, and {lines[2]:,} within 2 px. Of all "
        f"coordinates, {shares[10]:.1%} are within 10 px and {shares[2]:.1%} within 2 px. The "
        f"{len(worst)} worst lines are off by {between(largest[-5:])} px; they are "
        f"{between(worst[:, 2] - worst[:, 0])} px wide and "
        f"{between((worst[:, 3] - worst[:, 1]).abs())} px high. Open predictions.png. "
        f"Next: python {next_command(run)}."
    )


def between(values: Tensor) -> str:
    """The range of some numbers in words."""
    low, high = f"{values.min():.0f}", f"{values.max():.0f}"
    return low if low == high else f"{low} to {high}"


def next_command(run: Run) -> str:
    """The command that a learner tries next, after a run with these options."""
    if run.options.epochs < DOCUMENT_EPOCHS:
        return f"line_regression.py --epochs {DOCUMENT_EPOCHS} (the document's number of epochs)"
    if not run.options.ablation:
        return "line_regression.py --ablation, which takes each repair away in turn"
    return "mnist_cnn.py, for networks that tell digits apart"


# What each repair is worth


def ablation(run: Run, histories: Mapping[str, Sequence[Row]]) -> None:
    """Prints and draws what the network finds with all repairs (the first of `histories`), and
    without each one."""
    score = "unseen_coordinates_within_10"
    columns = ("train_coordinates_within_10", score, "unseen_coordinates_within_2")
    rows: list[list[object]] = []
    for name, history in histories.items():
        last = history[-1]
        shares = [f"{last[column]:.1%}" for column in columns]
        rows.append([name, *shares, f"{last['unseen_median_error']:.1f} px"])
    epochs = max(len(history) for history in histories.values())
    print_table(
        f"What is each repair worth? Coordinates found after {epochs} epochs without it, within "
        "10 px or 2 px, and the median error of unseen lines",
        ["network", "training, 10 px", "unseen, 10 px", "unseen, 2 px", "median"],
        rows,
    )
    say(
        "Each network but the first lacks one repair. Ends in any order: either end of a line may "
        "come first; the nearer order is scored. Ends in pixels are out of reach, because the "
        "sigmoid keeps each output between 0 and 1."
    )
    figure, panels = new_figure(
        "What is each repair worth? Coordinates found within 10 px without it", 1, 2
    )
    for panel, part in zip(panels, ("train", "unseen"), strict=True):
        for place, (name, history) in enumerate(histories.items()):
            shares_by_epoch = [100 * row[f"{part}_coordinates_within_10"] for row in history]
            panel.plot(
                [row["epoch"] for row in history], shares_by_epoch, ("-", "--")[place % 2],
                color=COLOURS[place % len(COLOURS)], label=name,
            )  # fmt: skip
        mark_epochs(panel)
        panel.set(ylabel="coordinates within 10 px (%)")
        panel.set_title("training lines" if part == "train" else "unseen lines")
    share_y_limits(panels)
    legend_below(figure, panels[0])
    save_figure(figure, run.file("ablation.png"))
    full = next(iter(histories.values()))[-1][score]
    for name, history in histories.items():
        run.metrics["ablation_" + name.lower().replace(" ", "_")] = history[-1][score] - full
