"""What an epoch skips, against counts and sums by hand; weights in 16 bits."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common.data import InMemoryDataset, make_loader
from recipes.training import WEIGHTS, SkipEasy, load_weights, save_weights
from tests.helpers import make_run


def test_all_hard_examples_are_drawn_and_a_part_of_the_easy() -> None:
    torch.manual_seed(0)
    order = SkipEasy(20, 1000, easy=0.5, skipped=0.4)
    order.losses = torch.arange(20.0)
    often = torch.zeros(20)
    for _ in range(500):
        drawn = list(order)
        assert len(drawn) == len(order) == 16
        assert len(set(drawn)) == 16
        assert set(range(10, 20)) <= set(drawn), "the ten of the highest losses"
        often[drawn] += order.counts[drawn]
    assert torch.equal(often[10:], torch.full((10,), 500.0))
    # 300 times on average, by 1 / 0.6; four standard deviations are 4 · √(500 · 0.6 · 0.4) / 0.6.
    assert (often[:10] - 500).abs().max() < 73


def test_new_examples_are_drawn_first_and_count_once() -> None:
    torch.manual_seed(0)
    order = SkipEasy(20, 1000, easy=0.5, skipped=0.4)
    drawn = list(order)
    assert torch.equal(order.counts, torch.ones(20))
    order(torch.zeros(16, 10), torch.zeros(16, dtype=torch.long))
    assert torch.allclose(order.losses[drawn], torch.tensor(math.log(10)))
    skipped = set(range(20)) - set(drawn)
    assert skipped <= set(order), "the four that are new"


def test_the_last_epochs_draw_from_all_alike() -> None:
    torch.manual_seed(0)
    order = SkipEasy(20, 30, easy=0.5, skipped=0.4)
    order.losses = torch.arange(20.0)
    always = [set(order) >= set(range(10, 20)) for _ in range(30)]
    assert always[:27] == [True] * 27
    assert not any(always[27:]), "a chance of 0.004 for each"
    assert torch.equal(order.counts, torch.ones(20))


def test_the_loss_is_the_mean_by_what_each_example_counts() -> None:
    torch.manual_seed(0)
    order = SkipEasy(12, 10, easy=0.5, skipped=0.5, label_smoothing=0.1)
    order.losses = torch.rand(12)
    inputs, labels = torch.randn(12, 5), torch.randint(0, 5, (12,))
    seen = []
    for logits, targets in make_loader(InMemoryDataset(inputs, labels), 4, sampler=order):
        seen.append(len(targets))
        loss = order(logits, targets)
        numbers, counts = [], []
        for index in order.drawn[sum(seen) - len(targets) : sum(seen)].tolist():
            scores = inputs[index].double()
            probabilities = scores.exp() / scores.exp().sum()
            wanted = torch.full((5,), 0.1 / 5, dtype=torch.float64)
            wanted[labels[index]] += 0.9
            numbers.append(-(wanted * probabilities.log()).sum().item())
            counts.append(order.counts[index].item())
            assert math.isclose(order.losses[index].item(), numbers[-1], rel_tol=1e-5)
        by_hand = sum(map(math.prod, zip(numbers, counts, strict=True))) / sum(counts)
        assert math.isclose(loss.item(), by_hand, rel_tol=1e-5)
    assert seen == [4, 4, 1], "six hard ones, and three of the easy"
    assert sorted(set(order.counts.tolist())) == [1.0, 2.0]


def test_without_skipping_it_is_the_ordinary_loss() -> None:
    torch.manual_seed(0)
    order = SkipEasy(7, 10, easy=0.5, skipped=0.0)
    logits, labels = torch.randn(7, 3), torch.randint(0, 3, (7,))
    drawn = torch.tensor(list(order))
    assert drawn.sort().values.tolist() == list(range(7))
    loss = order(logits[drawn], labels[drawn])
    assert torch.allclose(loss, cross_entropy(logits, labels))


def test_what_16_bits_cannot_hold_is_saved_in_32(tmp_path: Path) -> None:
    """Batch norm keeps a training finite at rates at which its variances become very large."""
    network = nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.1, 2.0]))
        network.running_var.copy_(torch.tensor([1.0, 199_506.1]))  # type: ignore[union-attr]
    with make_run(tmp_path) as run:
        save_weights(run, network)
    again = nn.BatchNorm1d(2)
    load_weights(tmp_path / WEIGHTS, again)
    assert again.weight.tolist() == [float(torch.tensor(0.1).half()), 2.0]
    assert torch.equal(again.running_var, torch.tensor([1.0, 199_506.1]))  # type: ignore[arg-type]
    assert torch.equal(network.weight, again.weight), "what is tested is what is saved"
