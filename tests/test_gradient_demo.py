"""Document 2's gradients: derivatives and eigenvalues against hand and NumPy, and a whole run."""

from __future__ import annotations

import io
import itertools
import json
import math
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad, jacrev

import gradient_demo
from gradient_demo import (
    EXPERIMENTS,
    FUNCTIONS,
    VANISHED,
    Digits,
    Experiment,
    Layer,
    add_layers,
    by_the_rule,
    by_the_values,
    choose_samples,
    classify_points,
    critical_points,
    deep_network,
    descend,
    double_well,
    extreme_eigenvalues,
    gradient_norms,
    himmelblau,
    main,
    residual_derivative_error,
    small_network,
    walk,
)
from reports import gradient_demo as report
from tests.conftest import make_run, read_summary


def few_digits(count: int = 50) -> Digits:
    generator = torch.Generator().manual_seed(0)
    return Digits(torch.randn(count, 784, generator=generator), torch.arange(count) % 10)


def test_one_update_with_all_samples_equals_numpy(tmp_path: Path) -> None:
    data = few_digits()
    torch.manual_seed(0)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in small_network().parameters())
    model, _ = descend(make_run(tmp_path), "all", Experiment(60_000, 0.5, 1), data, data)
    x, y = data.images.double().numpy(), np.eye(10)[data.labels.numpy()]
    hidden = np.tanh(x @ w1.T + b1)
    scores = np.exp(hidden @ w2.T + b2)
    error = (scores / scores.sum(1, keepdims=True) - y) / len(x)
    back = error @ w2 * (1 - hidden**2)
    slopes = (back.T @ x, back.sum(0), error.T @ hidden, error.sum(0))
    for parameter, before, slope in zip(model.parameters(), (w1, b1, w2, b2), slopes, strict=True):
        assert np.allclose(parameter.detach().numpy(), before - 0.5 * slope, atol=1e-6)


@pytest.mark.parametrize(
    ("experiment", "samples"),
    [
        (Experiment(1, 0.01, 120), 120),
        (Experiment(64, 0.1, 7), 7 * 50),
        (Experiment(20, 0.1, 7), 20 + 20 + 10 + 20 + 20 + 10 + 20),
        (Experiment(60_000, 0.1, 5), 5 * 50),
    ],
    ids=lambda value: value.batch_size if isinstance(value, Experiment) else None,
)
def test_descents_count_updates_and_samples(
    experiment: Experiment, samples: int, tmp_path: Path
) -> None:
    data = few_digits()
    _, history = descend(make_run(tmp_path), "", experiment, data, data)
    assert history[-1]["updates"] == experiment.updates
    assert history[-1]["samples"] == samples
    assert history[-1]["loss"] < history[0]["loss"]
    for column in ("updates", "samples", "seconds"):
        assert all(before[column] < after[column] for before, after in itertools.pairwise(history))


def test_every_epoch_has_all_samples_in_another_order(tmp_path: Path) -> None:
    choices = choose_samples(50, 20, make_run(tmp_path))
    epochs = []
    for _ in range(2):
        chosen = []
        for size in (20, 20, 10):
            indices = next(choices)
            assert isinstance(indices, torch.Tensor)
            assert len(indices) == size
            chosen.append(indices)
        epochs.append(torch.cat(chosen))
    assert all(torch.equal(order.sort().values, torch.arange(50)) for order in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_extreme_eigenvalues_equal_those_of_the_whole_hessian() -> None:
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), few_digits(30)
    data = Digits(data.images[:, :4], data.labels % 3)
    shapes = [p.shape for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss_of(weights: torch.Tensor) -> torch.Tensor:
        pieces = weights.split([shape.numel() for shape in shapes])
        w1, b1, w2, b2 = (piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True))
        logits = torch.tanh(data.images @ w1.T + b1) @ w2.T + b2
        return nn.functional.cross_entropy(logits, data.labels)

    eigenvalues = np.linalg.eigvalsh(jacrev(grad(loss_of))(flat).numpy())
    smallest, largest, norm = extreme_eigenvalues(model, data)
    assert (smallest, largest) == pytest.approx((eigenvalues[0], eigenvalues[-1]), abs=1e-3)
    gradient = torch.autograd.grad(loss_of(flat.requires_grad_()), flat)[0]
    assert norm == pytest.approx(gradient.norm().item(), rel=1e-4)


