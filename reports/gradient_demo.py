"""Document 2's claims on gradients, with their figures and tables, from what `gradient_demo.py`
measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from common.bounds import above, at_least, at_most, below, exactly
from common.claims import Claim
from common.figures import (
    COLOURS,
    new_figure,
    save_figure,
    share_y_limits,
    use_log_scale,
)
from common.runs import Run
from common.terminal import print_table, say
from reports.gradient_descent import Histories, first_at

Function = Callable[[Tensor], Tensor]
DeepNetwork = tuple[str, int, list[float], list[float]]  # kind, layers, gradient norms, losses

ALL_IMAGES = {"limit": None}
CONVERGED = {**ALL_IMAGES, "converge": True}
AS_GOOD = 0.005  # half a point: less than two standard errors of a difference on 10,000 test images
CHANCE = math.log(10)  # the loss of a network that gives each of ten classes the same probability

CLAIMS = (
    Claim("2.2a", "all samples: time of an update, compared with 64 samples",
          "much computation", "full_update_cost", at_least(10), "{:.0f}×", ALL_IMAGES),
    Claim("2.2b", "all samples: time to a loss of 0.1, compared with 64 samples",
          "converges slowly", "full_time", above(1), "{:.1f}×", CONVERGED, every_seed=True),
    Claim("2.2c", "one sample: time to a loss of 0.1, compared with all samples",
          "converges even more slowly than batch", "single_time", above(1), "{:.2f}×",
          CONVERGED, every_seed=True),
    Claim("2.2i", "one sample: updates to a loss of 0.1, compared with all samples",
          "converges even more slowly than batch", "single_updates", above(1), "{:.0f}×",
          CONVERGED, every_seed=True),
    Claim("2.2d", "one sample: evaluated places at a saddle (flat, bent both ways, left again)",
          "meets saddle points", "single_saddles", at_least(1), "{:.0f}",
          CONVERGED, every_seed=True),
    Claim("2.2j", "one sample: evaluated places at a saddle, minus those with all samples",
          "slower than batch, and meets saddle points", "more_saddles", above(0), "{:+.0f}",
          CONVERGED, every_seed=True),
    Claim("2.2e", "one sample: test accuracy minus that of all samples, after the same time",
          "the trained model is good", "single_gain", at_least(-AS_GOOD), "{:+.2f} points",
          CONVERGED),
    Claim("2.2k", "one sample: test accuracy minus that of all samples, after the same epochs",
          "the trained model is good", "single_gain_by_epochs", above(0), "{:+.1f} points",
          CONVERGED, every_seed=True),
    Claim("2.2l", "all samples: test accuracy minus that of the better other way, same time",
          "a so-so model", "full_gain", below(-AS_GOOD), "{:+.2f} points", CONVERGED),
    Claim("2.2m", "all samples: test accuracy minus that of the better other way, same epochs",
          "a so-so model", "full_gain_by_epochs", below(-AS_GOOD), "{:+.1f} points", CONVERGED),
    Claim("2.2f", "64 samples: time to a loss of 0.1, compared with the faster other way",
          "combines both", "mini_time", below(1), "{:.2f}×", CONVERGED, every_seed=True),
    Claim("2.2g", "64 samples: test accuracy minus that of the better other way, same time",
          "combines both", "mini_gain", at_least(-AS_GOOD), "{:+.2f} points", CONVERGED),
    Claim("2.2h", "batch size × iterations − samples of an epoch, in batches",
          "epoch = batch size × iterations", "epoch_difference", below(1), "{:.2f}"),
    Claim("2.3a", "critical points where the rule contradicts the values around them",
          "the Hessian decides", "rule_wrong", exactly(0), "{:.0f}"),
    Claim("2.3c", "noisy paths that leave a saddle",
          "it can be left", "saddle_escaped", exactly(1), "{:.0%}"),
    Claim("2.3d", "noisy paths, with the same noise, that leave a minimum",
          "it cannot be left", "minimum_escaped", exactly(0), "{:.0%}"),
    Claim("2.7a", "H′ − F′ of a residual block: largest difference from 1",
          "H′ = F′ + 1", "residual_derivative_error", at_most(1e-5), "{:.0e}"),
    Claim("2.7b", "40 plain layers: the first one's gradient, compared with the last one's",
          "vanishes", "plain_40_ratio", below(0.01), "{:.1e}×", ALL_IMAGES),
    Claim("2.7c", "40 residual layers: the first one's gradient, compared with the last one's",
          "does not vanish", "residual_40_ratio", at_least(0.01), "{:.2g}×", ALL_IMAGES),
    Claim("2.7d", "plain layers added one at a time until the first one's gradient is below 1%",
          "shows where it vanishes", "vanishes_at", at_most(40), "{:.0f}", ALL_IMAGES),
    Claim("2.7e", "40 nested convolutions: the first one's gradient, compared with the last one's",
          "nested convolutions: the chain product gets ever smaller", "conv_plain_40_ratio",
          below(0.01), "{:.1e}×", ALL_IMAGES),
    Claim("2.7f", "20 residual blocks of two convolutions: the same comparison",
          "the residual net still lets it change", "conv_residual_40_ratio", at_least(0.01),
          "{:.2g}×", ALL_IMAGES),
    Claim("2.7g", "convolutions added one at a time until the first one's gradient is below 1%",
          "add convolutions one by one, see where it vanishes", "conv_vanishes_at", at_most(40),
          "{:.0f}", ALL_IMAGES),
)  # fmt: skip


# Critical points


def critical_points(
    run: Run, points: Sequence[tuple[str, Tensor, Tensor, str, str]]
) -> None:
    """Prints what each critical point is, by the eigenvalues and by the values around it.

    A point is (function, place, eigenvalues, answer of the rule, answer of the values).
    """
    say(
        "\nWhere the gradient is 0, the second derivatives (a matrix, the Hessian) say how the "
        "function bends: its eigenvalues are the curvatures, positive upwards."
    )
    say(
        "Rule: all eigenvalues positive: minimum; all negative: maximum; both signs: saddle; "
        "otherwise: no answer."
    )
    rows = []
    for name, point, eigenvalues, rule, values in points:
        place = [f"{number:z.2f}" for number in point.tolist()]
        curvature = [f"{number:+z.2f}" for number in eigenvalues.tolist()]
        rows.append([name, *place, *curvature, rule, values])
    print_table(
        "Critical points: the Hessian's smaller and larger eigenvalue, what the rule says about "
        "them, and what the function's values around the point say",
        ["function", "x", "y", "smaller", "larger", "by the rule", "by the values"],
        rows,
    )
    answers = [(rule, values) for *_, rule, values in points]
    silent = sum(rule == "no answer" for rule, _ in answers)
    run.metrics |= {
        "rule_wrong": sum(rule not in ("no answer", values) for rule, values in answers),
        "rule_silent": silent,
    }
    say(
        f"The rule gives no answer for {silent} of {len(points)} critical points. There an "
        "eigenvalue is 0: the Hessian does not show which way the function bends."
    )


# Leaving a saddle


def escapes(
    run: Run, paths: Mapping[str, Tensor], bowl: Function, hill: Function, double_well: Function
) -> None:
    """Measures which paths leave the saddle and which a minimum, and draws two paths.

    `paths` on the double well: `from the saddle` and `from a minimum` (seeds×updates×2), `exact
    gradient` and `with noise` (updates×2), which start almost on the line that leads to the saddle.
    """
    exact, noisy = paths["exact gradient"], paths["with noise"]
    escape_figure(run, exact, noisy, bowl, hill, double_well)
    updates, left = len(exact) - 1, updates_to_leave(exact)
    x, y = exact[0].tolist()
    say(
        f"{updates} updates from ({x:f}, {y:g}), almost on the line x = 0, which leads to the "
        "saddle at (0, 0): with the exact gradient the saddle is left (|x| > 0.5) "
        f"{when_left(exact)}, with noise {when_left(noisy)}."
    )
    from_saddle, from_minimum = paths["from the saddle"][:, -1], paths["from a minimum"][:, -1]
    run.metrics |= {
        "saddle_escaped": statistics.mean(float(point[0].abs() > 0.5) for point in from_saddle),
        "minimum_escaped": statistics.mean(float(point[0] < 0) for point in from_minimum),
        "lingering_updates": left,
    }


def escape_figure(
    run: Run, exact: Tensor, noisy: Tensor, bowl: Function, hill: Function, double_well: Function
) -> None:
    """Draws a minimum, a maximum, and a saddle with two paths (updates×2) that start beside it."""
    figure, panels = new_figure(
        "A minimum, a maximum and a saddle; how exact and noisy gradients leave the saddle",
        2, 2, width=5.4, height=4.2,
    )  # fmt: skip
    landscape, values = panels[2], panels[3]
    draw_contours(panels[0], bowl, "a minimum: x² + y²", critical=[0])
    draw_contours(panels[1], hill, "a maximum: −x² − y²", critical=[0])
    draw_contours(
        landscape, double_well, "a saddle between two minima: (x² − 1)² + y²", critical=[-1, 0, 1]
    )
    for path, label, colour in ((exact, "exact gradient", "black"), (noisy, "with noise", "white")):
        outlined = [withStroke(linewidth=3, foreground="black")]
        heights = [float(double_well(point)) for point in path]
        landscape.plot(path[:, 0], path[:, 1], color=colour, label=label, path_effects=outlined)
        values.plot(heights, color=colour, label=label, path_effects=outlined)
    values.axhline(1, color="black", linestyle=":", label="the saddle's value")
    values.set(xlabel="update", ylabel="value", title="the two paths: value by update")
    values.grid(alpha=0.3)
    for panel in panels:
        panel.legend(fontsize=8, facecolor="lightgrey", framealpha=1)
    save_figure(figure, run.file("critical_points.png"))


def updates_to_leave(path: Tensor) -> int:
    """The first update with |x| > 0.5; one more than all if there is none."""
    for update, point in enumerate(path):
        if point[0].abs() > 0.5:
            return update
    return len(path)


def when_left(path: Tensor) -> str:
    update = updates_to_leave(path)
    return f"after {update} updates" if update < len(path) else "not at all"


def draw_contours(
    axes: Axes, function: Function, title: str, *, critical: Sequence[float]
) -> None:
    """Draws the values of a function of two numbers from −1.6 to 1.6, on one scale for all.

    Its critical points lie at y = 0, and at the `critical` values of x.
    """
    axis = torch.linspace(-1.6, 1.6, 121, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    levels = torch.linspace(-5.2, 5.2, 27)
    filled = axes.contourf(x, y, function(torch.stack([x, y])), levels=levels, cmap="viridis")
    colours = axes.figure.colorbar(filled, ax=axes, shrink=0.8, label="value")
    colours.set_ticks([-4, -2, 0, 2, 4])
    axes.plot(critical, [0] * len(critical), "*", color="white", markeredgecolor="black",
              markersize=13, zorder=4, label="gradient zero")  # fmt: skip
    axes.set(xlabel="x", ylabel="y", aspect="equal", title=title)


# Vanishing gradients


def residual_derivative(run: Run, error: float) -> None:
    """Puts the largest difference of H′ − F′ from the identity among the run's metrics."""
    run.metrics["residual_derivative_error"] = error


