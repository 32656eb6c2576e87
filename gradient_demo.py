"""Document 2, its gradients: three ways of descent, critical points, and gradients that vanish.

    python gradient_demo.py

The story is that of the notes on the PyTorch course of the lecturer 刘二大人: gradient descent with all samples, with
one and with 64 of them for each update; what the Hessian's eigenvalues say of a point where the gradient is zero, and
how a saddle is left; why the first layers of a deep network get no gradient, and what adding a layer's input changes.

Measured on two cores, seeds 0 to 4, in 58 to 71 s (151 s once): with all samples an
update takes 102 to 129 times as long as with 64, and
a loss of 0.35 is reached 7 to 20 times as late; the rule of eigenvalues says nothing of two critical points in sixteen;
of 40 plain layers the first has at most 4e-15 times the gradient of the last, of 40 residual ones 0.6 to 1.5 times.

The notes give no settings. Chosen here: MNIST's 60,000 training pictures and a network 784→32→10 with tanh (its second
derivatives exist everywhere) for the descents and the Hessian; rates 0.5 for all samples, 0.01 for one and 0.1 for 64,
the best of three each in a trial on 2,000 pictures; for depth networks of 32 units a layer with ReLU.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian

from common.cli import add_data_flag, add_run_flags, guarded, make_parser
from common.data import InMemoryDataset, load_images, make_loader
from common.device import seed_everything
from common.metrics import accuracy
from common.plots import new_figure, save_figure, share_y_limits, use_log_scale
from common.report import Claim, judge, print_claims, print_table
from common.runs import Run, start_run
from common.training import Row, train_and_watch

FloatArray = npt.NDArray[np.float64]

# What the document states, each with its bound in words and in code.
CLAIMS = (
    Claim("2.2a", "all samples: seconds an update, times those of 64", "much computation: ≥ 10×",
          "full_update_cost", lambda ratio: ratio >= 10, "{:.0f}×"),
    Claim("2.2b", "all samples: seconds to a loss of 0.35, times those of 64", "slow: > 1×",
          "full_time", lambda ratio: ratio > 1, "{:.1f}×"),
    Claim("2.2c", "one sample: seconds to a loss of 0.35, times those of all", "even slower: > 1×",
          "single_time", lambda ratio: ratio > 1, "{:.2f}×"),
    Claim("2.2d", "one sample: smallest curvature where it ends", "meets saddles: < 0",
          "single_smallest_eigenvalue", lambda eigenvalue: eigenvalue < 0, "{:+.3f}"),
    Claim("2.2e", "one sample: test accuracy less that of all samples", "better model: > 0 points",
          "single_gain", lambda gain: gain > 0, "{:+.1%}"),
    Claim("2.2f", "64 samples: seconds to a loss of 0.35, times those of the faster other way", "combines both: < 1×",
          "mini_time", lambda ratio: ratio < 1, "{:.2f}×"),
    Claim("2.2g", "64 samples: test accuracy less that of the better other way", "combines both: ≥ 0 points",
          "mini_gain", lambda gain: gain >= 0, "{:+.1%}"),
    Claim("2.2h", "batch size × iterations of an epoch of 60,000", "the epoch: 60000",
          "batch_times_iterations", lambda product: product == 60_000, "{:.0f}"),
    Claim("2.3a", "points where the rule says other than the values around", "none: 0",
          "rule_wrong", lambda count: count == 0, "{:.0f}"),
    Claim("2.3b", "critical points of which the rule says nothing", "none: 0",
          "rule_silent", lambda count: count == 0, "{:.0f}"),
    Claim("2.3c", "noisy descents that leave a saddle", "can be escaped: all",
          "saddle_escaped", lambda share: share == 1, "{:.0%}"),
    Claim("2.3d", "noisy descents, the same noise, that leave a minimum", "cannot be escaped: none",
          "minimum_escaped", lambda share: share == 0, "{:.0%}"),
    Claim("2.7a", "H′ − F′ of a residual block, largest distance from 1", "1: ≤ 0.00001",
          "residual_derivative_error", lambda error: error <= 1e-5, "{:.0e}"),
    Claim("2.7b", "40 plain layers: first layer's gradient, of the last one's", "vanishes: < 1%",
          "plain_40_ratio", lambda ratio: ratio < 0.01, "{:.1e}"),
    Claim("2.7c", "40 residual layers: first layer's gradient, of the last one's", "is kept: ≥ 1%",
          "residual_40_ratio", lambda ratio: ratio >= 0.01, "{:.2g}"),
    Claim("2.7d", "plain layers until the first layer's gradient is below 1%", "can be found: ≤ 40",
          "vanishes_at", lambda layers: layers <= 40, "{:.0f}"),
)
TIMED = {f"2.2{letter}" for letter in "abcdefg"}  # which need all samples


# The data and the small network


@dataclass(frozen=True)
class Digits:
    """Normalised pictures (float32, N×784) and their digits (int64, N)."""

    images: Tensor
    labels: Tensor


def load_digits(args: argparse.Namespace, split: str) -> Digits:
    """MNIST's pictures as rows of pixels of mean 0 and standard deviation 1."""
    images, labels = load_images("MNIST", split, args.data_dir, args.limit)
    return Digits((images.flatten(1).float() / 255 - 0.1307) / 0.3081, labels)