def test_critical_points_of_himmelblau() -> None:
    """Known: minima at (3, 2), (−2.805, 3.131), (−3.779, −3.283), (3.584, −1.848), a maximum at
    (−0.271, −0.923)."""
    found: dict[str, list[list[float]]] = {"minimum": [], "maximum": [], "saddle": []}
    for point in critical_points(himmelblau):
        kind = by_the_rule(torch.linalg.eigvalsh(jacrev(grad(himmelblau))(point)))
        assert kind == by_the_values(himmelblau, point)
        found[kind].append([round(value, 3) for value in point.tolist()])
    assert sorted(found["minimum"]) == [
        [-3.779, -3.283], [-2.805, 3.131], [3.0, 2.0], [3.584, -1.848]
    ]  # fmt: skip
    assert found["maximum"] == [[-0.271, -0.923]]
    assert len(found["saddle"]) == 4


def test_sixteen_critical_points_and_two_without_an_answer() -> None:
    points = classify_points()
    assert len(points) == 16
    assert {name for name, *_ in points} == {*FUNCTIONS}
    unanswered = {name: values for name, _, _, rule, values in points if rule == "no answer"}
    assert unanswered == {"x³ − 3xy²": "saddle", "x⁴ + y⁴": "minimum"}


@pytest.mark.parametrize(
    ("eigenvalues", "word"),
    [
        ((1, 2), "minimum"),
        ((-1, -2), "maximum"),
        ((-1, 2), "saddle"),
        ((0, 0), "no answer"),
        ((0, 2), "no answer"),
        ((-2, 0), "no answer"),
    ],
)
def test_the_rule(eigenvalues: tuple[float, float], word: str) -> None:
    assert by_the_rule(torch.tensor(eigenvalues, dtype=torch.float64)) == word


def test_a_saddle_is_left_with_noise_and_not_without() -> None:
    on_the_ridge = walk((0.0, 1.0), 0, 0)
    assert on_the_ridge.shape == (201, 2)
    assert on_the_ridge[-1].abs().max() < 1e-6, "there the exact gradient ends in the saddle"
    assert abs(float(walk((0.0, 1.0), 0.3, 0)[-1][0])) > 0.5
    assert float(walk((1.0, 0.0), 0.3, 0)[-1][0]) > 0.5


def test_a_walk_takes_the_steps_of_gradient_descent() -> None:
    path = walk((0.5, 1.0), 0, 0)
    x, y = path[0].tolist()
    gradient = np.array([4 * x * (x**2 - 1), 2 * y])
    assert path[1].numpy() == pytest.approx(np.array([x, y]) - 0.05 * gradient)
    values = [float(double_well(point)) for point in path]
    assert all(before >= after for before, after in itertools.pairwise(values))


def test_updates_to_leave() -> None:
    path = torch.tensor([[0.0, 1.0], [0.5, 0.0], [-0.6, 0.0], [0.0, 0.0]])
    assert report.updates_to_leave(path) == 2
    assert report.updates_to_leave(path[:2]) == 2, "one more than the updates if it never leaves"


def test_plain_and_residual_networks_have_the_same_size_and_differ_by_the_input() -> None:
    sizes = []
    for residual in (False, True):
        sizes.append(sum(p.numel() for p in deep_network(7, residual).parameters()))
    assert sizes[0] == sizes[1] == 784 * 32 + 32 + 7 * (32 * 32 + 32) + 32 * 10 + 10
    torch.manual_seed(0)
    layer, hidden = Layer(residual=True), torch.randn(3, 32)
    with_skip = layer(hidden)
    layer.residual = False
    assert torch.equal(with_skip, hidden + layer(hidden))
    assert torch.equal(layer(hidden), layer.change(hidden))


def test_gradients_by_layer_vanish_in_plain_networks_only() -> None:
    data = few_digits(256)
    torch.manual_seed(0)
    norms = {kind: gradient_norms(deep_network(20, kind), data) for kind in (False, True)}
    assert all(len(values) == 20 for values in norms.values())
    assert all(earlier < later for earlier, later in itertools.pairwise(norms[False]))
    assert norms[False][0] < 1e-4 * norms[False][-1]
    assert norms[True][0] > 0.1 * norms[True][-1]


def test_layers_are_added_until_the_gradient_has_vanished(tmp_path: Path) -> None:
    norms = add_layers(make_run(tmp_path), few_digits(256))
    assert 2 <= len(norms) <= 40
    assert norms[-1] < VANISHED * norms[0] <= min(norms[:-1])


