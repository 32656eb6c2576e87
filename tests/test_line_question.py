"""Document 1's better question: the network that scores each pixel, its loss and its answers."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import line_regression
from common.claims import judge
from common.layers import count_parameters
from line_regression import (
    Experiment,
    LineNetwork,
    ask_every_pixel,
    draw_lines,
    end_loss,
    end_network,
    highest_two,
    make_lines,
)
from reports import line_regression_question as question
from reports.line_regression_claims import CLAIMS, DOCUMENT
from reports.line_regression_scores import line_scores
from tests.helpers import make_run


def every_line(size: int) -> Tensor:
    """The ends (N×4) of all lines in size×size pixels, sorted by x, then by y."""
    places = list(product(range(size), repeat=2))
    return torch.tensor([(*a, *b) for a, b in product(places, repeat=2) if a < b])


def counting_network() -> nn.Sequential:
    """The same layers with weights by hand: a lit pixel scores, each lit neighbour takes away."""
    network = end_network()
    first, _, last = network
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        first.weight[0] = -1  # relu(10·pixel − neighbours): 9 at an end, 8 within, 0 elsewhere
        first.weight[0, 0, 1, 1] = 10
        last.weight[0, 0] = 1
    return network


def test_the_network_has_89_parameters_and_keeps_the_size() -> None:
    assert count_parameters(end_network()) == 8 * 9 + 8 + 8 + 1 == 89
    assert count_parameters(LineNetwork(128, Experiment())) == 985_044
    assert end_network()(torch.zeros(2, 1, 31, 40)).shape == (2, 1, 31, 40)


def test_eight_neighbours_are_enough_for_every_line_also_at_the_border() -> None:
    """All 1,176 lines in 7×7 pixels: weights exist with which each answer is exact."""
    ends = every_line(7)
    images = draw_lines(ends, 7).float()
    assert torch.equal(highest_two(counting_network()(images)), ends)
    touching = (ends == 0) | (ends == 6)
    assert touching.any(1).sum() > 800, "most have an end at the border"


def test_an_end_at_the_border_scores_as_one_within() -> None:
    """Padding continues the black: the same line, moved to the corner, has the same scores."""
    torch.manual_seed(0)
    network = end_network()
    within, corner = draw_lines(torch.tensor([[5, 5, 9, 7], [0, 0, 4, 2]]), 20).float()
    scores = network(torch.stack([within, corner]))
    assert torch.allclose(scores[0, 0, 5:8, 5:10], scores[1, 0, 0:3, 0:5])


def test_the_loss_is_cross_entropy_with_half_a_unit_on_each_end() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 1, 6, 6, generator=generator)
    ends = torch.tensor([[0, 0, 5, 5], [1, 4, 2, 0], [5, 0, 5, 1]])
    target = torch.zeros(3, 6, 6)
    for row, (x0, y0, x1, y1) in zip(target, ends.tolist(), strict=True):
        row[y0, x0] = row[y1, x1] = 0.5
    expected = cross_entropy(scores.flatten(1), target.flatten(1))
    assert end_loss(scores, ends.float()).item() == pytest.approx(expected.item(), rel=1e-6)
    sure = 100 * target[:, None]
    assert end_loss(sure, ends.float()).item() == pytest.approx(torch.tensor(2.0).log().item())


def test_the_highest_two_are_sorted_by_x_and_then_by_y() -> None:
    scores = torch.zeros(3, 1, 8, 8)
    for image, (x, y, score) in ((0, (7, 0, 9)), (0, (2, 4, 8)), (1, (3, 4, 7)), (1, (3, 1, 7)),
                                 (2, (0, 2, -1)), (2, (1, 1, 5)), (2, (0, 3, 6))):  # fmt: skip
        scores[image, 0, y, x] = score
    assert highest_two(scores).tolist() == [[2, 4, 7, 0], [3, 1, 3, 4], [0, 3, 1, 1]]


def test_equal_scores_give_two_different_pixels() -> None:
    found = highest_two(torch.zeros(1, 1, 4, 4))
    assert found[0, :2].tolist() != found[0, 2:].tolist()


def test_a_few_updates_find_unseen_lines_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In short what the chapter ends with: small images, and more updates, as they show less."""
    monkeypatch.setattr(line_regression, "END_UPDATES", 150)
    monkeypatch.setattr(line_regression, "END_SEEDS", 2)
    training = make_lines(9600, 32, seed=0)
    unseen = make_lines(300, 32, seed=1, exclude=training.ends)
    with make_run(tmp_path) as run:
        results = ask_every_pixel(run, training, unseen)
        monkeypatch.setattr(line_regression, "END_SEEDS", 1)
        again = ask_every_pixel(run, training, unseen)
    assert all(question.exact(found, unseen.ends) == 1 for _, found in results)
    assert not torch.equal(*(next(iter(model.parameters())) for model, _ in results)), "two seeds"
    assert all(map(torch.equal, results[0][0].parameters(), again[0][0].parameters()))


def test_the_scores_are_those_of_each_seed(tmp_path: Path) -> None:
    unseen = make_lines(20, 32, seed=1)
    wrong = unseen.ends.clone()
    wrong[:5, 0] += 3
    torch.manual_seed(0)
    document = LineNetwork(32, Experiment())
    with make_run(tmp_path) as run:
        run.metrics |= line_scores("unseen", unseen.ends + 0.6, unseen.ends)
        results = [(counting_network(), unseen.ends), (end_network(), wrong)]
        question.compare(run, document, unseen.ends + 0.6, results, unseen)
    assert run.metrics["question_lines_exact"] == [1, 0.75]
    assert run.metrics["question_lines_within_2"] == [1, 0.75]
    assert run.metrics["question_lines_within_5"] == [1, 1]
    assert run.metrics["unseen_lines_exact"] == 0, "0.6 rounds to the next pixel"
    assert question.exact(unseen.ends + 0.4, unseen.ends) == 1
    assert run.metrics["question_parameters"] == 89
    assert run.metrics["question_multiplications"] == 32 * 32 * (72 + 8)
    assert (tmp_path / "better_question.png").stat().st_size > 2000
    assert (tmp_path / "end_scores.png").stat().st_size > 2000


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([1.0] * 5, "reproduced"), ([1.0] * 4 + [0.9995], "not reproduced")],
)
def test_every_line_of_every_seed_must_be_exact(shares: list[float], expected: str) -> None:
    (claim,) = (one for one in CLAIMS if one.id == "1.11a")
    (judged,) = judge([claim], {"question_lines_exact": shares}, DOCUMENT)
    assert judged.verdict == expected
