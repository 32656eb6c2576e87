"""Document 1's first draft: what it answers, how it explodes, and which repair stops that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.optim import Optimizer

from common.figures import image_grid, legend_below, new_figure, save_figure
from common.layers import layer_table
from common.metrics import accuracy_within, rows_within, share_of
from common.rows import Row, write_rows
from common.runs import Run
from common.terminal import print_table, say
from common.training import predict
from reports.line_regression import PALETTE, STYLES, mark_ends

if TYPE_CHECKING:
    from line_regression import Lines

# What is changed in the first draft, by the name of the network that it becomes.
REPAIRS: dict[str, dict[str, Any]] = {
    "first draft": {},
    "ends as fractions": {"ends_in_pixels": False},
    "ReLU": {"relu": True},
    "two convolutions": {"channels": (4, 8)},
    "all three": {"ends_in_pixels": False, "relu": True, "channels": (4, 8)},
    "fractions at 0.1": {"ends_in_pixels": False, "lr": 0.1},
}
HIGHEST = 1e9  # of the figure: a network that explodes leaves it within a few updates


class Updates:
    """What every update of a training did; `train_one_epoch` calls `note` as its `after_step`.

    A row is one update. Before the update: its loss, the largest of its batch's outputs, the share
    of their sigmoids that are 0.000 or 1.000 in three decimals, how far the answers to different
    images spread (standard deviation), and the norm of the gradient. After the update: the largest
    weight, and the mean of the sigmoids of the outputs for the `watched` lines, always the same
    ones. One in the outputs is `unit` pixels.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, per_epoch: int, unit: int, watched: Lines
    ) -> None:
        self.model, self.per_epoch, self.unit = model, per_epoch, unit
        device = next(model.parameters()).device
        self.watched = watched.images.to(device).float()  # N×1×S×S
        self.rows: list[Row] = []
        self.gradient = torch.tensor(math.nan)
        # After the step the gradients are set to zero: the optimizer calls this before it.
        optimizer.register_step_pre_hook(self._note_gradient)

    def _note_gradient(self, *_: Any) -> None:
        gradients = [weights.grad for weights in self.model.parameters()]
        norms = [gradient.cpu().double().norm() for gradient in gradients if gradient is not None]
        self.gradient = torch.stack(norms).norm()

    def note(self, outputs: Tensor, loss: Tensor) -> None:
        weights = [weights.detach().abs().max() for weights in self.model.parameters()]
        squashed = outputs.sigmoid()
        saturated = (squashed < 0.0005) | (squashed > 0.9995)
        with torch.inference_mode():
            answers = self.model(self.watched).sigmoid()
        self.rows.append(
            {
                "update": len(self.rows) + 1,
                "loss": loss.item(),
                "largest_prediction": outputs.abs().max().item(),
                "gradient_norm": self.gradient.item(),
                "largest_weight": torch.stack(weights).max().item(),  # NaN if one of them is
                "saturated": share_of(saturated),
                "mean": answers.mean().item(),
                "spread": outputs.std(0, correction=0).mean().item(),
            }
        )

    @property
    def finite(self) -> list[Row]:
        """The updates until the weights are NaN or infinite."""
        finite = []
        for row in self.rows:
            if not math.isfinite(row["largest_weight"]):
                break
            finite.append(row)
        return finite


def layers(run: Run, model: nn.Module, lines: Lines) -> None:
    """Prints the first draft's layers, whose sizes a dummy image measures."""
    image = lines.images[:1].float().to(run.device)
    header = ["layer", "output", "parameters"]
    print_table("The first draft: the size after each layer", header, layer_table(model, image))


def nonlinearity(model: nn.Module, a: Tensor, b: Tensor) -> float:
    """The relative difference of f(a + b) and f(a) + f(b) − f(0); 0 for one linear map."""
    with torch.inference_mode():
        together = model(a + b)
        apart = model(a) + model(b) - model(torch.zeros_like(a))
    return float((together - apart).abs().max() / together.abs().max())