def small_network() -> nn.Sequential:
    """784→32→10 with tanh: B×784 → logits B×10."""
    return nn.Sequential(nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10))


# Three ways of descent (2.2)


@dataclass(frozen=True)
class Descent:
    """How many samples an update sees, the learning rate, and how many updates are made."""

    batch_size: int
    lr: float
    updates: int


DESCENTS = {
    "all samples": Descent(60_000, 0.5, 120),
    "one sample": Descent(1, 0.01, 30_000),
    "64 samples": Descent(64, 0.1, 10_000),
}
GOAL = 0.35  # of the loss over all training pictures


def descend(run: Run, way: Descent, train: Digits, test: Digits) -> tuple[nn.Module, list[Row]]:
    """Trains the small network; rows of updates, samples, seconds (without the scoring), loss and test accuracy."""
    seed_everything(run.seed)
    network = small_network().to(run.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=way.lr)
    batch_size = min(way.batch_size, len(train.labels))
    scored_at = {round(math.exp(exponent)) for exponent in np.linspace(0, math.log(way.updates), 40)}
    rows: list[Row] = []
    everything, unseen = ((part.images.to(run.device), part.labels.to(run.device)) for part in (train, test))
    generator = torch.Generator().manual_seed(run.seed)
    seconds, update = 0.0, 0
    while update < way.updates:
        order = torch.randperm(len(train.labels), generator=generator).to(run.device)
        for chosen in order.split(batch_size):  # type: ignore[no-untyped-call]
            start = time.perf_counter()
            whole = batch_size == len(train.labels)
            images, labels = everything if whole else (everything[0][chosen], everything[1][chosen])
            loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            seconds += time.perf_counter() - start
            update += 1
            if update in scored_at:
                with torch.inference_mode():
                    total = nn.functional.cross_entropy(network(everything[0]), everything[1]).item()
                    share = accuracy(network(unseen[0]), unseen[1])
                rows.append({"updates": update, "samples": update * batch_size, "seconds": seconds, "loss": total,
                             "test_accuracy": share})
            if update == way.updates:
                break
    return network, rows