def depths(run: Run, networks: Sequence[DeepNetwork]) -> None:
    """Prints, draws and measures the gradients and the training of plain and residual networks."""
    rows = []
    for kind, depth, norms, losses in networks:
        ratio, loss = norms[0] / norms[-1], last_means(losses, 20)[-1]
        run.metrics |= {f"{kind}_{depth}_ratio": ratio, f"{kind}_{depth}_loss": loss}
        numbers = [f"{norms[0]:.1e}", f"{norms[-1]:.1e}", f"{ratio:.1e}", f"{loss:.3f}"]
        rows.append([kind, depth, *numbers])
    updates = len(networks[0][3])
    print_table(
        "Deep networks: gradient norms of the first and of the last 32→32 layer before training, "
        f"and the mean loss of the last 20 of {updates} updates (guessing one of ten classes: "
        f"{CHANCE:.3f})",
        ["network", "layers", "first", "last", "first ÷ last", "loss"],
        rows,
    )
    _, depth, norms, _ = next(one for one in reversed(networks) if one[0] == "plain")
    factor = (norms[0] / norms[-1]) ** (1 / (depth - 1))
    say(
        "Why: on its way back a gradient is multiplied at each layer by that layer's derivative. "
        f"In the deepest plain network {factor:.2f} of it is left per layer, on average, and the "
        f"product of {depth - 1} such factors is almost 0. A residual layer also passes it on "
        "unchanged: its derivative is F′ + 1."
    )
    depth_figure(run, networks)


