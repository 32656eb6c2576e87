"""Document 1's experiments beside the final run: the draft, its repairs, ends in any order."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.claims import judge
from common.layers import count_parameters, layer_table
from common.rows import Row
from common.runs import Run
from line_regression import (
    DRAFT,
    REPAIRS,
    Experiment,
    LineNetwork,
    Lines,
    first_draft,
    make_lines,
    train_watched,
)
from reports import line_regression_ablation as ablation
from reports import line_regression_draft as draft
from reports import line_regression_rates as rates
from reports.line_regression_claims import CLAIMS, DOCUMENT
from reports.line_regression_scores import outermost_pixels, within_in_either_order
from tests.helpers import make_run


def verdict(claim: str, metrics: dict[str, float]) -> str:
    """What becomes of a claim under the settings of the document."""
    (tested,) = (one for one in CLAIMS if one.id == claim)
    (judged,) = judge([tested], metrics, {**DOCUMENT, **tested.settings})
    return judged.verdict


# The first draft


def test_layer_sizes_of_the_first_draft() -> None:
    """Figure 7's arithmetic: O = (I − 3) / 2 + 1, rounded down, four times from 128."""
    table = layer_table(first_draft(128), torch.zeros(1, 1, 128, 128))
    assert [shape for _, shape, _ in table] == [
        "1×4×63×63", "1×8×31×31", "1×16×15×15", "1×32×7×7", "1×1568", "1×128", "1×4",
    ]  # fmt: skip
    parameters = 40 + 296 + (7688 * 128 + 128) + (128 * 4 + 4)
    assert count_parameters(LineNetwork(128, Experiment())) == parameters
    assert first_draft(31)(torch.zeros(1, 1, 31, 31)).shape == (1, 4), "the smallest --image-size"


def test_the_draft_without_repairs_is_the_document_s_model() -> None:
    """`LineNetwork` builds model 1, number by number, when nothing is repaired."""
    images = make_lines(5, 40, seed=0).images.float()
    torch.manual_seed(0)
    expected = first_draft(40)(images)
    torch.manual_seed(0)
    assert torch.equal(LineNetwork(40, DRAFT)(images), expected)


def test_each_repair_changes_one_thing() -> None:
    draft_settings = vars(DRAFT)
    for name, experiment in REPAIRS.items():
        changed = {key for key, value in vars(experiment).items() if value != draft_settings[key]}
        assert len(changed) == {"first draft": 0, "all three": 3, "fractions at 0.1": 2}.get(
            name, 1
        )
    assert (DRAFT.epochs, DRAFT.batch_size, DRAFT.lr) == (5, 64, 0.001)


