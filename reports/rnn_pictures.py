"""Document 2's two pictures of recurrent networks, drawn from what `rnn_demo.py` computes.

One cell unrolled over time, as it reads "hello"; three layers unrolled over seven steps.
"""

from __future__ import annotations

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from common.figures import COLOURS, new_figure, save_figure
from common.runs import Run

# Colours for the range of tanh; what is beyond has the colour at the end.
COLOUR_MAP, SCALE = colormaps["PuOr_r"], Normalize(-1, 1, clip=True)
Point = tuple[float, float]


# One cell over time


def over_time(
    run: Run, states: Tensor, letters: str, *, read: str, expected: str, right: str
) -> None:
    """Saves the cell unrolled over the letters that it read; `states` (T×4) are its hidden ones.

    `expected` are the letters that it answers, `right` the right answers.
    """
    title = (
        "A recurrent network unrolled: the same cell, with the same weights, reads every letter,\n"
        "and its largest hidden number tells which letter it answers"
    )
    figure, (panel,) = new_figure(title, width=12.6, height=4.3)
    width, first = 2.3, 3.7  # of a step, and where the first hidden state stands
    folded(panel, 0.4)
    numbers(panel, torch.zeros(len(letters)), (first, 0), letters)
    panel.text(first, 0.85, "$h_0$ = 0", ha="center", va="center", fontsize=12)
    one_hot = torch.eye(len(letters))
    for step, letter in enumerate(read):
        x = first + width * (step + 1)
        numbers(panel, one_hot[letters.index(letter)], (x, -1.7), letters)
        panel.text(x, -2.45, f"$x_{step + 1}$ = “{letter}”", ha="center", va="center", fontsize=12)
        draw_box(panel, (x, 0), "RNNCell")
        numbers(panel, states[step], (x, 1.75), letters)
        wrong = "" if expected[step] == right[step] else f" (not “{right[step]}”)"
        panel.text(x, 2.6, f"$h_{step + 1}$ → “{expected[step]}”{wrong}", ha="center", va="center",
                   fontsize=12)  # fmt: skip
        arrow(panel, (x, -1.1), (x, -0.5))
        arrow(panel, (x, 0.5), (x, 1.2))
        before = 0.9 if step == 0 else 0.6  # half of what stands to the left
        arrow(panel, (x - width + before, 0), (x - 0.6, 0), f"$h_{step}$")
    finish(figure, panel, (-0.5, first + width * (len(read) + 0.5)), (-2.7, 2.9))
    save_figure(figure, run.file("unrolled.png"))


def folded(panel: Axes, x: float) -> None:
    """Draws the cell as a loop, the short form of what stands to the right of it."""
    draw_box(panel, (x, 0), "RNNCell")
    arrow(panel, (x, -1.4), (x, -0.5))
    arrow(panel, (x, 0.5), (x, 1.4))
    panel.text(x, -1.65, "$x_t$", ha="center", va="center", fontsize=12)
    panel.text(x, 1.65, "$h_t$", ha="center", va="center", fontsize=12)
    panel.annotate("", (x + 0.6, -0.2), (x + 0.6, 0.2), arrowprops={
        "arrowstyle": "->", "connectionstyle": "arc3,rad=-2.6", "linewidth": 1.5})  # fmt: skip
    panel.text(x + 1.2, 0.45, "$h_{t-1}$", ha="center", va="center", fontsize=12)
    panel.text(x + 2.1, 0, "=", ha="center", va="center", fontsize=22)


# Three layers over time


def three_layers(run: Run, inputs: Tensor, states: Tensor) -> None:
    """Saves the layers unrolled over the steps, from inputs (T×B×I) and all states (T×L×B×H)."""
    steps, layers = states.shape[:2]
    title = "Three layers unrolled over seven steps: what RNN returns, and where it comes from"
    figure, (panel,) = new_figure(title, width=13, height=4.7)
    width, height = 2.2, 1.5
    for step in range(steps):
        x = width * (step + 1)
        squares(panel, inputs[step, 0], (x, 0))
        panel.text(x, -0.42, f"$x_{step + 1}$", ha="center", va="center", fontsize=12)
        for layer in range(layers):
            y = height * (layer + 1)
            draw_box(panel, (x, y), "", width=1.62, height=0.84)
            squares(panel, states[step, layer, 0], (x, y + 0.14))
            name = f"$h_{step + 1}^{{({layer + 1})}}$"
            panel.text(x, y - 0.22, name, ha="center", va="center", fontsize=11)
            below = 0.16 if layer == 0 else 0.42  # half of what stands below
            arrow(panel, (x, y - height + below), (x, y - 0.42))
            arrow(panel, (x - width + 0.81, y), (x - 0.81, y))
    for layer in range(layers):
        name = f"$h_0^{{({layer + 1})}}$ = 0"
        panel.text(0.78, height * (layer + 1), name, ha="right", va="center", fontsize=11)
        label = f"layer {layer + 1}"
        panel.text(-0.5, height * (layer + 1), label, ha="right", va="center", fontsize=12)
    mark_what_returns(panel, inputs, states, width, height)
    finish(figure, panel, (-1.4, width * steps + 1.15), (-0.95, height * layers + 1.5))
    save_figure(figure, run.file("three_layers.png"))