def answers(
    run: Run, short: nn.Module, long: nn.Module, training: Lines, more: Lines, unseen: Lines
) -> None:
    """What the draft finds after one epoch on the `training` lines, and after five on `more`.

    It is held against the answer that looks at no image: the mean of the training ends.
    """
    image = training.images[:1].float().to(run.device)
    distance = nonlinearity(short, image, image.flip(-2))
    say(
        "The first draft has no activations (functions such as ReLU between its layers). "
        "Together its layers are one linear map f, so that "
        "f(a + b) = f(a) + f(b) − f(0). Measured with two images a and b, the relative difference "
        f"of the two sides is {distance:.0e}."
    )
    mean = training.ends.double().mean(0).expand(len(unseen.ends), 4)
    found = predict(short, unseen.batches(500, unit=1))[0]
    medians, rows = [], []
    for name, ends in {"the first draft": found, "always the mean": mean}.items():
        medians.append((ends - unseen.ends).abs().median().item())
        shares = [accuracy_within(ends, unseen.ends, 10), rows_within(ends, unseen.ends, 10)]
        rows.append([name, *(f"{share:.1%}" for share in shares), f"{medians[-1]:.0f} px"])
    print_table(
        f"After one epoch on {len(training.ends)} lines: unseen coordinates and lines within 10 "
        "px, and the median error of a coordinate",
        ["answer", "coordinates", "lines", "median error"], rows,
    )  # fmt: skip
    say("Always the mean: the mean of the training ends, whatever the image shows.")
    run.metrics |= {
        "draft_nonlinearity": distance,
        "draft_100_unseen_lines_within_10": rows_within(found, unseen.ends, 10),
        "draft_100_median_error": medians[0],
        "draft_100_error_to_mean_answer": medians[0] / medians[1] if medians[1] else math.nan,
    }
    after_more = predict(long, unseen.first(5).batches(5, unit=1))[0]
    picture(run, len(training.ends), found[:5], len(more.ends), after_more, unseen)


def picture(
    run: Run, few: int, after_few: Tensor, more: int, after_more: Tensor, unseen: Lines
) -> None:
    """Draws the draft's answers to the first unseen lines (ends N×4), after training on few lines
    and on more: the document's figures 11 and 12."""
    found = torch.cat([after_few, after_more])
    count = len(after_few)
    truth = unseen.ends[:count].repeat(2, 1)
    side = unseen.images.shape[-1]
    captions = []
    for number, (ends, true) in enumerate(zip(found, truth, strict=True)):
        error = (ends - true).abs().max().item()
        lines = f"{few if number < count else more:,} lines"
        words = f"off by {error:.0f} px" if error < 1e4 else f"off by {error:.0e} px"
        captions.append(f"{lines}: {words if math.isfinite(error) else 'all four are NaN'}")
    image_grid(
        unseen.images[:count].repeat(2, 1, 1, 1), run.file("draft_answers.png"), columns=count,
        width=2.3, captions=captions, annotate=mark_ends(side, truth, found),
        title=f"The first draft's answers after {few:,} lines (above) and {more:,} (below)",
    )  # fmt: skip


def explosion(run: Run, repairs: Mapping[str, Updates], lines: Lines) -> None:
    """Prints, draws and saves how the draft explodes (the first of `repairs`), and what the others,
    with one repair or all, do instead."""
    saved = [{"network": name, **row} for name, updates in repairs.items() for row in updates.rows]
    write_rows(run.file("repairs.csv"), saved)
    draft = next(iter(repairs.values()))
    note_draft(run, draft)
    finite = len(draft.finite)
    if finite < len(draft.rows):
        columns = ("update", "loss", "largest_prediction", "gradient_norm", "largest_weight")
        print_table(
            f"The first draft on {len(lines.ends):,} lines, update by update",
            [name.replace("_", " ") for name in columns],
            [[int(row["update"]), *(row[name] for name in columns[1:])]
             for row in draft.rows[: finite + 1]],
        )  # fmt: skip
        say(
            f"From update {finite + 1} on, its weights are not finite (infinite, or NaN: not a "
            "number): the training has exploded."
        )
    else:
        say(f"The first draft: its weights are still finite after {finite} updates.")
    print_repairs(run, repairs, lines)
    draw_explosion(run, repairs)


