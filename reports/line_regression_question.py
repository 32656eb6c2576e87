"""Document 1's better question: the network that scores each pixel, beside the final run's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.figures import image_grid, new_figure, save_figure
from common.layers import count_multiplications, count_parameters
from common.metrics import rows_within
from common.runs import Run
from common.terminal import print_table, say
from common.training import predict
from reports.line_regression import mark_ends
from reports.line_regression_scores import line_scores

if TYPE_CHECKING:
    from line_regression import Lines

SHOWN = 5  # lines in the picture: the first unseen ones
WINDOW = 7  # pixels around an end whose scores are shown
PIXELS = (2, 10)  # tolerances in the table
DIVERGING = "PuOr_r"  # orange above zero, purple below; colour-blind readers can tell them apart
Results = Sequence[tuple[nn.Module, Tensor]]  # for each seed the network, and the ends it found


def compare(run: Run, document: nn.Module, found: Tensor, results: Results, unseen: Lines) -> None:
    """Prints, draws and measures the two questions on the same unseen lines.

    `found` (N×4, pixels) are the ends by the `document`'s network, which answers with four numbers;
    `results` has those of the networks that score each pixel.
    """
    first, ends_of_first = results[0]
    by_seed = [line_scores("question", ends.float(), unseen.ends) for _, ends in results]
    for name in by_seed[0]:
        run.metrics[name] = [scores[name] for scores in by_seed]
    image = unseen.images[:1].float().to(run.device)
    run.metrics |= {
        "question_lines_exact": [exact(ends, unseen.ends) for _, ends in results],
        "unseen_lines_exact": exact(found, unseen.ends),
        "question_parameters": count_parameters(first),
        "network_parameters": count_parameters(document),
        "question_multiplications": count_multiplications(first, image),
        "network_multiplications": count_multiplications(document, image),
    }
    print_comparison(run, len(results))
    picture(run, found, ends_of_first, unseen)
    inside(run, first, unseen)


def exact(found: Tensor, ends: Tensor) -> float:
    """Share of the lines (N×4, pixels) with all four numbers right, rounded to whole pixels."""
    return rows_within(found.round(), ends, 0)


def mean_of(run: Run, name: str) -> float:
    """A metric's mean over the seeds."""
    values = run.metrics[name]
    return statistics.mean(values) if isinstance(values, Sequence) else values


def print_comparison(run: Run, seeds: int) -> None:
    """Prints size and scores of both networks, and what they differ in."""
    rows = []
    for question, part, size in (
        ("four numbers", "unseen", "network"),
        ("each pixel", "question", "question"),
    ):
        names = ["lines_exact", *(f"lines_within_{pixels}" for pixels in PIXELS)]
        shares = [f"{mean_of(run, f'{part}_{name}'):.1%}" for name in names]
        sizes = [f"{mean_of(run, f'{size}_parameters'):,.0f}",
                 f"{mean_of(run, f'{size}_multiplications'):,.0f}"]  # fmt: skip
        rows.append([question, *sizes, *shares])
    tolerances = [f"{pixels} px" for pixels in PIXELS]
    print_table(
        "A better question: unseen lines with both ends exact to the pixel, or within 2 and 10 px",
        ["asked for", "parameters", "multiplications", "exact", *tolerances], rows,
    )  # fmt: skip
    worst = min(run.metrics["question_lines_exact"])  # type: ignore[arg-type]
    say(
        "four numbers: our form of the document's network, asked for the line's ends. each pixel: "
        f"asked, are you an end? (mean of {seeds} seeds; the worst has {worst:.1%} of the lines "
        "exact). Where it is better, it is so not by its size, which is far smaller, but by its "
        "question, with a loss and an optimizer that fit it. Whether a pixel is an end shows in "
        "its 8 neighbours: an end has one that is lit, any other pixel of a line has two. So each "
        "pixel of each image is an example for the same few parameters. A network asked for four "
        "numbers must learn anew for each place of the image what they are there."
    )


# The pictures


