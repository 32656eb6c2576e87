"""Document 2's vanishing gradients where the document has them: in nested convolutions, and with
its residual block.

Beside the linear layers of `gradient_demo.py`, the same measurement on networks of 3×3 convolutions
with 16 channels, before training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.device import seed_everything
from common.figures import COLOURS, new_figure, save_figure, share_y_limits
from common.runs import Run
from common.terminal import print_table, say
from mnist_cnn import ResidualBlock

if TYPE_CHECKING:
    from gradient_demo import Digits

# 1. The networks: nested convolutions, and residual blocks of two convolutions each

CHANNELS, DEPTHS = 16, (2, 4, 10, 20, 40)
SKIPS = {"plain": "left out", "larger weights": "left out", "residual": "as it is"}


class ConvolutionNetwork(nn.Module):
    """Images B×784 → logits B×10, through nested 3×3 convolutions, each followed by ReLU.

    `plain` nests the convolutions; `residual` adds a block's input to what its two convolutions
    make of it; `larger weights` is plain, with weights drawn so that the values keep their size
    from layer to layer (He's initialisation).
    """

    def __init__(self, convolutions: int, kind: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions // 2):
            layers.append(ResidualBlock(CHANNELS, CHANNELS, SKIPS[kind]))  # two convolutions
        if convolutions % 2:
            layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()]
        self.nested = nn.Sequential(*layers)
        if kind == "larger weights":
            for weight in weights_of(self.nested):
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
        self.enter = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        self.classify = nn.Linear(CHANNELS, 10)

    def forward(self, images: Tensor) -> Tensor:  # B×784
        hidden = torch.relu(self.enter(images.view(-1, 1, 28, 28)))  # B×16×14×14
        hidden = self.nested(hidden)  # B×16×14×14
        means = nn.functional.adaptive_avg_pool2d(hidden, 1)  # B×16×1×1: each channel's mean
        logits: Tensor = self.classify(means.flatten(1))  # B×10
        return logits


def weights_of(layers: nn.Module) -> list[Tensor]:
    """The weights of the convolutions in these layers, first to last."""
    return [layer.weight for layer in layers.modules() if isinstance(layer, nn.Conv2d)]


# 2. The gradient of each convolution, before training


def gradient_norms(model: ConvolutionNetwork, data: Digits) -> list[float]:
    """The norm of the loss's gradient on 256 samples for the weights of each nested convolution."""
    loss = nn.functional.cross_entropy(model(data.images[:256]), data.labels[:256])
    gradients = torch.autograd.grad(loss, weights_of(model.nested))
    return [gradient.norm().item() for gradient in gradients]


def compare_depths(run: Run, training: Digits) -> list[tuple[str, int, list[float]]]:
    """For each network: its kind, its number of convolutions, the gradient norm of each."""
    networks = []
    for kind, depth in product(SKIPS, DEPTHS):
        seed_everything(run.seed)
        model = ConvolutionNetwork(depth, kind).to(run.device)
        networks.append((kind, depth, gradient_norms(model, training)))
    return networks


def add_convolutions(run: Run, training: Digits, vanished: float) -> list[float]:
    """The first convolution's gradient norm with 1, 2, … plain ones, until it is below the share
    `vanished` of the first of these norms."""
    norms: list[float] = []
    for depth in range(1, DEPTHS[-1] + 1):
        seed_everything(run.seed)
        model = ConvolutionNetwork(depth, "plain").to(run.device)
        norms.append(gradient_norms(model, training)[0])
        if norms[-1] < vanished * norms[0]:
            break
    return norms


# 3. Table, figure and measures


def vanishing(run: Run, training: Digits, vanished: float) -> None:
    """Prints, draws and measures how much gradient reaches the first convolution.

    It has vanished if it is below the share `vanished` of what it is with one convolution.
    """
    networks = compare_depths(run, training)
    rows = []
    for kind, depth, norms in networks:
        first_to_last = norms[0] / norms[-1]
        run.metrics[f"conv_{kind.replace(' ', '_')}_{depth}_ratio"] = first_to_last
        numbers = [f"{number:.1e}" for number in (norms[0], norms[-1], first_to_last)]
        rows.append([kind, depth, *numbers])
    print_table(
        "Nested 3×3 convolutions before training: gradient norms of the first and of the last "
        "(larger weights: plain, with initial weights that keep the size of the values, by He)",
        ["network", "convolutions", "first", "last", "first ÷ last"],
        rows,
    )
    added = add_convolutions(run, training, vanished)
    fell = added[-1] < vanished * added[0]
    run.metrics["conv_vanishes_at"] = len(added) if fell else math.inf
    say(
        f"With {len(added)} nested convolutions, the gradient of the first is "
        f"{'below' if fell else 'not below'} {vanished:.0%} of its value with one."
    )
    figure_of(run, networks)


def figure_of(run: Run, networks: Sequence[tuple[str, int, list[float]]]) -> None:
    """Draws the gradient by convolution, a panel for each kind of network."""
    figure, panels = new_figure(
        "How much gradient reaches the first of the nested 3×3 convolutions?",
        1, 3, width=4.4, height=3.8,
    )  # fmt: skip
    titles = {"plain": "plain", "larger weights": "plain, larger weights (He)",
              "residual": "residual blocks"}  # fmt: skip
    shown = dict(zip(titles, panels, strict=True))
    for kind, depth, norms in networks:
        colour = COLOURS[DEPTHS.index(depth)]
        shown[kind].plot(range(1, depth + 1), norms, ".-", color=colour, label=f"{depth}")
    for kind, panel in shown.items():
        panel.set(title=titles[kind], xlabel="convolution", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend(title="convolutions", fontsize=8)
    panels[0].set_ylabel("norm of the gradient, before training")
    share_y_limits(panels)
    low, high = panels[0].get_ylim()
    for panel in panels:
        panel.set_ylim(low, 10 * high)  # the residual networks' curves would touch the frame
    save_figure(figure, run.file("convolutions.png"))