def note_draft(run: Run, draft: Updates) -> None:
    """When the draft explodes (infinite: never), and how fast it grows before."""
    finite = draft.finite
    exploded = len(finite) < len(draft.rows)
    run.metrics["draft_1000_nan_at_update"] = len(finite) + 1 if exploded else math.inf
    steps = min(3, len(finite) - 1)
    if steps > 0:
        growth = finite[-1]["largest_weight"] / finite[-1 - steps]["largest_weight"]
        run.metrics["draft_1000_growth"] = growth ** (1 / steps)


def print_repairs(run: Run, repairs: Mapping[str, Updates], lines: Lines) -> None:
    """Prints what each network's updates came to."""
    rows: list[list[object]] = []
    for name, updates in repairs.items():
        finite, last = updates.finite, updates.rows[-1]
        gradients = [row["gradient_norm"] for row in finite or updates.rows[:1]]
        weight = max((row["largest_weight"] for row in finite), default=math.nan)
        error, spread = last["loss"] * updates.unit**2, last["spread"] * updates.unit
        rows.append([name, len(finite), max(gradients), weight, f"{spread:.1f}", f"{error:,.0f}"])
        key = "explosion_" + name.lower().replace(",", "").replace(" ", "_")
        run.metrics |= {
            f"{key}_finite_updates": len(finite),
            f"{key}_gradient_growth": max(gradients) / gradients[0],
            f"{key}_largest_weight": weight,
            f"{key}_spread": spread,
        }
    mean = lines.ends.double().var(0, correction=0).mean()
    print_table(
        "What stops the explosion? The draft with one repair or all: updates with finite weights "
        f"(of {len(next(iter(repairs.values())).rows)}), the largest gradient and weight in them, "
        "and the last batch: spread of the answers, squared error",
        ["network", "updates", "gradient", "weight", "spread (px)", "error (px²)"], rows,
    )  # fmt: skip
    say(
        "Errors in pixels are large, and so are their gradients: a step can go too far, and then "
        "the next error is larger still. With ends as fractions they are small. at 0.1: the "
        "learning rate, elsewhere 0.001. gradient: its norm. spread: the standard deviation of the "
        "answers to different images; at 0 the answer no longer depends on the "
        f"image. error: {mean:,.0f} px² is what always answering with the mean of the ends has."
    )


def draw_explosion(run: Run, repairs: Mapping[str, Updates]) -> None:
    """Draws gradients, weights and predictions by update; a cross where the weights become NaN."""
    figure, panels = new_figure(
        "Which training explodes? A cross: from the next update on the weights are NaN",
        1, 3, width=4.6,
    )  # fmt: skip
    titles = {
        "gradient_norm": "norm of the gradient",
        "largest_weight": "largest weight",
        "largest_prediction": "largest prediction (px)",
    }
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        for number, (name, updates) in enumerate(repairs.items()):
            scale = updates.unit if column == "largest_prediction" else 1
            draw_updates(panel, updates, column, scale, name, number)
        panel.set(title=title, xlabel="update", yscale="log")
        low, high = panel.get_ylim()
        panel.set_ylim(low, min(high, HIGHEST))
        panel.grid(alpha=0.3)
    legend_below(figure, panels[0])
    save_figure(figure, run.file("explosion.png"))


def draw_updates(
    axes: Axes, updates: Updates, column: str, scale: float, name: str, place: int
) -> None:
    """One curve; where it ends in NaN, or leaves the figure on its way there, is a cross."""
    finite = updates.finite
    steps, values = [row["update"] for row in finite], [row[column] * scale for row in finite]
    colour = PALETTE[place % len(PALETTE)]
    axes.plot(steps, values, linestyle=STYLES[place % len(STYLES)], color=colour, label=name)
    if 0 < len(finite) < len(updates.rows):
        axes.plot(steps[-1], min(values[-1], HIGHEST / 3), "x", color=colour, markersize=9,
                  markeredgewidth=2.5)  # fmt: skip