def compare_descents(run: Run, train: Digits, test: Digits) -> Row:
    """The same network and data descended in three ways; figure, table, and the numbers of the notes' statements."""
    found: dict[str, list[Row]] = {}
    curvatures: dict[str, tuple[float, float, float]] = {}
    for name, way in DESCENTS.items():
        network, found[name] = descend(run, way, train, test)
        curvatures[name] = extreme_eigenvalues(network, train)
        print(f"{name}: {way.updates:,} updates in {found[name][-1]['seconds']:.1f} s")
    figure, panels = new_figure(1, 3, width=4.6, height=4)
    for panel, column, label in zip(panels, ("updates", "samples", "seconds"),
                                    ("updates", "samples seen", "seconds of training"), strict=True):
        for name, rows in found.items():
            panel.plot([row[column] for row in rows], [row["loss"] for row in rows], label=name)
        panel.axhline(GOAL, color="tab:gray", linestyle=":", label=f"loss {GOAL}")
        panel.set(xscale="log", xlabel=label, ylabel="loss over all training pictures")
        use_log_scale(panel)
        panel.grid(alpha=0.3)
    panels[0].legend()
    save_figure(figure, run.folder / "descent.png")

    to_goal = {name: next((row["seconds"] for row in rows if row["loss"] <= GOAL), math.inf)
               for name, rows in found.items()}
    last = {name: rows[-1] for name, rows in found.items()}
    print_table("Descent with all samples, one, or 64 for each update",
                ["samples", "rate", "updates", "epochs", "seconds", f"to loss {GOAL}", "loss", "test accuracy",
                 "Hessian: smallest", "largest", "gradient"],
                [[name, way.lr, f"{way.updates:,}", f"{last[name]['samples'] / len(train.labels):.1f}",
                  f"{last[name]['seconds']:.1f}", f"{to_goal[name]:.2f} s", f"{last[name]['loss']:.4f}",
                  f"{last[name]['test_accuracy']:.2%}", *(f"{value:+.3f}" for value in curvatures[name][:2]),
                  f"{curvatures[name][2]:.3f}"] for name, way in DESCENTS.items()])
    words = "; ".join(f"{name}: {by_the_rule(torch.tensor(ends[:2]))}" for name, ends in curvatures.items())
    print(f"What the notes' rule calls the places where they end: {words}. The gradients there are small, not zero.")
    full, single, mini = DESCENTS
    cost = {name: last[name]["seconds"] / last[name]["updates"] for name in DESCENTS}
    scores = {name: row["test_accuracy"] for name, row in last.items()}
    return {
        "full_update_cost": cost[full] / cost[mini],
        "full_time": to_goal[full] / to_goal[mini],
        "single_time": to_goal[single] / to_goal[full],
        "single_smallest_eigenvalue": curvatures[single][0],
        "single_gain": scores[single] - scores[full],
        "mini_time": to_goal[mini] / min(to_goal[full], to_goal[single]),
        "mini_gain": scores[mini] - max(scores[full], scores[single]),
        "batch_times_iterations": 64 * math.ceil(60_000 / 64),
    }


# Critical points (2.3)


def extreme_eigenvalues(network: nn.Module, data: Digits, samples: int = 2000) -> tuple[float, float, float]:
    """The Hessian's smallest and largest eigenvalue of the loss on some samples, and the gradient's norm.

    The Hessian itself is never there: its products with vectors (a derivative of the gradient along the vector) are
    enough for Lanczos' method (ARPACK, through SciPy) to find the eigenvalues at the ends of the spectrum.
    """
    parameters = list(network.parameters())
    device = parameters[0].device
    images, labels = data.images[:samples].to(device), data.labels[:samples].to(device)
    loss = nn.functional.cross_entropy(network(images), labels)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)

    def product(vector: FloatArray) -> FloatArray:
        direction = torch.from_numpy(vector.astype(np.float32)).to(device)
        pieces = direction.tensor_split(np.cumsum([p.numel() for p in parameters])[:-1].tolist())
        along = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
        change = torch.autograd.grad(slopes, parameters, along, retain_graph=True)
        return torch.cat([piece.flatten() for piece in change]).cpu().double().numpy()

    size = sum(p.numel() for p in parameters)
    start = np.random.default_rng(0).normal(size=size)
    ends = eigsh(LinearOperator((size, size), matvec=product, dtype=np.float64), k=2, which="BE", v0=start, tol=1e-3,
                 maxiter=300, return_eigenvectors=False)
    norm = torch.cat([slope.detach().flatten() for slope in slopes]).norm().item()
    return float(ends.min()), float(ends.max()), norm


Function = Callable[[Tensor], Tensor]


def double_well(point: Tensor) -> Tensor:
    """(x² − 1)² + y²: minima at (±1, 0), a saddle at (0, 0)."""
    return (point[0] ** 2 - 1) ** 2 + point[1] ** 2


def himmelblau(point: Tensor) -> Tensor:
    """(x² + y − 11)² + (x + y² − 7)²: four minima, four saddles and a maximum."""
    return (point[0] ** 2 + point[1] - 11) ** 2 + (point[0] + point[1] ** 2 - 7) ** 2


