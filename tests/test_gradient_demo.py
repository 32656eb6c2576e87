"""Document 2's gradients: derivatives and eigenvalues against hand and NumPy, and the story from end to end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradient_demo
from gradient_demo import (
    CLAIMS,
    FUNCTIONS,
    Descent,
    Digits,
    Layer,
    by_the_rule,
    by_the_values,
    critical_points,
    deep_network,
    descend,
    extreme_eigenvalues,
    gradient_norms,
    main,
    second_derivatives,
    small_network,
    walk,
)
from tests.conftest import Call, make_run, read_summary


def few_digits(count: int = 50) -> Digits:
    generator = torch.Generator().manual_seed(0)
    return Digits(torch.randn(count, 784, generator=generator), torch.arange(count) % 10)


def test_one_update_with_all_samples_equals_numpy(tmp_path: Path) -> None:
    data = few_digits()
    torch.manual_seed(0)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in small_network().parameters())
    network, _ = descend(make_run(tmp_path), Descent(60_000, 0.5, 1), data, data)
    x, y = data.images.double().numpy(), np.eye(10)[data.labels.numpy()]
    hidden = np.tanh(x @ w1.T + b1)
    scores = np.exp(hidden @ w2.T + b2)
    error = (scores / scores.sum(1, keepdims=True) - y) / len(x)
    back = error @ w2 * (1 - hidden**2)
    slopes = (back.T @ x, back.sum(0), error.T @ hidden, error.sum(0))
    for parameter, before, slope in zip(network.parameters(), (w1, b1, w2, b2), slopes, strict=True):
        assert np.allclose(parameter.detach().numpy(), before - 0.5 * slope, atol=1e-6)


def test_descents_count_updates_and_samples(tmp_path: Path) -> None:
    data = few_digits()
    for way in (Descent(1, 0.01, 120), Descent(64, 0.1, 7), Descent(20, 0.1, 7), Descent(60_000, 0.1, 5)):
        _, rows = descend(make_run(tmp_path), way, data, data)
        assert rows[-1]["updates"] == way.updates
        assert rows[-1]["samples"] == way.updates * min(way.batch_size, 50)
        assert rows[-1]["loss"] < rows[0]["loss"]


def test_extreme_eigenvalues_equal_those_of_the_whole_hessian() -> None:
    torch.manual_seed(0)
    network, data = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), few_digits(30)
    data = Digits(data.images[:, :4], data.labels % 3)
    shapes = [p.shape for p in network.parameters()]
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])

    def loss_of(weights: torch.Tensor) -> torch.Tensor:
        pieces = weights.split([shape.numel() for shape in shapes])
        w1, b1, w2, b2 = (piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True))
        return nn.functional.cross_entropy(torch.tanh(data.images @ w1.T + b1) @ w2.T + b2, data.labels)

    eigenvalues = np.linalg.eigvalsh(second_derivatives(loss_of, flat).numpy())
    smallest, largest, norm = extreme_eigenvalues(network, data)
    assert (smallest, largest) == pytest.approx((eigenvalues[0], eigenvalues[-1]), abs=1e-3)
    slope = torch.autograd.grad(loss_of(flat.requires_grad_()), flat)[0]
    assert norm == pytest.approx(slope.norm().item(), rel=1e-4)


def test_critical_points_of_himmelblau() -> None:
    """Known: minima at (3, 2), (−2.805, 3.131), (−3.779, −3.283), (3.584, −1.848), a maximum at (−0.271, −0.923)."""
    found: dict[str, list[list[float]]] = {"minimum": [], "maximum": [], "saddle": []}
    for point in critical_points(FUNCTIONS["Himmelblau"]):
        kind = by_the_rule(torch.linalg.eigvalsh(second_derivatives(FUNCTIONS["Himmelblau"], point)))
        assert kind == by_the_values(FUNCTIONS["Himmelblau"], point)
        found[kind].append([round(value, 3) for value in point.tolist()])
    assert sorted(found["minimum"]) == [[-3.779, -3.283], [-2.805, 3.131], [3.0, 2.0], [3.584, -1.848]]
    assert found["maximum"] == [[-0.271, -0.923]]
    assert len(found["saddle"]) == 4


@pytest.mark.parametrize(
    ("eigenvalues", "word"),
    [((1, 2), "minimum"), ((-1, -2), "maximum"), ((-1, 2), "saddle"), ((0, 0), "silent"), ((0, 2), "silent")],
)
def test_the_rule(eigenvalues: tuple[float, float], word: str) -> None:
    assert by_the_rule(torch.tensor(eigenvalues, dtype=torch.float64)) == word


def test_a_saddle_is_left_with_noise_and_not_without() -> None:
    assert walk((0.0, 1.0), 0, 0)[-1].abs().max() < 1e-6, "on the ridge the exact gradient ends in the saddle"
    assert abs(float(walk((0.0, 1.0), 0.3, 0)[-1][0])) > 0.5
    assert float(walk((1.0, 0.0), 0.3, 0)[-1][0]) > 0.5


def test_plain_and_residual_networks_have_the_same_size_and_differ_by_the_input() -> None:
    sizes = [sum(p.numel() for p in deep_network(7, residual).parameters()) for residual in (False, True)]
    assert sizes[0] == sizes[1] == 784 * 32 + 32 + 7 * (32 * 32 + 32) + 32 * 10 + 10
    torch.manual_seed(0)
    layer, hidden = Layer(residual=True), torch.randn(3, 32)
    with_skip = layer(hidden)
    layer.residual = False
    assert torch.equal(with_skip, hidden + layer(hidden))


def test_gradients_by_layer_vanish_in_plain_networks_only() -> None:
    data = few_digits(256)
    torch.manual_seed(0)
    norms = {residual: gradient_norms(deep_network(20, residual), data) for residual in (False, True)}
    assert all(len(values) == 20 for values in norms.values())
    assert all(earlier < later for earlier, later in itertools.pairwise(norms[False]))
    assert norms[False][0] < 1e-4 * norms[False][-1]
    assert norms[True][0] > 0.1 * norms[True][-1]


def test_the_story_leaves_a_complete_run(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: Descent(way.batch_size, way.lr, 60) for name, way in gradient_demo.DESCENTS.items()}
    monkeypatch.setattr(gradient_demo, "DESCENTS", short)
    monkeypatch.setattr(gradient_demo, "DEPTHS", (2, 40))
    monkeypatch.setattr(gradient_demo, "TRAINED_UPDATES", 40)
    monkeypatch.setattr(gradient_demo, "extreme_eigenvalues", lambda *_: (-1.0, 1.0, 0.1))  # it has its own test
    code, out, err = call(main, "--limit", 300, "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert {path.stem for path in tmp_path.glob("*.png")} == {"descent", "critical_points", "vanishing"}
    summary = read_summary(tmp_path)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in CLAIMS]
    assert {verdicts[f"2.2{letter}"] for letter in "abcdefg"} == {"not run"}
    assert (verdicts["2.2h"], verdicts["2.3b"]) == ("not reproduced", "not reproduced")
    assert all(verdicts[name] == "reproduced" for name in ("2.3a", "2.3c", "2.3d", "2.7a", "2.7b", "2.7c", "2.7d"))
    assert "Himmelblau" in out


def test_it_has_no_flags_that_would_mean_nothing(refused: Callable[..., str]) -> None:
    assert "unrecognized arguments: --epochs" in refused(main, "--epochs", 3)
    assert "unrecognized arguments: --resume" in refused(main, "--resume")


def test_a_finished_run_is_replaced_only_on_request(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"script": "gradient_demo.py", "options": {}}')
    (tmp_path / "run" / "summary.json").write_text("{}")
    assert "holds a finished run; --overwrite replaces it" in refused(main, "--out-dir", tmp_path / "run")