def picture(run: Run, found: Tensor, better: Tensor, unseen: Lines) -> None:
    """Saves the answers of both networks (N×4, pixels) to the first unseen lines."""
    count = min(SHOWN, len(unseen.ends))
    truth = unseen.ends[:count].repeat(2, 1)
    answers = torch.cat([found[:count], better[:count].float()])
    side = unseen.images.shape[-1]
    captions = []
    for answer, ends in zip(answers, truth, strict=True):
        error = (answer - ends).abs().max().item()
        captions.append("exact" if error == 0 else f"off by {error:.1f} px")
    names = []
    for asked, part, size in (("Where are the two ends?", "unseen", "network"),
                              ("Each pixel: are you an end?", "question", "question")):  # fmt: skip
        parameters = mean_of(run, f"{size}_parameters")
        share = mean_of(run, f"{part}_lines_within_2")
        names.append(f"{asked}\n{parameters:,.0f} parameters\n{share:.1%} within 2 px")
    image_grid(
        unseen.images[:count].repeat(2, 1, 1, 1), run.file("better_question.png"), columns=count,
        captions=captions, row_names=names, annotate=mark_ends(side, truth, answers),
        title=f"Two questions about the same lines. Left: which share of {len(unseen.ends):,} "
        "unseen lines has both ends within 2 px",
    )  # fmt: skip


def inside(run: Run, model: nn.Module, unseen: Lines) -> None:
    """Saves the network's eight kernels, and its scores for the first unseen line."""
    scores = predict(model, unseen.first(1).batches(1, unit=1))[0][0, 0]
    figure, panels = new_figure(
        "The network's eight kernels and their weights. Below, what it says about a line",
        3, 4, width=2.9, height=2.8,
    )  # fmt: skip
    draw_kernels(figure, panels[:8], model)
    whole, map_, *windows = panels[8:]
    whole.imshow(unseen.images[0, 0].numpy(), cmap="gray")
    whole.set_title("the line", fontsize=9)
    low, high = float(scores.min()), float(scores.max())
    shown = map_.imshow(scores.numpy(), cmap="cividis", vmin=low, vmax=high)
    map_.set_title("the score of each pixel", fontsize=9)
    for panel, name, place in zip(windows, ("left", "right"), unseen.ends[0].view(2, 2).tolist(),
                                  strict=True):  # fmt: skip
        draw_window(panel, scores, unseen.images[0, 0], place, (low, high))
        panel.set_title(f"scores around the {name} end", fontsize=9)
    figure.colorbar(shown, ax=panels[8:], label="score")
    for panel in panels:
        panel.set(xticks=[], yticks=[])
    save_figure(figure, run.file("end_scores.png"))


def draw_kernels(figure: Figure, panels: Sequence[Axes], model: nn.Module) -> None:
    """Draws the weights of the 3×3 kernels on one scale, each under its weight in the score."""
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    kernels = convolutions[0].weight.detach().cpu()[:, 0]  # 8×3×3
    weights = convolutions[1].weight.detach().cpu().flatten()  # 8
    most = float(kernels.abs().max())
    for panel, kernel, weight in zip(panels, kernels, weights.tolist(), strict=True):
        shown = panel.imshow(kernel.numpy(), cmap=DIVERGING, vmin=-most, vmax=most)
        panel.set_title(f"counts {weight:+.2f} in the score".replace("-", "−"), fontsize=9)
    figure.colorbar(shown, ax=list(panels), label="weight")


def draw_window(
    axes: Axes, scores: Tensor, image: Tensor, place: Sequence[int], limits: tuple[float, float]
) -> None:
    """Draws the scores (S×S) around a pixel (x, y), each as a number; a frame where it is lit."""
    size = scores.shape[-1]
    left, top = (min(max(centre - WINDOW // 2, 0), size - WINDOW) for centre in place)
    part = scores[top : top + WINDOW, left : left + WINDOW]
    axes.imshow(part.numpy(), cmap="cividis", vmin=limits[0], vmax=limits[1])
    middle = sum(limits) / 2
    for y in range(WINDOW):
        for x in range(WINDOW):
            score = float(part[y, x])
            axes.text(x, y, f"{score:.0f}".replace("-", "−"), ha="center", va="center", fontsize=7,
                      color="black" if score > middle else "white")  # fmt: skip
            if image[top + y, left + x]:
                axes.plot(x, y, "s", markersize=20, markerfacecolor="none", markeredgecolor="white")