FUNCTIONS: dict[str, Function] = {
    "x² + y²": lambda p: p[0] ** 2 + p[1] ** 2,
    "−x² − y²": lambda p: -(p[0] ** 2) - p[1] ** 2,
    "x² − y²": lambda p: p[0] ** 2 - p[1] ** 2,
    "(x² − 1)² + y²": double_well,
    "Himmelblau": himmelblau,
    "x³ − 3xy²": lambda p: p[0] ** 3 - 3 * p[0] * p[1] ** 2,
    "x⁴ + y⁴": lambda p: p[0] ** 4 + p[1] ** 4,
}


def derivatives(function: Function, point: Tensor) -> Tensor:
    """The gradient of a function of N numbers (N), or the Jacobian of one with M values (M×N), by autograd."""
    result: Tensor = jacobian(function, point)  # type: ignore[no-untyped-call]
    return result


def second_derivatives(function: Function, point: Tensor) -> Tensor:
    """The Hessian of a function of N numbers (N×N), by autograd."""
    result: Tensor = hessian(function, point)  # type: ignore[no-untyped-call]
    return result


def critical_points(function: Function) -> list[Tensor]:
    """Where the gradient is zero within |x|, |y| ≤ 5: Newton's method from a grid of starts; float64."""
    points: list[Tensor] = []
    axis = torch.linspace(-4.5, 4.5, 8, dtype=torch.float64)
    for start in torch.cartesian_prod(axis, axis):
        point = start
        for _ in range(60):
            curvature, slope = second_derivatives(function, point), derivatives(function, point)
            step = torch.linalg.lstsq(curvature, slope[:, None]).solution[:, 0]
            point = point - step
            if step.norm() < 1e-6:
                break
        near = [other for other in points if (point - other).norm() < 0.05]
        if derivatives(function, point).norm() < 1e-6 and point.abs().max() < 5 and not near:
            points.append(point)
    return points


def by_the_rule(eigenvalues: Tensor) -> str:
    """The notes' rule: all above 0 a minimum, all below a maximum, both signs a saddle; it says nothing of zeros."""
    if (eigenvalues > 1e-3).all():
        return "minimum"
    if (eigenvalues < -1e-3).all():
        return "maximum"
    return "saddle" if eigenvalues.min() < -1e-3 and eigenvalues.max() > 1e-3 else "silent"


def by_the_values(function: Function, point: Tensor) -> str:
    """What the values on a small circle around a point make it."""
    angles = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
    circle = point + 0.1 * torch.stack([angles.cos(), angles.sin()], 1)
    differences = torch.stack([function(neighbour) for neighbour in circle]) - function(point)
    if (differences > 0).all():
        return "minimum"
    return "maximum" if (differences < 0).all() else "saddle"


def classify_points() -> Row:
    """A table of functions, their critical points, Hessian eigenvalues, the rule's word and the values' own."""
    rows: list[list[object]] = []
    for name, function in FUNCTIONS.items():
        for point in critical_points(function):
            eigenvalues = torch.linalg.eigvalsh(second_derivatives(function, point))
            place = ", ".join(f"{value:.2f}".replace("-0.00", "0.00") for value in point.tolist())
            shown = ", ".join(f"{value:+.2f}" for value in eigenvalues.tolist())
            rows.append([name, f"({place})", shown, by_the_rule(eigenvalues), by_the_values(function, point)])
    print_table("Critical points: the rule of the Hessian's eigenvalues, and what the values around say",
                ["function", "point", "eigenvalues", "by the rule", "by the values"], rows)
    return {"rule_wrong": sum(row[3] not in ("silent", row[4]) for row in rows),
            "rule_silent": sum(row[3] == "silent" for row in rows)}


def walk(start: Sequence[float], noise: float, seed: int, updates: int = 200, lr: float = 0.05) -> Tensor:
    """Descent on the double well from `start`, each gradient with normal noise; the path (updates + 1)×2."""
    generator = torch.Generator().manual_seed(seed)
    point = torch.tensor(start, dtype=torch.float64)
    path = [point]
    for _ in range(updates):
        slope = derivatives(double_well, point) + noise * torch.randn(2, generator=generator, dtype=torch.float64)
        point = point - lr * slope
        path.append(point)
    return torch.stack(path)


