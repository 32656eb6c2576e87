"""Document 2, gradients: batch sizes, critical points, vanishing gradients.

    python gradient_demo.py
    python gradient_demo.py --converge  (trains until little is gained)

You learn what an update with all samples, with one or with 64 costs and gains;
what second derivatives say where the gradient is zero, and how descent leaves a
saddle; why gradients vanish in deep networks, and why skip connections help.

Measured on two cores (seeds 0 to 4; of updates and times the median):
* --converge: a loss of 0.1 is reached by update 38,600 with 64 samples, 760
  with all, 320,000 with one; 64 samples take a fifth or a sixth of the others' time.
* 40 layers, gradient of the first ÷ last: plain at most 4e-15, residual 0.6 to 1.5.

The document (document 2 of five) is notes on 刘二大人's PyTorch course. It gives
MNIST and the batch size 64. Chosen here: 784→32→10 units with tanh, a smooth
activation; learning rates, each the best in trials; the deep networks.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap  # gradient; matrix of derivatives; many points at once

from common.cli import add_data_flag, add_run_flags, guarded, make_parser
from common.data import InMemoryDataset, load_images, make_loader
from common.device import seed_everything
from common.rows import Row
from common.runs import Run
from common.start import start_run
from common.terminal import track
from common.training import accuracy_on, evaluate, train_one_epoch
from reports import gradient_convolutions as convolutions
from reports import gradient_demo as report
from reports import gradient_descent as descent_report
from reports import gradient_saddles as saddles

# 1. The data: MNIST's 60,000 training and 10,000 test images, as rows of 784 pixels


@dataclass(frozen=True)
class Digits:
    """Normalised images (float32, N×784) and their labels (int64, N)."""

    images: Tensor
    labels: Tensor


def load_digits(run: Run, split: str) -> Digits:
    """MNIST's training or test images; over the training images the pixels have mean 0, std 1."""
    loaded = load_images("MNIST", split, run.options.data_dir, run.options.limit)
    pixels = loaded.images.flatten(1).float() / 255
    normalised = (pixels - 0.1307) / 0.3081  # mean and std of the training pixels
    return Digits(normalised.to(run.device), loaded.labels.to(run.device))


# 2. The small model: 25,450 parameters, few enough to find the curvatures of its loss


def small_network(run: Run) -> nn.Sequential:
    """Images B×784 → logits B×10; before training, the same weights for all trainings of a run."""
    seed_everything(run.seed)
    model = nn.Sequential(nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10))  # B×784 → B×32 → B×10
    return model.to(run.device)


# 3. Training: gradient descent with all samples, one sample, or 64 samples for each update


@dataclass(frozen=True)
class Experiment:
    """How many samples an update sees, the learning rate, and how many updates are made."""

    batch_size: int
    lr: float
    updates: int


EXPERIMENTS = {  # all samples take the longest
    "all samples": Experiment(60_000, 0.5, 190),
    "one sample": Experiment(1, 0.003, 60_000),
    "64 samples": Experiment(64, 0.01, 35_000),
}
CONVERGING = {  # with --converge, eight times as long
    "all samples": Experiment(60_000, 0.5, 1_520),
    "one sample": Experiment(1, 0.003, 480_000),
    "64 samples": Experiment(64, 0.01, 280_000),
}
GOALS = (0.35, 0.1)  # losses over all training images: how long does each way take to reach them?


@dataclass
class Descent:
    """A training: a row for each evaluation, and a copy of the model at the same moment."""

    history: list[Row] = field(default_factory=list)
    models: list[nn.Module] = field(default_factory=list)