def depth_figure(run: Run, networks: Sequence[DeepNetwork]) -> None:
    """Draws the gradient by layer before training, and the loss of training by update."""
    figure, panels = new_figure(
        "How much gradient reaches the first layer, and which networks learn?",
        2, 2, width=6, height=3.6,
    )  # fmt: skip
    colours: dict[int, str] = {}
    for kind, depth, norms, losses in networks:
        column = 0 if kind == "plain" else 1
        before, during = panels[column], panels[column + 2]
        colour = colours.setdefault(depth, COLOURS[len(colours)])
        label = f"{depth} layers"
        before.plot(range(1, depth + 1), norms, ".-", color=colour, label=label)
        before.set(title=f"{kind} networks before training", xlabel="layer", yscale="log")
        smoothed = last_means(losses, 20)
        if max(abs(loss - CHANCE) for loss in smoothed) < 0.1:
            label += ", stays at chance"
        during.plot(range(1, len(losses) + 1), smoothed, color=colour, label=label)
        during.set(title=f"{kind} networks in training", xlabel="update")
    for before, during in (panels[::2], panels[1::2]):
        before.set_ylabel("norm of the gradient")
        during.set_ylabel("training loss (mean of 20 batches)")
        during.axhline(CHANCE, color="black", linestyle=":", label=f"chance ({CHANCE:.3f})")
        use_log_scale(during)
    share_y_limits(panels[:2])
    share_y_limits(panels[2:])
    low, high = panels[0].get_ylim()
    for panel in panels[:2]:
        panel.set_ylim(low, 10 * high)  # the residual networks' curves would touch the frame
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    save_figure(figure, run.file("vanishing.png"))