def show_escapes(run: Run) -> Row:
    """Which descents leave a saddle and which a minimum; pictures of a minimum, a maximum and a saddle with paths."""
    noise, seeds = 0.3, range(20)
    from_saddle = [walk((0, 0), noise, seed)[-1] for seed in seeds]
    from_minimum = [walk((1, 0), noise, seed)[-1] for seed in seeds]
    lingering, escaping = walk((1e-6, 1.0), 0, run.seed), walk((1e-6, 1.0), noise, run.seed)
    figure, panels = new_figure(2, 2, width=5, height=4)
    for panel, (title, function) in zip(panels, (("a minimum: x² + y²", FUNCTIONS["x² + y²"]),
                                                 ("a maximum: −x² − y²", FUNCTIONS["−x² − y²"]),
                                                 ("a saddle between two minima: (x² − 1)² + y²", double_well)),
                                        strict=False):
        draw_contours(panel, function)
        panel.set_title(title)
    for path, label, colour in ((lingering, "exact gradient", "tab:orange"), (escaping, "with noise", "tab:red")):
        panels[2].plot(path[:, 0], path[:, 1], ".-", color=colour, label=label, markersize=4, linewidth=1)
        panels[3].plot([double_well(point) for point in path], color=colour, label=label)
    panels[0].plot(0, 0, "*", color="tab:red", markersize=12)
    panels[1].plot(0, 0, "*", color="tab:red", markersize=12)
    panels[2].legend(fontsize=8)
    panels[3].set(xlabel="update", ylabel="value", title="the two paths: at 1 is the saddle")
    panels[3].grid(alpha=0.3)
    panels[3].legend()
    save_figure(figure, run.folder / "critical_points.png")
    left = next((n for n, point in enumerate(lingering) if point[0].abs() > 0.5), len(lingering))
    print(f"From (0.000001, 1) the exact gradient needs {left} updates to leave the saddle's neighbourhood; with noise "
          f"{next((n for n, point in enumerate(escaping) if point[0].abs() > 0.5), len(escaping))}.")
    return {
        "saddle_escaped": statistics.mean(float(point[0].abs() > 0.5) for point in from_saddle),
        "minimum_escaped": statistics.mean(float(point[0] < 0) for point in from_minimum),
        "lingering_updates": left,
    }


