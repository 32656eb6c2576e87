"""Document 1's figures and tables: the lines, and the final run of `line_regression.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform
from torch import Tensor

from common.figures import (
    COLOURS,
    TRAINING,
    UNSEEN,
    draw_curves,
    draw_histogram,
    image_grid,
    legend_below,
    new_figure,
    save_figure,
    use_log_scale,
)
from common.metrics import share_of
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say
from reports.line_regression_claims import CLAIMS as CLAIMS
from reports.line_regression_scores import final_scores

if TYPE_CHECKING:
    from line_regression import Lines

DOCUMENT_EPOCHS = 500
TOLERANCES = (1, 2, 5, 10)  # pixels
# Of networks compared in one panel.
STYLES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (1, 3)), (0, (3, 1, 1, 1, 1, 1)))
PALETTE = tuple(COLOURS[place] for place in (0, 4, 3, 1, 7, 2, 5))


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
        annotate=mark_ends(size, example.ends),
    )  # fmt: skip
    side = training.images.shape[-1]
    images, ends = next(iter(training.batches(run.options.batch_size, unit=side)))
    shapes = ["×".join(map(str, tensor.shape)) for tensor in (images, ends)]
    say(
        f"A batch for the network has images {shapes[0]} (images × channels × height × width) and "
        f"ends {shapes[1]}, as fractions of the image's side."
    )
    image_grid(
        training.images[:15], run.file("samples.png"), columns=5,
        title="Training lines: the left end is the start", annotate=mark_ends(side, training.ends),
    )  # fmt: skip


def mark_ends(
    side: int, truth: Tensor, found: Tensor | None = None
) -> Callable[[Axes, int, Transform], None]:
    """For `image_grid`: marks around the true ends (N×4, pixels), crosses at those found.

    Images are `side` pixels wide. What was found far outside, or is NaN, gets no cross.
    """
    margin = 0.1 * side

    def annotate(axes: Axes, index: int, place: Transform) -> None:
        for number, (name, colour, outline, cross) in enumerate(
            (("start", COLOURS[0], "o", "x"), ("end", COLOURS[1], "s", "+"))
        ):
            x, y = truth[index].view(2, 2)[number].tolist()
            axes.scatter(
                x, y, s=70, marker=outline, facecolors="none", edgecolors=colour, linewidths=1.5,
                clip_on=False, label=f"true {name}", transform=place,
            )  # fmt: skip
            if found is None:
                continue
            x, y = found[index].view(2, 2)[number].tolist()
            if -margin <= min(x, y) <= max(x, y) <= side - 1 + margin:
                axes.scatter(
                    x, y, s=55, marker=cross, color=colour, clip_on=False, label=f"{name} found",
                    transform=place,
                )  # fmt: skip
        if index == 0:
            assert isinstance(axes.figure, Figure)
            legend_below(axes.figure, axes)

    return annotate


# The final run


def final_run(
    run: Run, training: Lines, found_training: Tensor, unseen: Lines, found: Tensor
) -> None:
    """Prints the scores, and draws learning curves, errors, and the best and worst lines.

    The ends found are in pixels, N×4 for the training and M×4 for the unseen lines.
    """
    run.metrics |= final_scores(training, found_training, unseen, found)
    reading = {"sum": "summed", "mean": "averaged"}[run.options.loss]
    for part in ("train", "unseen"):
        share = number(run, f"{part}_coordinates_within_2")
        run.metrics[f"{part}_{reading}_{run.options.lines}_within_2"] = share
    print_scores(run)
    learning_curves(run.history, run)
    figure, (axes,) = new_figure("How far off is a coordinate, on training and on unseen lines?")
    errors = {
        "training lines": (found_training - training.ends).abs(),
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
        title="Unseen lines: the best answers first, the worst last",
        annotate=mark_ends(unseen.images.shape[-1], unseen.ends[shown], found[shown]),
    )  # fmt: skip


def print_scores(run: Run) -> None:
    """Prints the final scores of training and unseen lines, and of two answers without learning."""
    answers = {
        "network": {"train": "training", "unseen": "unseen"},
        "always the mean": {"mean": "unseen"},
        "outermost pixels": {"outermost": "unseen"},
    }
    rows = []
    for answer, parts in answers.items():
        for part, lines in parts.items():
            for found in ("coordinates", "points", "lines"):
                names = [f"{part}_{found}_within_{pixels}" for pixels in TOLERANCES]
                shares = [f"{number(run, name):.1%}" for name in names]
                rows.append([answer, lines, found, *shares])
    print_table(
        "The final run: found within 1 to 10 px. A point has two coordinates, a line four",
        ["answer", "tested on", "counted", *(f"{pixels} px" for pixels in TOLERANCES)], rows,
    )  # fmt: skip
    say(
        "The document reports more than 94% right, but not within how many pixels. It says "
        "(22, 22) need not be wrong for (20, 20): so its 94% is tested with 2 px. always the "
        "mean: of the training ends, whatever the image shows. outermost pixels: the first and the "
        "last lit pixel along the line's longer axis, the exact answer without learning."
    )
    for part, name in (("train", "Training"), ("unseen", "Unseen")):
        say(
            f"{name} lines: the median error of a coordinate is "
            f"{number(run, f'{part}_median_error'):.2f} px, and 94% of the coordinates (the "
            f"document's figure) are within {number(run, f'{part}_error_at_94_percent'):.1f} px."
        )


def number(run: Run, name: str) -> float:
    """A metric of the run that is one number."""
    value = run.metrics[name]
    assert isinstance(value, float)
    return value


def learning_curves(history: Sequence[Row], run: Run) -> None:
    """Saves the loss and the coordinates found by epoch, of training and unseen lines."""
    figure, panels = new_figure(
        "How far are unseen lines behind training lines? Loss and coordinates found",
        1, 3, width=4.8,
    )  # fmt: skip
    loss = {"train_loss": "training lines (mean during the epoch)",
            "unseen_loss": "unseen lines (after the epoch)"}  # fmt: skip
    unit = {"sum": "squared error of a line's four numbers",
            "mean": "mean squared error of a number"}[run.options.loss]  # fmt: skip
    draw_curves(panels[0], history, loss, y_label=f"loss ({unit})")
    use_log_scale(panels[0])
    panels[0].legend(loc="lower left", fontsize=8)
    for panel, pixels in zip(panels[1:], (10, 2), strict=True):
        columns = {
            f"{part}_coordinates_within_{pixels}": f"{name} lines"
            for part, name in (("train", "training"), ("unseen", "unseen"))
        }
        draw_curves(panel, history, columns, y_label=f"coordinates within {pixels} px (%)",
                    percent=True)  # fmt: skip
        panel.set_ylim(-3, 103)
        panel.legend(loc="upper left")
    save_figure(figure, run.file("learning_curves.png"))


def ending(run: Run, found: Tensor, unseen: Lines) -> str:
    """How many unseen lines were found, the worst, and what to run next: the closing sentences.

    The ends `found` (N×4) are in pixels.
    """
    count = len(unseen.ends)
    errors = (found - unseen.ends).abs()
    largest, order = errors.amax(1).sort()
    lines = {pixels: int((largest <= pixels).sum()) for pixels in (2, 10)}
    shares = {pixels: share_of(errors <= pixels) for pixels in (2, 10)}
    worst = unseen.ends[order[-5:]]
    small = run.metrics["question_lines_exact"]
    assert isinstance(small, list)
    return (
        f"Your network found {lines[10]:,} of {count:,} unseen lines ({lines[10] / count:.1%}) "
        f"with all four coordinates within 10 px, and {lines[2]:,} within 2 px. Of all "
        f"coordinates, {shares[10]:.1%} are within 10 px and {shares[2]:.1%} within 2 px. On "
        f"its {len(worst)} worst lines it is off by {between(largest[-5:])} px; they are "
        f"{between(worst[:, 2] - worst[:, 0])} px wide and "
        f"{between((worst[:, 3] - worst[:, 1]).abs())} px high. "
        f"Of {len(small)} small networks that score each pixel, the worst found "
        f"{min(small):.1%} of the lines, exactly. "
        "Open better_question.png and predictions.png. "
        f"Next: python {next_command(run)}."
    )


def between(values: Tensor) -> str:
    """The range of some numbers in words."""
    low, high = f"{values.min():.0f}", f"{values.max():.0f}"
    return low if low == high else f"{low} to {high}"


def next_command(run: Run) -> str:
    """The command that a learner tries next, after a run with these options."""
    chapter = "gradient_demo.py, the next chapter: what gradients do"
    if run.options.epochs < DOCUMENT_EPOCHS:
        longer = f"line_regression.py --epochs {DOCUMENT_EPOCHS}"
        return f"{longer} (the document's number of epochs; 24 minutes), or {chapter}"
    if not run.options.ablation:
        return f"line_regression.py --ablation, which takes each repair away in turn, or {chapter}"
    return chapter