def last_means(values: Sequence[float], count: int) -> list[float]:
    """For each place the mean of the last `count` values up to it."""
    return [statistics.mean(values[max(0, n - count) : n]) for n in range(1, len(values) + 1)]


def added_layers(run: Run, norms: Sequence[float], vanished: float) -> str:
    """Measures with how many plain layers the gradient has vanished; returns it as a sentence.

    `norms` are the first layer's gradients with 1, 2, … layers. The last of them has vanished if it
    is below the share `vanished` of the first.
    """
    fell = norms[-1] < vanished * norms[0]
    run.metrics["vanishes_at"] = len(norms) if fell else math.inf
    place = "below" if fell else "not below"
    return (
        f"With {len(norms)} plain layers, the gradient of the first layer is {place} "
        f"{vanished:.0%} of its value with one layer."
    )


def ending(
    histories: Histories, goal: float, networks: Sequence[DeepNetwork], finding: str
) -> str:
    """The fastest batch size, where the gradient vanishes, what next; returns the closing sentence.

    `finding` is what `added_layers` returned.
    """
    seconds = {name: first_at(goal, history)["seconds"] for name, history in histories.items()}
    reached = [name for name in seconds if math.isfinite(seconds[name])]
    reached.sort(key=lambda name: seconds[name])
    missed = [name for name in seconds if name not in reached]
    sentences = []
    if reached:
        times = ", then ".join(f"{name} ({seconds[name]:.2f} s)" for name in reached)
        sentences.append(f"Fastest to a loss of {goal} in this run: {times}.")
    if missed:
        sentences.append(f"A loss of {goal} was not reached with {' nor with '.join(missed)}.")
    deepest = max(depth for _, depth, _, _ in networks)
    ratios = {kind: norms[0] / norms[-1] for kind, depth, norms, _ in networks if depth == deepest}
    sentences += [
        finding,
        f"With {deepest} layers the gradient of the first is {ratios['plain']:.1e} times that of "
        f"the last (plain), and {ratios['residual']:.2g} times (residual).",
        "Open descent.png, vanishing.png and convolutions.png.",
        "Next: python fmnist_hyperparams.py, the next chapter: one hyper-parameter at a time.",
    ]
    return " ".join(sentences)