def draw_contours(axes: Axes, function: Function) -> None:
    """Lines of equal value of a function of two numbers, −1.6 to 1.6."""
    axis = torch.linspace(-1.6, 1.6, 121, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    filled = axes.contourf(x, y, function(torch.stack([x, y])), levels=20, cmap="viridis")
    axes.figure.colorbar(filled, ax=axes, shrink=0.8, label="value")
    axes.set(xlabel="x", ylabel="y", aspect="equal")


# Gradients that vanish (2.7)

WIDTH = 32
DEPTHS = (2, 5, 10, 20, 40)
TRAINED_UPDATES, TRAINED_RATE = 600, 0.005


class Layer(nn.Module):
    """A layer of a deep network, B×32 → B×32: F(h) = W·ReLU(h) + b, to which a residual one adds its input h."""

    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.linear, self.residual = nn.Linear(WIDTH, WIDTH), residual

    def forward(self, hidden: Tensor) -> Tensor:
        change: Tensor = self.linear(torch.relu(hidden))
        return hidden + change if self.residual else change


def deep_network(depth: int, residual: bool) -> nn.Sequential:
    """784→32, `depth` layers of 32, 32→10; plain and residual networks have the same number of parameters."""
    return nn.Sequential(nn.Linear(784, WIDTH), *(Layer(residual) for _ in range(depth)), nn.Linear(WIDTH, 10))


def gradient_norms(network: nn.Sequential, data: Digits) -> list[float]:
    """The norm of the loss's gradient with respect to each deep layer's weights, first to last, on 256 samples."""
    device = next(network.parameters()).device
    loss = nn.functional.cross_entropy(network(data.images[:256].to(device)), data.labels[:256].to(device))
    weights = [layer.linear.weight for layer in network if isinstance(layer, Layer)]
    return [slope.norm().item() for slope in torch.autograd.grad(loss, weights)]


def study_depth(run: Run, train: Digits) -> Row:
    """Gradient by layer and training of plain and residual networks of several depths; where the gradient vanishes."""
    figure, panels = new_figure(2, 2, width=6, height=3.6)
    metrics: Row = {}
    rows: list[list[object]] = []
    for column, (kind, residual) in enumerate((("plain", False), ("residual", True))):
        for depth in DEPTHS:
            seed_everything(run.seed)
            network = deep_network(depth, residual).to(run.device)
            norms = gradient_norms(network, train)
            losses = train_deep(run, network, train)
            panels[column].plot(range(1, depth + 1), norms, ".-", label=f"{depth} layers")
            panels[column + 2].plot(range(1, len(losses) + 1), losses, label=f"{depth} layers")
            metrics[f"{kind}_{depth}_ratio"] = norms[0] / norms[-1]
            metrics[f"{kind}_{depth}_loss"] = losses[-1]
            rows.append([kind, depth, f"{norms[0]:.1e}", f"{norms[-1]:.1e}", f"{norms[0] / norms[-1]:.1e}",
                         f"{losses[-1]:.3f}"])
        panels[column].set(title=f"{kind} networks before training", xlabel="layer", yscale="log",
                           ylabel="norm of the gradient")
        panels[column + 2].set(title=f"{kind} networks in training", xlabel="update", ylim=(0, 2.6),
                               ylabel="loss (mean of 20 batches)")
    share_y_limits(panels[:2])
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    save_figure(figure, run.folder / "vanishing.png")
    print_table(f"Depth: gradient of the first and the last layer, and the loss after {TRAINED_UPDATES} updates "
                f"(chance: {math.log(10):.3f})",
                ["network", "layers", "first", "last", "first ÷ last", "loss"], rows)
    return metrics | find_vanishing(run, train)


def train_deep(run: Run, network: nn.Module, train: Digits) -> list[float]:
    """A few hundred updates of plain SGD; the loss of each, averaged over the last 20."""
    first = InMemoryDataset(train.images[: 64 * TRAINED_UPDATES], train.labels[: 64 * TRAINED_UPDATES])
    updates = train_and_watch(network, make_loader(first, 64, shuffle=True, seed=run.seed), nn.CrossEntropyLoss(),
                              torch.optim.SGD(network.parameters(), lr=TRAINED_RATE), epochs=1,
                              watch=lambda _, loss: {"loss": loss.item()})
    losses = [row["loss"] for row in updates]
    return [statistics.mean(losses[max(0, n - 20) : n]) for n in range(1, len(losses) + 1)]


def find_vanishing(run: Run, train: Digits) -> Row:
    """Adds plain layers one at a time until the first one's gradient is below 1% of what it is alone."""
    alone = math.nan
    for depth in range(1, DEPTHS[-1] + 1):
        seed_everything(run.seed)
        norm = gradient_norms(deep_network(depth, residual=False).to(run.device), train)[0]
        alone = norm if depth == 1 else alone
        if norm < 0.01 * alone:
            print(f"Layers added one at a time: with {depth} the first layer's gradient is {norm:.1e}, below 1% of the "
                  f"{alone:.1e} that it has alone.")
            return {"vanishes_at": depth}
    return {"vanishes_at": math.inf}


def check_residual_derivative(run: Run) -> Row:
    """H(x) = F(x) + x, so the derivatives (Jacobians) of H and F differ by the identity: by how much more?"""
    seed_everything(run.seed)
    layer = Layer(residual=True)
    point = torch.randn(WIDTH)
    with_skip = derivatives(layer, point)
    layer.residual = False
    error = (with_skip - derivatives(layer, point) - torch.eye(WIDTH)).abs().max().item()
    return {"residual_derivative_error": error}


# The story


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_data_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def not_tested(args: argparse.Namespace) -> set[str]:
    """The claims that a run on fewer samples does not test."""
    return set() if args.limit is None else {claim.id for claim in CLAIMS if claim.id in TIMED}


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with start_run(__file__, args, argv) as run:
        train, test = load_digits(args, "train"), load_digits(args, "test")
        metrics: Row = compare_descents(run, train, test)
        metrics |= classify_points()
        metrics |= show_escapes(run)
        metrics |= check_residual_derivative(run)
        metrics |= study_depth(run, train)
        verdicts = judge(CLAIMS, metrics, not_tested(args))
        print_claims(CLAIMS, verdicts)
        run.finish(document=2, metrics=metrics, claims=verdicts)
        print(f"Everything is in {run.folder}")


if __name__ == "__main__":
    main()
