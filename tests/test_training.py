"""The five steps and the scoring, against NumPy and by their contracts. No run folder anywhere."""

from __future__ import annotations

import functools
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.data import InMemoryDataset, make_loader
from common.training import accuracy_on, evaluate, mean_loss, predict, train_one_epoch


def line_data(count: int = 11) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(5))
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_epoch_of_gradient_descent_equals_numpy(reduction: str, wrapped: bool) -> None:
    """Eleven examples in batches of four: the last has three. A wrapped loss reports the same."""
    inputs, targets = line_data()
    model = nn.Linear(3, 1)
    weights, bias = model.weight.detach().numpy().copy().T, model.bias.detach().numpy().copy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batches = make_loader(InMemoryDataset(inputs, targets), 4)
    loss_function = nn.MSELoss(reduction=reduction)
    chosen = functools.partial(loss_function) if wrapped else loss_function
    loss = train_one_epoch(model, batches, chosen, optimizer, reduction=reduction)

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


def test_a_penalty_in_the_loss_is_part_of_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets) + (model.weight**2).sum()

    loss = train_one_epoch(model, [(torch.zeros(1, 1), torch.zeros(1, 1))], penalised, optimizer)
    assert loss == pytest.approx(4.0)
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 4.0)


def test_each_step_is_shown_to_who_watches() -> None:
    model, seen = nn.Linear(3, 1), []
    batches = make_loader(InMemoryDataset(*line_data()), 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = train_one_epoch(
        model, batches, nn.MSELoss(), optimizer, after_step=lambda *step: seen.append(step)
    )
    assert [tuple(outputs.shape) for outputs, _ in seen] == [(4, 1), (4, 1), (3, 1)]
    assert not any(tensor.requires_grad for step in seen for tensor in step)
    assert mean_loss([loss.item() for _, loss in seen], [4, 4, 3]) == loss


def test_on_a_cpu_no_loss_tensor_is_kept_until_the_end_of_the_epoch() -> None:
    """A study's process took 6 GB, not 1: kept tensors stood between freed weight matrices."""
    model, seen = nn.Linear(3, 1), []

    def watched(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(outputs, targets)
        seen.append(weakref.ref(loss.untyped_storage()))
        return loss

    batches = make_loader(InMemoryDataset(*line_data()), 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    alive: list[int] = []
    train_one_epoch(
        model, batches, watched, optimizer,
        after_step=lambda *_: alive.append(sum(storage() is not None for storage in seen)),
    )  # fmt: skip
    assert alive == [1, 1, 1]


def test_modes_are_set_and_restored() -> None:
    seen: list[bool] = []

    class Watcher(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(self.training)
            return super().forward(inputs)

    model = Watcher(3, 1).eval()
    batches = make_loader(InMemoryDataset(*line_data()), 20)
    train_one_epoch(model, batches, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert seen == [True]
    assert not model.training
    model.train()
    predict(model, batches)
    assert seen == [True, False]
    assert model.training


def test_predictions_keep_the_order_of_the_examples() -> None:
    inputs, targets = line_data()
    model = nn.Linear(3, 1)
    batches = make_loader(InMemoryDataset(inputs, targets), 4)
    outputs, returned = predict(model, batches)
    torch.testing.assert_close(outputs, model(inputs).detach())
    assert torch.equal(returned, targets)
    scores = evaluate(model, batches, {"mse": nn.MSELoss()})
    assert scores["mse"] == pytest.approx(((model(inputs) - targets) ** 2).mean().item())


def test_accuracy_on_batches_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    batches = make_loader(InMemoryDataset(logits, torch.tensor([0, 0, 0])), 2)
    model = nn.Linear(2, 2, bias=False)
    nn.init.eye_(model.weight)
    assert accuracy_on(model, batches) == 2 / 3


def test_nothing_to_train_or_predict_on_is_refused() -> None:
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="no batch"):
        train_one_epoch(model, [], nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="no batch"):
        predict(model, [])
    with pytest.raises(ValueError, match="reduction 'Mean' is neither mean nor sum"):
        mean_loss([1.0], [2], "Mean")