def test_a_network_without_activations_is_linear_and_one_with_them_is_not() -> None:
    a, b = torch.rand(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    network = LineNetwork(32, Experiment(sigmoid=False))
    assert draft.nonlinearity(first_draft(32), a, b) < 1e-5
    assert draft.nonlinearity(network, a, b) > 1e-3


def test_the_gradient_of_an_update_is_what_the_update_did(tmp_path: Path) -> None:
    """Gradient descent without momentum moves the weights by the rate times the gradient."""
    lines = make_lines(64, 32, seed=0)
    experiment = replace(DRAFT, epochs=1, lr=0.01, ends_in_pixels=False)
    with make_run(tmp_path) as run:
        updates = train_watched(run, experiment, lines)
        torch.manual_seed(run.seed)
        before = LineNetwork(32, experiment)
    (row,) = updates.rows
    pairs = zip(before.parameters(), updates.model.parameters(), strict=True)
    moved = [((old - new) / 0.01).detach().double().square().sum().item() for old, new in pairs]
    assert row["gradient_norm"] == pytest.approx(math.sqrt(sum(moved)), rel=1e-3)
    largest = max(weights.abs().max().item() for weights in updates.model.parameters())
    assert row["largest_weight"] == largest
    outputs = before(lines.images.float()).detach()
    assert row["largest_prediction"] == pytest.approx(outputs.abs().max().item(), rel=1e-4)
    assert row["spread"] == pytest.approx(np.std(outputs.numpy(), axis=0).mean(), rel=1e-3)
    assert row["loss"] == pytest.approx((outputs - lines.ends / 32).square().mean().item())


@pytest.mark.usefixtures("unpainted")
def test_the_first_draft_explodes_and_fractions_stop_it(tmp_path: Path) -> None:
    """In short what the document saw: exploding weights, and what its first repair does."""
    lines = make_lines(300, 64, seed=0)
    with make_run(tmp_path) as run:
        repairs = {name: train_watched(run, REPAIRS[name], lines)
                   for name in ("first draft", "ends as fractions")}  # fmt: skip
        draft.explosion(run, repairs, lines)
    weights = [row["largest_weight"] for row in repairs["first draft"].rows]
    assert [row["update"] for row in repairs["first draft"].rows] == list(range(1, 26))
    assert weights[0] < 1
    first = next(update for update, weight in enumerate(weights, 1) if not math.isfinite(weight))
    assert run.metrics["draft_1000_nan_at_update"] == first
    assert run.metrics["explosion_first_draft_finite_updates"] == first - 1
    growth = (weights[first - 2] / weights[first - 5]) ** (1 / 3)
    assert run.metrics["draft_1000_growth"] == pytest.approx(growth)
    assert run.metrics["explosion_ends_as_fractions_finite_updates"] == 25
    norms = [row["gradient_norm"] for row in repairs["ends as fractions"].rows]
    assert run.metrics["explosion_ends_as_fractions_gradient_growth"] == max(norms) / norms[0]
    saved = (tmp_path / "repairs.csv").read_text().splitlines()
    assert len(saved) == 1 + 50
    assert saved[1].startswith("first draft,1,")


def test_a_draft_that_does_not_explode_is_not_reproduced(tmp_path: Path) -> None:
    """Never "not run": on so few lines and small images its weights stay finite."""
    lines = make_lines(20, 32, seed=0)
    with make_run(tmp_path) as run:
        updates = train_watched(run, REPAIRS["first draft"], lines)
        draft.note_draft(run, updates)
        metrics = {name: float(value) for name, value in run.metrics.items()}  # type: ignore[arg-type]
    assert metrics["draft_1000_nan_at_update"] == math.inf
    assert verdict("1.4b", metrics) == "not reproduced"
    assert verdict("1.4c", metrics) == "not reproduced"


def test_a_draft_whose_first_update_is_nan_has_no_growth(tmp_path: Path) -> None:
    lines = make_lines(64, 32, seed=0)
    with make_run(tmp_path) as run:
        updates = train_watched(run, replace(DRAFT, lr=1e38, epochs=1), lines)
        draft.note_draft(run, updates)
        draft.explosion(run, {"first draft": updates}, lines)
    assert run.metrics["draft_1000_nan_at_update"] == 1
    assert "draft_1000_growth" not in run.metrics
    assert verdict("1.4c", {}) == "not reproduced"


class Fixed(nn.Module):
    """A network that answers with the true ends, however far off."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = nn.Parameter(torch.tensor(off))

    def forward(self, images: Tensor) -> Tensor:
        blank = images.sum() == 0
        return (torch.zeros(len(images), 4) if blank else outermost_pixels(images)) + self.off


@pytest.mark.parametrize(
    ("off", "expected"),
    [(0.0, "not reproduced"), (60.0, "reproduced"), (math.nan, "not reproduced")],
)
def test_very_bad_means_worse_than_not_looking(tmp_path: Path, off: float, expected: str) -> None:
    training, unseen = make_lines(30, 64, seed=0), make_lines(50, 64, seed=1)
    with make_run(tmp_path) as run:
        draft.answers(run, Fixed(off), Fixed(math.nan), training, training, unseen)
        metrics = {name: float(value) for name, value in run.metrics.items()}  # type: ignore[arg-type]
    errors = np.abs(training.ends.numpy().mean(0) - unseen.ends.numpy())
    lower_median = np.sort(errors, axis=None)[errors.size // 2 - 1]
    if not math.isnan(off):
        assert metrics["draft_100_error_to_mean_answer"] == pytest.approx(off / lower_median)
    assert verdict("1.4a", metrics) == expected
    assert (tmp_path / "draft_answers.png").exists()


def test_one_line_that_is_its_own_mean(tmp_path: Path) -> None:
    """The mean answer is then exact, and nothing can be divided by its error."""
    line = make_lines(1, 64, seed=0)
    with make_run(tmp_path) as run:
        draft.answers(run, Fixed(1.0), Fixed(math.nan), line, line, line)
        assert math.isnan(float(run.metrics["draft_100_error_to_mean_answer"]))  # type: ignore[arg-type]


def test_the_ablation_has_its_own_number_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "MOST_LINES", 7)
    seen: list[int] = []

    def train(run: Run, experiment: Experiment, training: Lines, unseen: Lines) -> nn.Module:
        seen.append(len(training.ends))
        return nn.Identity()

    with make_run(tmp_path) as run:
        ablation.ablate(run, train, Experiment(), make_lines(9, 32, 0), make_lines(2, 32, 1))
    assert set(seen) == {7}


# Learning rates


def test_the_loss_before_the_sigmoid_by_hand() -> None:
    outputs, ends = torch.zeros(2, 4), torch.zeros(2, 4)  # a sigmoid makes 0.5 of 0
    assert rates.squashed_loss(outputs, ends, "sum") == 8 * 0.25
    assert rates.squashed_loss(outputs, ends, "mean", factor=4) == 4 * 0.25


def test_a_network_that_learns_nothing_does_not_rise(tmp_path: Path) -> None:
    """Whatever its batches hold: the output is that for the same lines."""
    lines = make_lines(100, 64, seed=0)
    with make_run(tmp_path) as run:
        updates = train_watched(run, Experiment(lr=1e-30, batch_size=10, epochs=1), lines)
    assert len(updates.rows) == 10
    assert {row["mean"] for row in updates.rows} == {updates.rows[0]["mean"]}


@pytest.mark.usefixtures("unpainted")
def test_high_rates_saturate_in_pixels(tmp_path: Path) -> None:
    """Outputs that get stuck at 0 or 1."""
    lines = make_lines(100, 64, seed=0)
    with make_run(tmp_path) as run:
        watched = rates.compare_rates(run, train_watched, Experiment(sigmoid=False), lines)
        rates.learning_rates(run, watched)
        metrics = {name: float(value) for name, value in run.metrics.items()}  # type: ignore[arg-type]
    assert watched[rates.PIXELS, 0.1].rows[-1]["saturated"] == 1
    assert watched[rates.PIXELS, 0.001].rows[-1]["saturated"] == 0
    verdicts = [verdict(f"1.8{letter}", metrics) for letter in "aceg"]
    assert verdicts == ["not reproduced", "reproduced", "reproduced", "reproduced"]
    assert len(watched) == 9
    assert all(len(updates.rows) == 10 for updates in watched.values())


# What each repair is worth; ends in any order


def test_each_experiment_builds_its_network() -> None:
    """ReLU and dropout go, convolutions are added; the sigmoid keeps answers fractions."""
    image = torch.zeros(1, 1, 128, 128)
    for name, changes in ablation.ABLATIONS.items():
        network = LineNetwork(128, replace(Experiment(), **changes))
        kinds = [type(layer).__name__ for layer in network.modules()]
        assert kinds.count("Conv2d") == (4 if name == "four convolutions" else 2)
        assert ("ReLU" in kinds) == (name != "no ReLU")
        assert network.dropout.p == (0.5 if name == "dropout" else 0)
        assert ("Sigmoid" in kinds) == (not name.startswith(("no sigmoid", "pixels")))
        if "Sigmoid" in kinds:
            assert 0 < network(image).min() <= network(image).max() < 1


def test_ends_in_pixels_can_be_reached() -> None:
    """Their network has no sigmoid, under which no answer could be above 1 pixel."""
    for name, changes in ablation.ABLATIONS.items():
        experiment = replace(Experiment(), **changes)
        assert not (experiment.ends_in_pixels and experiment.sigmoid), name


def test_exchanged_ends_are_those_of_the_same_lines() -> None:
    lines = make_lines(200, 32, seed=0)
    exchanged = ablation.exchange_some_ends(lines, torch.Generator().manual_seed(0))
    same = (exchanged.ends == lines.ends).all(1)
    assert 50 < same.sum() < 150, "by the toss of a coin"
    assert torch.equal(exchanged.ends[~same], lines.ends[~same].roll(2, dims=1))
    assert torch.equal(exchanged.images, lines.images)


def test_the_loss_in_either_order_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, ends = torch.rand(2, 50, 4, generator=generator)
    a, b = outputs.numpy().astype(float), ends.numpy().astype(float)
    swapped = b[:, [2, 3, 0, 1]]
    expected = sum(min(((o - e) ** 2).sum(), ((o - s) ** 2).sum())
                   for o, e, s in zip(a, b, swapped, strict=True))  # fmt: skip
    loss = ablation.either_order_loss(outputs, ends)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    exchanged = ablation.exchange_some_ends(Lines(ends, ends), generator).ends
    assert not torch.equal(exchanged, ends)
    assert torch.equal(ablation.either_order_loss(outputs, exchanged), loss)
    assert loss < nn.MSELoss(reduction="sum")(outputs, ends), "some are nearer the other way round"
    assert ablation.either_order_loss(ends, exchanged) == 0


def test_the_score_in_either_order_by_hand() -> None:
    ends = torch.tensor([[10, 10, 20, 20], [0, 5, 9, 5]])
    found = torch.tensor([[10.5, 12.0, 20.0, 26.0], [9.0, 5.0, 0.0, 8.0]])
    assert within_in_either_order(found, ends, 1) == 5 / 8
    assert within_in_either_order(found, ends, 3) == 7 / 8


def history(*shares: float) -> list[Row]:
    return [{"epoch": number, ablation.UNSEEN: share} for number, share in enumerate(shares, 1)]


def test_epochs_to_the_goal_by_hand() -> None:
    repaired, slower, never = history(0.2, 0.81, 0.9), history(0.2, 0.5, 0.8), history(0.2, 0.2)
    assert ablation.epochs_to_goal(repaired) == 2
    assert ablation.epochs_to_goal(slower) == 3
    assert ablation.epochs_to_goal(never) == math.inf
    assert ablation.slowdown(slower, repaired) == 1.5
    assert ablation.slowdown(never, repaired) == 1.5, "at best in the epoch after its last"
    assert ablation.slowdown(repaired, slower) == pytest.approx(2 / 3)
    assert math.isnan(ablation.slowdown(repaired, never))
