"""The training loop against NumPy and by its contracts: weighting, modes, checkpoints, exact resume."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import common.training
from common.data import InMemoryDataset, make_loader
from common.errors import UsageError
from common.training import Diverged, evaluate, fit, predict, train_one_epoch
from tests.conftest import make_run


def line_data(count: int = 11) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(5))
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_epoch_of_gradient_descent_equals_numpy(reduction: str) -> None:
    """Eleven examples in batches of four: the last batch has three."""
    inputs, targets = line_data()
    model = nn.Linear(3, 1)
    weights, bias = model.weight.detach().numpy().copy().T, model.bias.detach().numpy().copy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = make_loader(InMemoryDataset(inputs, targets), 4)
    loss = train_one_epoch(model, loader, nn.MSELoss(reduction=reduction), optimizer)

    total = 0.0
    for start in range(0, 11, 4):
        x, y = inputs.numpy()[start : start + 4], targets.numpy()[start : start + 4]
        errors = x @ weights + bias - y
        total += float((errors**2).sum())
        scale = 2 / len(x) if reduction == "mean" else 2
        weights, bias = weights - 0.05 * scale * x.T @ errors, bias - 0.05 * scale * errors.sum(0)
    assert loss == pytest.approx(total / 11, rel=1e-5)
    np.testing.assert_allclose(model.weight.detach().numpy().T, weights, rtol=1e-5)
    np.testing.assert_allclose(model.bias.detach().numpy(), bias, rtol=1e-5)


def test_a_penalty_is_part_of_the_loss_and_of_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    batches = [(torch.zeros(1, 1), torch.zeros(1, 1))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = train_one_epoch(model, batches, nn.MSELoss(), optimizer, penalty=lambda m: (m.weight**2).sum())
    assert loss == pytest.approx(4.0)
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 4.0)


def test_modes_are_set_and_restored() -> None:
    seen: list[bool] = []

    class Watcher(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(self.training)
            return super().forward(inputs)

    model = Watcher(3, 1).eval()
    loader = make_loader(InMemoryDataset(*line_data()), 20)
    train_one_epoch(model, loader, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert seen == [True]
    assert not model.training
    model.train()
    predict(model, loader)
    assert seen == [True, False]
    assert model.training


def test_predictions_keep_the_order_of_the_examples() -> None:
    inputs, targets = line_data()
    model = nn.Linear(3, 1)
    outputs, returned = predict(model, make_loader(InMemoryDataset(inputs, targets), 4))
    torch.testing.assert_close(outputs, model(inputs).detach())
    assert torch.equal(returned, targets)
    scores = evaluate(model, make_loader(InMemoryDataset(inputs, targets), 4), {"mse": nn.MSELoss()})
    assert scores["mse"] == pytest.approx(((model(inputs) - targets) ** 2).mean().item())


def test_nothing_to_train_or_predict_on_is_refused() -> None:
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="no batch"):
        train_one_epoch(model, [], nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="no batch"):
        predict(model, [])


class Interrupted(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def train(folder: Path, epochs: int, *, resume: bool = False, stop_after: int | None = None) -> dict[str, Any]:
    """Trains a network with dropout and batch norm by Adam and a scheduler that looks at a score."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
    data = InMemoryDataset(*line_data())
    loader = make_loader(data, 4, shuffle=True, seed=3)

    def validate(model: nn.Module) -> dict[str, float]:
        if stop_after is not None and validate.calls == stop_after:  # type: ignore[attr-defined]
            raise Interrupted
        validate.calls += 1  # type: ignore[attr-defined]
        return evaluate(model, make_loader(data, 4), {"mse": nn.MSELoss()})

    validate.calls = 0  # type: ignore[attr-defined]
    history = fit(
        model, loader, nn.MSELoss(), optimizer, epochs=epochs, run=make_run(folder, resume=resume), validate=validate,
        scheduler=scheduler, schedule_on="mse",
    )  # fmt: skip
    return {"history": history, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader}


def numbers(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("done", [0, 1, 4])
def test_an_interrupted_training_ends_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    monkeypatch.setattr(common.training, "CHECKPOINT_SECONDS", 0)
    whole = train(tmp_path / "whole", 6)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", 6, stop_after=done)
    torch.rand(7)  # other draws in between must not matter
    parts = train(tmp_path / "parts", 6, resume=True)

    assert numbers(parts["history"]) == numbers(whole["history"])
    assert len({row["lr"] for row in whole["history"]}) > 1, "the scheduler never acted: this test shows nothing of it"
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name
    for index, state in whole["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(parts["optimizer"]["state"][index][name], value), name
    with (tmp_path / "parts" / "metrics.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    first = train(tmp_path, 3)
    again = train(tmp_path, 3, resume=True, stop_after=0)
    assert again["history"] == first["history"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = make_loader(InMemoryDataset(*line_data()), 4)
    with pytest.raises(UsageError, match="does not fit this network"):
        fit(model, loader, nn.MSELoss(), optimizer, epochs=2, run=make_run(tmp_path, resume=True))


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    model = nn.Linear(3, 1)
    loader = make_loader(InMemoryDataset(*line_data()), 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(Diverged, match="epoch 1"):
        fit(model, loader, nn.MSELoss(), optimizer, epochs=2, run=make_run(tmp_path))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_without_a_terminal_each_epoch_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, 3)
    captured = capsys.readouterr()
    assert [line.split()[2] for line in captured.out.splitlines()] == ["1/3", "2/3", "3/3"]
    assert captured.err == ""