def descend(run: Run, name: str, experiment: Experiment, training: Digits, test: Digits) -> Descent:
    """Trains the small network; seconds: updates × the median time of one, without evaluations."""
    model = small_network(run)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.lr)
    choices = choose_samples(len(training.labels), experiment.batch_size, run)
    evaluated = descent_report.when_to_evaluate(experiment, len(training.labels))
    descent = Descent()
    samples = 0
    durations: list[float] = []
    for update in track(range(1, experiment.updates + 1), f"{name}, updates"):
        chosen = next(choices)
        start = read_clock(run.device)
        images, labels = training.images[chosen], training.labels[chosen]
        logits = model(images)  # 1. forward: what the model answers
        loss = loss_function(logits, labels)  # 2. loss: how wrong the answers are
        loss.backward()  # 3. backward: the gradient of the loss for every parameter
        optimizer.step()  # 4. step: move the parameters against their gradients
        optimizer.zero_grad()  # 5. zero: forget the gradients before the next update
        durations.append(read_clock(run.device) - start)
        samples += len(labels)
        if update in evaluated:
            row: Row = {"updates": update, "samples": samples}
            row |= evaluate(model, [(training.images, training.labels)], {"loss": loss_function})
            row["test_accuracy"] = accuracy_on(model, [(test.images, test.labels)])
            descent.history.append(row)
            descent.models.append(copy.deepcopy(model))
    typical = statistics.median(durations)  # the mean would count what else the computer did
    for row in descent.history:
        row["seconds"] = row["updates"] * typical
    return descent


def choose_samples(count: int, batch_size: int, run: Run) -> Iterator[Tensor | slice]:
    """Yields the sample indices of each update, without end; every epoch in a new order."""
    if batch_size >= count:
        while True:
            yield slice(None)  # all samples, without copying them
    generator = torch.Generator().manual_seed(run.seed)
    while True:
        yield from torch.randperm(count, generator=generator).to(run.device).split(batch_size)


def read_clock(device: torch.device) -> float:
    """Seconds, read when the device has finished what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # a GPU computes while Python goes on
    return time.perf_counter()


# 4. Where the gradient is 0: a minimum, a maximum, or a saddle (up one way, down another)?

Function = Callable[[Tensor], Tensor]  # of a point (x, y), float64


def bowl(point: Tensor) -> Tensor:
    return point[0] ** 2 + point[1] ** 2


def hill(point: Tensor) -> Tensor:
    return -(point[0] ** 2) - point[1] ** 2


def saddle(point: Tensor) -> Tensor:
    return point[0] ** 2 - point[1] ** 2


def double_well(point: Tensor) -> Tensor:
    return (point[0] ** 2 - 1) ** 2 + point[1] ** 2  # minima at (±1, 0), a saddle at (0, 0)


def himmelblau(point: Tensor) -> Tensor:
    return (point[0] ** 2 + point[1] - 11) ** 2 + (point[0] + point[1] ** 2 - 7) ** 2


def monkey_saddle(point: Tensor) -> Tensor:
    return point[0] ** 3 - 3 * point[0] * point[1] ** 2


def flat_bowl(point: Tensor) -> Tensor:
    return point[0] ** 4 + point[1] ** 4


FUNCTIONS: dict[str, Function] = {
    "x² + y²": bowl, "−x² − y²": hill, "x² − y²": saddle, "(x² − 1)² + y²": double_well,
    "Himmelblau": himmelblau, "x³ − 3xy²": monkey_saddle, "x⁴ + y⁴": flat_bowl,
}
ZERO = 1e-3  # a curvature (an eigenvalue of the Hessian, see below) nearer to zero counts as zero


def classify_points() -> list[tuple[str, Tensor, Tensor, str, str]]:
    """Every function's critical points: (function, point, eigenvalues, by the rule, by values)."""
    points = []
    for name, function in FUNCTIONS.items():
        for point in critical_points(function):
            hessian = jacrev(grad(function))(point)  # 2×2: the second derivatives
            eigenvalues = torch.linalg.eigvalsh(hessian)  # least, greatest curvature; > 0: bends up
            answers = by_the_rule(eigenvalues), by_the_values(function, point)
            points.append((name, point, eigenvalues, *answers))
    return points