def mark_what_returns(
    panel: Axes, inputs: Tensor, states: Tensor, width: float, height: float
) -> None:
    """Draws frames around the last layer and the last step, and says which shapes they have."""
    steps, layers, batch, hidden = states.shape
    top, right = height * layers, width * steps
    frame(panel, (width - 0.95, top - 0.56), right - width + 1.9, 1.12, COLOURS[1], "dashed")
    frame(panel, (right - 1.05, height - 0.6), 2.1, top - height + 1.26, COLOURS[0], "solid")
    outputs = f"{steps}×{batch}×{hidden} (seq_len, batch, hidden_size)"
    panel.text(width - 0.95, top + 0.76,
               f"outputs (dashed): the last layer after every step, {outputs}", fontsize=11)
    last = f"{layers}×{batch}×{hidden} (num_layers, batch, hidden_size)"
    panel.text(right + 1.05, top + 1.16,
               f"hidden (solid): every layer after the last step, {last}", fontsize=11,
               ha="right")  # fmt: skip
    shape = "×".join(map(str, inputs.shape))
    panel.text(width - 0.95, -0.85, f"inputs: {shape} (seq_len, batch, input_size). The squares "
               f"show the first of the {batch} examples of the batch.", fontsize=11)  # fmt: skip


# What the pictures are made of


def draw_box(
    panel: Axes, centre: Point, text: str, *, width: float = 1.2, height: float = 1.0
) -> None:
    """Draws a box with rounded corners."""
    x, y = centre
    corner = (x - width / 2 + 0.1, y - height / 2 + 0.1)
    panel.add_patch(FancyBboxPatch(corner, width - 0.2, height - 0.2, "round,pad=0.1",
                                   facecolor="#F2F2F2", edgecolor="black"))  # fmt: skip
    panel.text(x, y, text, ha="center", va="center", fontsize=12)


def squares(panel: Axes, values: Tensor, centre: Point, side: float = 0.3) -> None:
    """Draws numbers as coloured squares side by side."""
    x, y = centre
    left = x - side * len(values) / 2
    for place, value in enumerate(values.tolist()):
        corner = (left + side * place, y - side / 2)
        colour = COLOUR_MAP(SCALE(value))
        panel.add_patch(Rectangle(corner, side, side, facecolor=colour, edgecolor="black"))


def numbers(panel: Axes, values: Tensor, centre: Point, names: str) -> None:
    """Draws numbers as coloured squares, the number below and a letter above each."""
    x, y = centre
    side = 0.42
    left = x - side * (len(values) - 1) / 2
    squares(panel, values, centre, side)
    for place, value in enumerate(values.tolist()):
        number = f"{round(value, 1) + 0.0:.1f}".replace("-", "−")  # + 0.0: no −0.0
        panel.text(left + side * place, y + 0.25, names[place], ha="center", va="bottom",
                   fontsize=9)  # fmt: skip
        panel.text(left + side * place, y - 0.27, number, ha="center", va="top",
                   fontsize=8)  # fmt: skip


def arrow(panel: Axes, start: Point, end: Point, label: str = "") -> None:
    panel.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 1.5})
    if label:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        panel.text(x, y + 0.12, label, ha="center", va="bottom", fontsize=11)


def frame(
    panel: Axes, corner: Point, width: float, height: float, colour: str, line: str
) -> None:
    panel.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2.5,
                              linestyle=line))  # fmt: skip


def finish(figure: Figure, panel: Axes, x_limits: Point, y_limits: Point) -> None:
    """Shows all that was drawn, in true proportions, with a scale of the colours."""
    panel.set(xlim=x_limits, ylim=y_limits, aspect="equal")
    panel.set_axis_off()
    figure.colorbar(ScalarMappable(SCALE, COLOUR_MAP), ax=panel, shrink=0.6, aspect=15,
                    label="value (beyond ±1: as ±1)")  # fmt: skip