def test_the_residual_derivative_is_larger_by_one(tmp_path: Path) -> None:
    assert residual_derivative_error(make_run(tmp_path)) <= 1e-5


def test_what_added_layers_say_and_measure(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sentence = report.added_layers(run, [1.0, 0.1, 0.001], 0.01)
    assert sentence == (
        "With 3 plain layers, the gradient of the first layer is below 1% of its value with one "
        "layer."
    )
    assert run.metrics["vanishes_at"] == 3
    assert "is not below 1% of" in report.added_layers(run, [1.0, 0.5], 0.01)
    assert run.metrics["vanishes_at"] == math.inf


def test_the_ending_names_only_what_was_reached() -> None:
    history = [{"loss": 0.5, "seconds": 1.0}, {"loss": 0.35, "seconds": 2.0}]
    slower = [{"loss": 0.3, "seconds": 4.0}]
    networks = [("plain", 2, [1.0, 2.0], [1.0]), ("residual", 2, [1.0, 2.0], [1.0])]
    histories = {"all samples": slower, "one sample": history[:1], "64 samples": history}
    said = report.ending(histories, 0.35, networks, "")
    assert "Fastest to a loss of 0.35 in this run: 64 samples (2.00 s), then all samples" in said
    assert "A loss of 0.35 was not reached with one sample." in said
    assert "Fastest" not in report.ending({"one sample": history[:1]}, 0.35, networks, "")


def test_last_means() -> None:
    assert report.last_means([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run; beside it stands what was printed, in `out.txt` and `err.txt`."""
    folder: Path = tmp_path_factory.mktemp("gradient") / "run"
    out, err = io.StringIO(), io.StringIO()
    short = {name: replace(experiment, updates=60) for name, experiment in EXPERIMENTS.items()}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(gradient_demo, "EXPERIMENTS", short)
        patch.setattr(gradient_demo, "DEPTHS", (2, 40))
        patch.setattr(gradient_demo, "TRAINED_UPDATES", 40)
        patch.setattr(gradient_demo, "extreme_eigenvalues", few_eigenvalues)
        main(["--limit", "300", "--out-dir", str(folder)])
    (folder.parent / "out.txt").write_text(out.getvalue(), encoding="utf-8")
    (folder.parent / "err.txt").write_text(err.getvalue(), encoding="utf-8")
    return folder


def few_eigenvalues(model: nn.Module, data: Digits) -> tuple[float, float, float]:
    """In the place of `extreme_eigenvalues`, which has its own test."""
    return -1.0, 1.0, 0.1


def test_the_story_leaves_a_complete_run(finished: Path) -> None:
    figures = {path.stem for path in finished.glob("*.png")}
    assert figures == {"descent", "critical_points", "vanishing"}
    summary = read_summary(finished)
    assert (summary["script"], summary["document"]) == ("gradient_demo.py", 2)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in report.CLAIMS]
    assert {verdicts[f"2.2{letter}"] for letter in "abcdefg"} == {"not run"}
    assert (verdicts["2.2h"], verdicts["2.3b"]) == ("not reproduced", "not reproduced")
    for name in ("2.3a", "2.3c", "2.3d", "2.7a", "2.7b", "2.7c", "2.7d"):
        assert verdicts[name] == "reproduced"
    assert summary["metrics"]["single_smallest_eigenvalue"] == -1
    assert {claim.metric for claim in report.CLAIMS} <= {*summary["metrics"]}


def test_what_a_run_prints(finished: Path) -> None:
    assert (finished.parent / "err.txt").read_text(encoding="utf-8") == ""
    printed = (finished.parent / "out.txt").read_text(encoding="utf-8")
    assert "Himmelblau" in printed
    assert "silent" not in printed
    assert printed.index("Rule: all eigenvalues positive") < printed.index("signs suggest")
    assert "Next: python mnist_cnn.py" in printed
    assert max(len(line) for line in printed.splitlines() if str(finished) not in line) <= 80


def test_a_finished_run_is_replaced_only_on_request(
    finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    message = refused(main, "--out-dir", folder)
    assert "holds a finished run; --overwrite replaces it" in message
    assert json.loads((folder / "config.json").read_text())["options"]["limit"] == 300


def test_it_has_no_flags_that_would_mean_nothing(refused: Callable[..., str]) -> None:
    assert "unrecognized arguments: --epochs" in refused(main, "--epochs", 3)
    assert "unrecognized arguments: --resume" in refused(main, "--resume")