def critical_points(function: Function) -> list[Tensor]:
    """Where the gradient is zero, for |x|, |y| < 5: Newton's method from 81 starts at once."""
    axis = torch.linspace(-4.5, 4.5, 9, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    gradients_at, hessians_at = vmap(grad(function)), vmap(jacrev(grad(function)))
    for _ in range(60):
        gradients, hessians = gradients_at(points), hessians_at(points)  # 81×2, 81×2×2
        # If the gradient changed at a steady rate, it would be 0 after subtracting the step that
        # solves Hessian · step = gradient. lstsq finds it, also where the Hessian has no inverse.
        points = points - torch.linalg.lstsq(hessians, gradients[..., None]).solution[..., 0]
    arrived = (gradients_at(points).norm(dim=1) < 1e-6) & (points.abs().amax(dim=1) < 5)
    found: list[Tensor] = []
    for point in points[arrived]:  # several starts reach the same point; keep one
        if all((point - other).norm() >= 0.05 for other in found):
            found.append(point)
    return found


def by_the_rule(eigenvalues: Tensor) -> str:
    """The notes' rule: all positive, a minimum; all negative, a maximum; both signs, a saddle."""
    smallest, largest = eigenvalues.min(), eigenvalues.max()
    if smallest > ZERO:
        return "minimum"
    if largest < -ZERO:
        return "maximum"
    return "saddle" if smallest < -ZERO and largest > ZERO else "no answer"


def by_the_values(function: Function, point: Tensor) -> str:
    """Minimum, maximum or saddle, from the function's values on a small circle around the point."""
    angles = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
    circle = point + 0.1 * torch.stack([angles.cos(), angles.sin()], 1)
    differences = vmap(function)(circle) - function(point)
    if (differences > 0).all():
        return "minimum"
    return "maximum" if (differences < 0).all() else "saddle"


# 5. Leaving a saddle: with the exact gradient, and with a noisy one, like that of one sample

NOISE = 0.3  # standard deviation of the noise added to each number of the gradient
BESIDE = (1e-6, 1.0)  # almost on the line x = 0, on which the exact gradient leads to the saddle


def try_to_escape(run: Run) -> dict[str, Tensor]:
    """Paths (201×2): 20 from the saddle (0, 0), 20 from a minimum (1, 0), two from BESIDE."""
    return {
        "from the saddle": walk((0, 0), NOISE, range(20)),
        "from a minimum": walk((1, 0), NOISE, range(20)),
        "exact gradient": walk(BESIDE, 0, [run.seed])[0],
        "with noise": walk(BESIDE, NOISE, [run.seed])[0],
    }


def walk(start: tuple[float, float], noise: float, seeds: Sequence[int]) -> Tensor:
    """200 updates on the double well, with each seed its own normal noise; the paths (N×201×2)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    gradients_at = vmap(grad(double_well))
    points = torch.tensor([start], dtype=torch.float64).repeat(len(seeds), 1)  # N×2
    path = [points]
    for _ in range(200):
        random = [torch.randn(2, generator=own, dtype=torch.float64) for own in generators]
        points = points - 0.05 * (gradients_at(points) + noise * torch.stack(random))
        path.append(points)
    return torch.stack(path, 1)


# 6. Vanishing gradients: backward() multiplies, layer by layer; what is left at the first layer?

WIDTH, DEPTHS = 32, (2, 5, 10, 20, 40)
TRAINED_UPDATES, TRAINED_LR = 600, 0.005
VANISHED = 0.01  # a gradient below 1% of its value in a one-layer network counts as vanished


class Layer(nn.Module):
    """A layer of a deep network: plain H(h) = F(h), or residual H(h) = F(h) + h (h skips F)."""

    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.linear, self.residual = nn.Linear(WIDTH, WIDTH), residual

    def change(self, hidden: Tensor) -> Tensor:  # B×32
        """F(h) = W·ReLU(h) + b."""
        changed: Tensor = self.linear(torch.relu(hidden))  # B×32
        return changed

    def forward(self, hidden: Tensor) -> Tensor:  # B×32
        change = self.change(hidden)  # B×32
        return hidden + change if self.residual else change  # B×32


def deep_network(depth: int, residual: bool) -> nn.Sequential:
    """784→32, `depth` layers of 32, 32→10; plain and residual ones have equally many parameters."""
    input_layer = nn.Linear(784, WIDTH)  # created first: the same at every depth
    layers = [Layer(residual) for _ in range(depth)]
    return nn.Sequential(input_layer, *layers, nn.Linear(WIDTH, 10))


def gradient_norms(model: nn.Sequential, data: Digits) -> list[float]:
    """The gradient's norm (root of the sum of its squares) on 256 samples, for the weights of each
    32→32 layer, first to last (without the input and output layer)."""
    loss = nn.functional.cross_entropy(model(data.images[:256]), data.labels[:256])
    weights = [layer.linear.weight for layer in model if isinstance(layer, Layer)]
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]


def compare_depths(run: Run, training: Digits) -> list[tuple[str, int, list[float], list[float]]]:
    """For each deep network (kind, layers, gradient norms before training, losses in training)."""
    networks = []
    for kind, depth in track([*product(("plain", "residual"), DEPTHS)], "deep networks"):
        seed_everything(run.seed)
        model = deep_network(depth, residual=kind == "residual").to(run.device)
        gradients = gradient_norms(model, training)
        networks.append((kind, depth, gradients, train_deep(run, model, training)))
    return networks


def train_deep(run: Run, model: nn.Module, training: Digits) -> list[float]:
    """Trains with SGD for at most 600 updates; returns the loss of each."""
    count = 64 * TRAINED_UPDATES
    data = InMemoryDataset(training.images[:count].cpu(), training.labels[:count].cpu())
    batches = make_loader(data, 64, shuffle=True, seed=run.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=TRAINED_LR)
    losses: list[float] = []
    train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer,
                    after_step=lambda _, loss: losses.append(loss.item()))  # fmt: skip
    return losses


def add_layers(run: Run, training: Digits) -> list[float]:
    """The first layer's gradient norm with 1, 2, … plain layers, until it has vanished."""
    norms: list[float] = []
    for depth in range(1, DEPTHS[-1] + 1):
        seed_everything(run.seed)
        model = deep_network(depth, residual=False).to(run.device)
        norms.append(gradient_norms(model, training)[0])
        if norms[-1] < VANISHED * norms[0]:
            break
    return norms


def residual_derivative_error(run: Run) -> float:
    """H′ = F′ + 1: past F a gradient flows unchanged. How far H′ − F′ is from the identity."""
    seed_everything(run.seed)
    layer, point = Layer(residual=True), torch.randn(WIDTH)
    difference = jacrev(layer)(point) - jacrev(layer.change)(point)
    return float((difference - torch.eye(WIDTH)).detach().abs().max())


# 7. Options and main


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--converge", action="store_true",
                        help="train eight times as long, and look for saddles on the way")
    add_data_flag(parser)
    add_run_flags(parser, device="cpu")
    return parser.parse_args(argv)


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    experiments = CONVERGING if options.converge else EXPERIMENTS
    threads = None if options.converge else 1  # None: all cores; faster with all samples
    with start_run(__file__, options, argv, threads=threads) as run:
        training, test = load_digits(run, "train"), load_digits(run, "test")
        descents = {name: descend(run, name, experiment, training, test)
                    for name, experiment in experiments.items()}
        histories = {name: descent.history for name, descent in descents.items()}
        descent_report.descents(run, experiments, histories, len(training.labels), GOALS)
        report.critical_points(run, classify_points())
        saddles.ends(run, descents, training, by_the_rule)
        if options.converge:
            saddles.met(run, descents, small_network(run), training)
        report.escapes(run, try_to_escape(run), bowl, hill, double_well)
        report.residual_derivative(run, residual_derivative_error(run))
        networks = compare_depths(run, training)
        report.depths(run, networks)
        finding = report.added_layers(run, add_layers(run, training), VANISHED)
        convolutions.vanishing(run, training, VANISHED)
        ending = report.ending(histories, GOALS[0], networks, finding)
        run.finish(document=2, claims=report.CLAIMS, ending=ending)


if __name__ == "__main__":
    main()
