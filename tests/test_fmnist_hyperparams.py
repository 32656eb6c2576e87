"""Document 5: its inputs, networks, penalties and claims by hand; the chapter as a user runs it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import common.epochs
import fmnist_hyperparams
from common.claims import judge
from common.cli import PROJECT
from common.data import InMemoryDataset, load_images, make_loader
from common.errors import UsageError
from common.jobs import Job
from common.rows import Row, read_rows
from fmnist_hyperparams import (
    BASE,
    EVERY_EXPERIMENT,
    EXPERIMENTS,
    FURTHER,
    Experiment,
    main,
    make_inputs,
    make_network,
    penalty,
    train_experiment,
)
from hyperparams import measures
from hyperparams.answers import QUESTIONS, answered
from hyperparams.corrections import CORRECTIONS
from hyperparams.demonstrations import (
    batch_norm_error,
    dropout_answers,
    dropout_network,
    dropout_weights,
    sigmoid_change,
    updates_per_epoch,
    weights_without_gradient,
)
from hyperparams.figures import curve_labels
from hyperparams.jobs import QUICK_EPOCHS, Settings, chosen_experiments
from hyperparams.options import COMPARED_WITH, SECTIONS, experiments_of, parse
from hyperparams.results import Result, differences, shared_epochs
from hyperparams.statements import Statement, measure_claims
from reports import fmnist_hyperparams as report
from tests.helpers import Call, make_run, no_processes, read_summary, run_command


def untimed(folder: Path) -> list[Row]:
    """A training's rows without the seconds."""
    rows = read_rows(folder / "metrics.csv")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_the_experiments_are_the_document_s() -> None:
    document = {**EXPERIMENTS}
    del document["tiny-input-batchnorm-no-bias"]
    assert " ".join(document) == (
        "unscaled scaled batch-32 batch-10000 sgd adam lr-high lr-medium lr-low unscaled-lr-high "
        "unscaled-lr-medium unscaled-lr-low lr-annealing lr-annealing-100 no-annealing-100 "
        "hidden-0 hidden-1 hidden-2 tiny-input tiny-input-batchnorm dropout no-dropout l1 l2-norm "
        "l2-square inverted"
    )
    assert sum(experiment.epochs for experiment in document.values()) == 768
    assert {experiment.epochs for experiment in EVERY_EXPERIMENT.values()} == set(QUICK_EPOCHS)
    assert differences(EXPERIMENTS["hidden-1"], BASE) == ""
    assert differences(EXPERIMENTS["unscaled"], BASE) == "divisor 1, optimizer sgd, lr 0.01"
    no_bias = differences(EXPERIMENTS["tiny-input-batchnorm-no-bias"], BASE)
    assert no_bias == "divisor 2,550,000, no hidden bias, batch norm"


@pytest.mark.parametrize(
    ("name", "other", "difference"),
    [
        ("unscaled-100", "unscaled", ""),
        ("batch-8", "batch-32", "batch size 8"),
        ("batch-1000", "batch-32", "batch size 1,000"),
        ("batch-8-0.001", "hidden-1", "batch size 8"),
        ("lr-annealing-0.01", "lr-annealing", "lr 0.01"),
        ("no-annealing-100-0.01", "no-annealing-100", "lr 0.01"),
        ("lr-annealing-100-0.01", "no-annealing-100-0.01", "annealing"),
        ("tiny-input-batchnorm-plain-adam", "tiny-input-batchnorm", "plain adam"),
        ("l1-0.01", "batch-32", "l1 0.0001"),
        ("l2-norm-0.01", "batch-32", "l2 norm 0.01"),
        ("l2-square-0.01", "batch-32", "l2 square 0.01"),
    ],
)
def test_a_further_experiment_differs_from_what_it_is_compared_with_in_one_setting(
    name: str, other: str, difference: str
) -> None:
    assert differences(FURTHER[name], EVERY_EXPERIMENT[other]) == difference
    same_length = FURTHER[name].epochs == EVERY_EXPERIMENT[other].epochs
    assert same_length or name == "unscaled-100"


def test_every_claim_needs_experiments_that_its_section_trains() -> None:
    assert len(report.CLAIMS) == 112
    assert len({claim.id for claim in report.CLAIMS}) == 112
    for claim in report.CLAIMS:
        assert set(claim.needs) <= set(experiments_of(claim.section, EVERY_EXPERIMENT))
        assert claim.metric == f"claim_{claim.id}"
        assert bool(claim.settings) == bool(claim.needs), "any run tests what needs no training"
    for section, names in COMPARED_WITH.items():
        assert section in SECTIONS
        assert set(names) <= set(EXPERIMENTS)
    for answer in (*QUESTIONS, *CORRECTIONS):
        assert set(answer.needs) <= set(EVERY_EXPERIMENT)
    unscaled = ["unscaled-lr-high", "unscaled-lr-medium", "unscaled-lr-low"]
    assert experiments_of("5.11", EXPERIMENTS) == [*unscaled, "lr-medium", "lr-low"]
    assert experiments_of("5.17", EXPERIMENTS) == ["inverted", "hidden-1"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hidden-0", 784 * 10 + 10),
        ("hidden-1", 785_000 + 10_010),
        ("hidden-2", 785_000 + 1_001_000 + 10_010),
        ("tiny-input-batchnorm", 785_000 + 2000 + 10_010),
        ("tiny-input-batchnorm-no-bias", 784_000 + 2000 + 10_010),
        ("dropout", 785_000 + 10_010),
    ],
)
def test_parameters_by_hand(name: str, expected: int) -> None:
    network = make_network(EXPERIMENTS[name])
    assert sum(p.numel() for p in network.parameters()) == expected
    assert network(torch.zeros(3, 784)).shape == (3, 10)
    assert "output.weight" in dict(network.named_parameters())


def kinds(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.children()]


def test_batch_norm_stands_before_relu_and_dropout_before_both_linear_layers() -> None:
    normed = make_network(EXPERIMENTS["tiny-input-batchnorm"])
    assert kinds(normed) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    dropped = ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert kinds(make_network(EXPERIMENTS["dropout"])) == dropped
    assert kinds(dropout_network()) == dropped, "what is demonstrated is what is trained"


def test_inputs() -> None:
    images = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    inputs = {name: make_inputs(EXPERIMENTS[name], images).tolist() for name in EXPERIMENTS}
    assert inputs["unscaled"] == [[0, 51, 255]]
    assert inputs["scaled"] == [[0, pytest.approx(0.2), 1]]
    assert inputs["tiny-input"] == [[0, pytest.approx(2e-5), pytest.approx(1e-4)]]
    assert inputs["inverted"] == [[1, pytest.approx(0.8), 0]]


def test_penalties_equal_numpy() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    parts = [p.detach().double().numpy() for p in network.parameters()]
    by_hand = {
        "l1": 1e-4 * sum(np.abs(part).sum() for part in parts),
        "l2-norm": 1e-2 * sum(np.sqrt((part**2).sum()) for part in parts),
        "l2-square": 1e-2 * sum((part**2).sum() for part in parts),
        "no-dropout": 0,
    }
    with torch.no_grad():
        for name, expected in by_hand.items():
            assert float(penalty(EXPERIMENTS[name], network)) == pytest.approx(expected, rel=1e-5)


def test_what_needs_no_training() -> None:
    by_hand = 1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(-0.1))
    assert sigmoid_change(1) == pytest.approx(by_hand)
    assert batch_norm_error(by_variance=False) < 1e-5
    assert batch_norm_error(by_variance=True) > 0.5
    assert (dropout_answers(training=True), dropout_answers(training=False)) == (10, 1)
    assert dropout_weights() == 1
    assert weights_without_gradient(1) == pytest.approx(0.25, abs=0.04)
    assert weights_without_gradient(32) == 0
    assert (updates_per_epoch(32), updates_per_epoch(10_000)) == (1875, 6)


def make_result(name: str, rows: list[Row]) -> Result:
    torch.manual_seed(0)
    network = make_network(EVERY_EXPERIMENT[name]).eval()
    with torch.no_grad():
        hidden_values = network[:-1](torch.ones(4, 784))
    section, changes = EVERY_EXPERIMENT[name].section, differences(EVERY_EXPERIMENT[name], BASE)
    number = list(EVERY_EXPERIMENT).index(name)
    return Result(name, section, changes, number, rows, network, hidden_values)


@pytest.fixture(scope="module")
def annealed() -> Result:
    """Five epochs: the rate is halved after the second and the fourth."""
    rates, losses = (1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4), (0.5, 0.6, 0.4, 0.3995, 0.39)
    rows: list[Row] = []
    for number, (rate, loss) in enumerate(zip(rates, losses, strict=True), 1):
        rows.append({"epoch": number, "lr": rate, "train_loss": 0.1, "train_accuracy": 0.9,
                     "validation_loss": loss, "validation_accuracy": 0.8 + number / 100,
                     "seconds": 1.0})  # fmt: skip
    return make_result("lr-annealing", rows)


def test_numbers_of_a_result_by_hand(annealed: Result, tmp_path: Path) -> None:
    assert annealed.halvings() == [2, 4]
    assert measures.halved_without_rise(annealed) == 1, "after epoch 4 the loss had not risen"
    assert annealed.accuracy_gap() == pytest.approx(0.05)
    assert annealed.loss_gap(1) == pytest.approx(0.4)
    assert annealed.best_epoch() == 5
    parameters = annealed.parameters()
    weights = [parameters[name].flatten() for name in ("hidden.weight", "output.weight")]
    within = np.mean(np.abs(torch.cat(weights).numpy()) <= 0.01)
    assert measures.weights_within(annealed, 0.01) == pytest.approx(within, abs=1e-6)
    chosen = ["lr-annealing", "lr-annealing-0.01"]  # the second failed
    run = make_run(tmp_path, experiments=chosen, quick=False)
    results = {0: {"lr-annealing": annealed}, 1: {"lr-annealing": annealed}}
    measure_claims(run, report.CLAIMS, results)
    assert run.metrics["claim_5.12h"] == pytest.approx([math.nan, math.nan], nan_ok=True)
    verdicts = {one.claim.id: one.verdict
                for one in judge(report.CLAIMS, run.metrics, vars(run.options))}
    assert verdicts["5.12h"] == "not reproduced"
    assert verdicts["5.12c"] == "not run"
    assert run.metrics["claim_5.12a"] == [0, 0]
    assert run.metrics["claim_5.12b"] == [1, 1]
    assert run.metrics["claim_5.12f"] == [0, 0]
    assert "claim_5.12c" not in run.metrics
    assert run.metrics["claim_5.7d"] == [1875]


def columns(**values: list[float]) -> list[Row]:
    """A history with these columns, and 1 in the others."""
    names = ("lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    rows: list[Row] = []
    for place in range(len(next(iter(values.values())))):
        row: Row = dict.fromkeys((*names, "seconds"), 1.0)
        row |= {name: column[place] for name, column in values.items()}
        rows.append({"epoch": place + 1, **row})
    return rows


def test_numbers_of_a_history_by_hand() -> None:
    losses, accuracies = [45.0, 2.5, 2.2, 2.3, 2.25], [0.1, 0.7, 0.2, 0.3, 0.25]
    one = make_result("unscaled", columns(train_loss=losses, train_accuracy=accuracies,
                                          validation_accuracy=[0.1] * 5))  # fmt: skip
    assert measures.highest_training_accuracy(one) == 0.7
    assert measures.loss_left(one) == pytest.approx(0.05)
    assert measures.loss_left_after_second(one) == pytest.approx(0.9)
    assert (measures.rises(one), measures.stalls(one)) == (1, 1)
    other = make_result("scaled", columns(train_loss=[0.5] * 6, train_accuracy=[0.5] * 6,
                                          validation_accuracy=[0.4] * 5 + [0.1]))  # fmt: skip
    assert measures.gap_change(one, other) == pytest.approx(0.05)
    assert measures.gap_change_at_the_ends(one, other) == pytest.approx(-0.25)
    assert measures.gap_change_after_5(other, one) == pytest.approx(-0.05)
    assert measures.loss_gap_ratio(one, other) == pytest.approx(-1.25 / 0.5)
    assert measures.loss_gap_change_from_4(other, one) == pytest.approx(0.5 + 1.3)
    assert measures.accuracy_gain_from_10(one, other) == 0, "fewer epochs: the last"
    assert measures.gap_after_5(one) == pytest.approx(0.15)
    slow = make_result("batch-8", columns(seconds=[6.0, 9.0, 7.0]))
    assert measures.time_ratio(slow, one) == 7, "of the medians"
    learned = make_result("unscaled", columns(train_loss=[88.5, 0.0, 0.0]))
    assert math.isnan(measures.loss_left_after_second(learned)), "the loss of two images can be 0"


def test_a_rate_that_is_not_what_the_rule_makes_it_is_counted() -> None:
    losses = [0.5, 0.4, 0.3995, 0.41, 0.3, 0.31, 0.32]  # halved after epochs 3, 4 and 6
    rates = [8e-5, 8e-5, 8e-5, 4e-5, 2e-5, 2e-5, 1e-5]
    right = make_result("lr-annealing", columns(lr=rates, validation_loss=losses))
    assert right.halvings() == [3, 4, 6]
    assert measures.halved_against_rule(right) == 0
    kept = make_result("lr-annealing", columns(lr=[8e-5] * 7, validation_loss=losses))
    assert measures.halved_against_rule(kept) == 3
    lowest = make_result("lr-annealing", columns(lr=[1e-5] * 7, validation_loss=losses))
    assert measures.halved_against_rule(lowest) == 0, "it falls no further"
    early = make_result("lr-annealing", columns(lr=[8e-5, *[4e-5] * 6], validation_loss=losses))
    assert measures.halved_against_rule(early) == 4, "the first halving too"
    # Losses rise after epochs 4, 6 and 7; what follows the last epoch is not known.
    counts = [measures.rises_without_halving(one) for one in (right, kept, lowest, early)]
    assert counts == [0, 2, 0, 2]
    assert measures.loss_above_lowest(right) == pytest.approx(0.32 / 0.3)


def scaled_weights(name: str, first: float, last: float) -> Result:
    """An untrained network whose first and last layer's weights are multiplied by these."""
    result = make_result(name, columns(validation_accuracy=[1.0]))
    with torch.no_grad():
        result.parameters()["hidden.weight"].mul_(first)
        result.parameters()["output.weight"].mul_(last)
    return result


def test_numbers_of_the_weights_by_hand() -> None:
    plain, scaled = scaled_weights("hidden-1", 1, 1), scaled_weights("no-dropout", 6, 3)
    assert measures.smallest_weight_ratio(scaled, plain) == pytest.approx(3, rel=1e-5)
    assert measures.largest_weight_ratio(scaled, plain) == pytest.approx(6, rel=1e-5)
    assert measures.weights_grown(plain) == pytest.approx(1, rel=0.02), "as PyTorch draws them"
    assert measures.weights_grown(scaled) == pytest.approx(3, rel=0.02)
    weights = plain.parameters()["hidden.weight"]
    by_hand = np.abs(weights.numpy()).max() / np.median(np.abs(weights.numpy()))
    assert measures.largest_to_typical(plain) == pytest.approx(by_hand, rel=1e-3)
    assert measures.largest_to_typical(plain) == pytest.approx(2, rel=0.02), "they are uniform"
    assert measures.largest_to_typical_ratio(scaled, plain) == pytest.approx(1, rel=1e-5)
    with torch.no_grad():
        weights[0, 0] = 1.0
    assert measures.largest_to_typical_ratio(plain, scaled) > 10
    assert measures.kept_value_in_prediction() == pytest.approx(0.75)
    weaker = scaled_weights("l1", 0.5, 1), scaled_weights("l2-norm", 2, 1)
    assert measures.largest_with_penalty(*weaker, scaled) == pytest.approx(2 / 6, rel=1e-5)
    assert measures.weights_within_1(scaled_weights("no-dropout", 100, 1)) < 0.5


def test_pairs_of_batch_sizes_are_counted() -> None:
    def sizes(*accuracies: float) -> list[Result]:
        return [make_result("batch-32", columns(validation_accuracy=[one])) for one in accuracies]

    assert measures.pairs_won_by_smaller_batches(*sizes(0.5, 0.6, 0.7, 0.8)) == 6
    assert measures.pairs_won_by_smaller_batches(*sizes(0.5, 0.9, 0.9, 0.8)) == 3


def statement(number: str) -> Statement:
    (found,) = (claim for claim in report.CLAIMS if claim.id == number)
    return found


@pytest.mark.parametrize(
    ("number", "good", "bad"),
    [
        ("5.4a", [{"train_accuracy": [0.2, 0.1]}], [{"train_accuracy": [0.81, 0.1]}]),
        ("5.4d", [{"train_accuracy": [0.2, 0.8]}], [{"train_accuracy": [0.2, 0.81]}]),
        ("5.4c", [{"train_loss": [9, 2.3, 2.2]}], [{"train_loss": [9, 2.3, 1.2]}]),
        ("5.5c", [{"train_loss": [9, 2.3, 2.4]}], [{"train_loss": [9, 2.3, 2.3]}]),
        ("5.5d", [{"train_loss": [9, 2.3, 2.29]}], [{"train_loss": [9, 2.3, 2.2]}]),
        ("5.9a", [{"train_accuracy": [0.49]}], [{"train_accuracy": [0.5]}]),
        ("5.9f", [{"train_loss": [0.7]}, {"train_loss": [0] * 3 + [0.7, 0]}],
                 [{"train_loss": [0.7]}, {"train_loss": [0] * 3 + [0.67, 0.7]}]),
        ("5.9g", [{"train_loss": [0.9] * 8}, {"train_loss": [0.8] * 8}],
                 [{"train_loss": [0.9] * 8}, {"train_loss": [0.9] * 8}]),
        ("5.9h", [{"validation_accuracy": [0.7] * 8}, {"validation_accuracy": [0.8] * 8}],
                 [{"validation_accuracy": [0.8] * 8}, {"validation_accuracy": [0.8] * 8}]),
        ("5.12a", [{"lr": [8, 8, 4, 4], "validation_loss": [1, 2, 1, 1]}],
                  [{"lr": [8, 8, 8, 4], "validation_loss": [1, 2, 1, 1]}]),
        ("5.12m", [{"validation_loss": [1.0, 1.1]}], [{"validation_loss": [1.0, 1.2]}]),
        ("5.12g", [{"validation_accuracy": [0.9]}, {"validation_accuracy": [0.89]}],
                  [{"validation_accuracy": [0.9]}, {"validation_accuracy": [0.9]}]),
        ("5.13c", [{"validation_accuracy": [0.84]}, {"validation_accuracy": [0.88]}],
                  [{"validation_accuracy": [0.88]}, {"validation_accuracy": [0.88]}]),
        ("5.13d", [{"train_loss": [0.2]}, {"train_loss": [0.3]}],
                  [{"train_loss": [0.3]}, {"train_loss": [0.3]}]),
        ("5.14n", [{"validation_accuracy": [0.8, 0.1]}, {"validation_accuracy": [0.7, 0.9]}],
                  [{"validation_accuracy": [0.7, 0.9]}, {"validation_accuracy": [0.8, 0.1]}]),
    ],
)  # fmt: skip
def test_a_statement_can_hold_and_fail(
    number: str, good: list[dict[str, list[float]]], bad: list[dict[str, list[float]]]
) -> None:
    claim = statement(number)
    for histories, holds in ((good, True), (bad, False)):
        results = [make_result(name, columns(**history))
                   for name, history in zip(claim.needs, histories, strict=True)]  # fmt: skip
        assert claim.bound.holds(claim.measure(*results)) == holds


@pytest.mark.parametrize("number", ["5.10a", "5.10b", "5.11g", "5.14j"])
def test_wide_weights_must_be_wide_in_both_layers(number: str) -> None:
    claim = statement(number)
    narrow = scaled_weights(claim.needs[1], 1, 1)
    for last, holds in ((2.5, True), (0.9, False)):
        wide = scaled_weights(claim.needs[0], 9, last)
        assert claim.bound.holds(claim.measure(wide, narrow)) == holds


def test_curves_that_coincide_are_said_to(annealed: Result) -> None:
    longer = replace(annealed, name="longer", history=[*annealed.history, annealed.history[-1]])
    other = replace(annealed, name="other", history=annealed.history[:2] + annealed.history[3:])
    results = {one.name: one for one in (annealed, longer, other)}
    assert (shared_epochs(annealed, longer), shared_epochs(longer, other)) == (5, 2)
    labels = curve_labels(results, epochs=5)
    assert labels["lr-annealing"] == "lr-annealing (changed: annealing): 5 epochs"
    assert labels["longer"].endswith("5 of 6 epochs, all the same as lr-annealing")
    assert labels["other"].endswith("4 epochs, the first 2 the same as lr-annealing")


def test_every_sentence_of_the_report_can_be_said() -> None:
    columns = ("epoch", "seconds", "lr", "train_loss", "validation_loss")
    rows = [{**dict.fromkeys(columns, 1.0), "train_accuracy": 0.875, "validation_accuracy": 0.75}]
    results = {name: make_result(name, rows) for name in EVERY_EXPERIMENT}
    said = answered((*QUESTIONS, *CORRECTIONS), {0: results}, "cpu")
    assert len(said) == len(QUESTIONS) + len(CORRECTIONS)
    gaps = "is not smaller: 12.5 points with dropout, 12.5 without"
    assert any(gaps in sentence for sentence in said), "words are chosen by the numbers"
    assert any("halvings without such a rise: 0." in sentence for sentence in said)
    some = {"hidden-1": results["hidden-1"]}
    left_out = answered((*QUESTIONS, *CORRECTIONS), {0: some}, "cpu")
    assert left_out == [], "what was not run is left out"
    assert answered(QUESTIONS, {0: results, 1: some}, "cpu") == [], "it needs every seed"


def test_directions_are_worded_by_their_numbers() -> None:
    row = {"epoch": 1.0, "validation_accuracy": 0.5}
    with_it = make_result("dropout", [{**row, "train_accuracy": 0.6}])
    without = make_result("no-dropout", [{**row, "train_accuracy": 0.7}])
    answers = [answer for answer in QUESTIONS if answer.title.startswith("9.")]
    results = {0: {"dropout": with_it, "no-dropout": without}}
    (sentence,) = answered(answers, results, "cpu")
    assert "is smaller: 10.0 points with dropout, 20.0 without" in sentence


def make_job(folder: Path, experiment: Experiment, resume: bool = False) -> Job:
    settings = Settings("name", experiment, PROJECT / "data", 300, 200)
    return Job(make_run(folder, resume=resume), experiment.epochs, settings)


@pytest.mark.parametrize("name", ["dropout", "lr-annealing"])
def test_interrupted_in_an_epoch_and_resumed_it_ends_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.epochs, "CHECKPOINT_SECONDS", 0.0)
    experiment = replace(EXPERIMENTS[name], epochs=4, lr=0.03)  # so high that annealing acts
    train_experiment(make_job(tmp_path / "whole", experiment))

    def interrupt(row: Row) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    job = make_job(tmp_path / "parts", experiment)
    job.run.listener = interrupt
    with pytest.raises(KeyboardInterrupt), job.run:
        train_experiment(job)
    with make_job(tmp_path / "parts", experiment, resume=True).run as run:
        job = Job(run, experiment.epochs, job.settings)
        assert not job.finished
        train_experiment(job)
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "parts")
    rates = {row["lr"] for row in read_rows(tmp_path / "whole" / "metrics.csv")}
    assert (len(rates) > 1) == (name == "lr-annealing")
    whole, parts = (
        torch.load(tmp_path / part / "model.pt", weights_only=True) for part in ("whole", "parts")
    )
    assert all(whole[key].equal(parts[key]) for key in whole)


def test_plain_adam_is_pytorch_s_default_with_denormal_numbers_kept(tmp_path: Path) -> None:
    experiment = replace(FURTHER["tiny-input-batchnorm-plain-adam"], epochs=2)
    job = make_job(tmp_path, experiment)
    try:
        train_experiment(job)
        assert (torch.full((64,), 1e-39) / 2).min() > 0, "denormal numbers are kept"
        torch.manual_seed(0)
        network = make_network(experiment)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        clothes = load_images("FashionMNIST", "train", PROJECT / "data", 300)
        inputs = make_inputs(experiment, clothes.images)
        loader = make_loader(InMemoryDataset(inputs, clothes.labels), 32, shuffle=True, seed=0)
        for _ in range(2):
            for images, labels in loader:
                nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
                optimizer.zero_grad()
    finally:
        flushes = torch.set_flush_denormal(True)
    assert not flushes or (torch.full((64,), 1e-39) / 2).max() == 0
    trained = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(trained[name].equal(value) for name, value in network.state_dict().items())


def test_images_become_floats_a_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once they would take 380 MB in each process of a study."""
    sizes = []

    def noted(experiment: Experiment, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return make_inputs(experiment, images)

    monkeypatch.setattr(fmnist_hyperparams, "make_inputs", noted)
    job = make_job(tmp_path, replace(EXPERIMENTS["hidden-0"], epochs=1, batch_size=100))
    train_experiment(job)
    assert sizes == [100, 100, 100, 200, 300], "training, validation, accuracy in training"


NAMED = ("lr-medium", "hidden-0", "--limit", 200)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two finished experiments; tests work on copies."""
    folder: Path = tmp_path_factory.mktemp("fmnist") / "run"
    with no_processes():
        main([*map(str, NAMED), "--out-dir", str(folder)])
    return folder


def test_experiments_by_name_leave_a_complete_run(finished: Path) -> None:
    figures = {path.stem for path in finished.glob("*.png")}
    assert figures == {"curves_5.9", "curves_5.13"}
    summary = read_summary(finished)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert verdicts == dict.fromkeys(("5.9b", "5.9c", "5.13a"), "not run")
    reasons = {claim["reason"] for claim in summary["claims"]}
    assert reasons == {"without --limit"}
    assert 0.3 < summary["metrics"]["lr-medium_validation_accuracy"] < 0.9
    assert summary["metrics"]["claim_5.15b"] == 1, "measured, though no claim of these experiments"
    for name, epochs in (("lr-medium-seed0", 8), ("hidden-0-seed0", 5)):
        rows = untimed(finished / name)
        assert len(rows) == epochs
        assert rows[-1]["train_accuracy"] > rows[0]["train_accuracy"]
        assert not (finished / name / "checkpoint.pt").exists()


def test_as_a_command(tmp_path: Path) -> None:
    run_command(tmp_path, "fmnist_hyperparams.py", "hidden-0", "--limit", 50)


def test_a_part_is_trained_again(finished: Path, tmp_path: Path, call: Call) -> None:
    parts = shutil.copytree(finished, tmp_path / "parts")
    config = parts / "hidden-0-seed0" / "config.json"
    config.write_text(config.read_text().replace('"lr": 0.001', '"lr": 0.01'))
    code, _, err = call(main, *NAMED, "--out-dir", parts, "--resume")
    assert (code, "was trained with other settings than hidden-0-seed0 has now" in err) == (2, True)
    shutil.copy(finished / "hidden-0-seed0" / "config.json", config)
    (parts / "hidden-0-seed0" / "model.pt").unlink()
    with no_processes():
        code, out, err = call(main, *NAMED, "--out-dir", parts, "--resume")
    assert (code, err) == (0, "")
    assert ("1/1 hidden-0-seed0: 5 epochs" in out, "lr-medium-seed0:" in out) == (True, False)
    assert "Highest validation accuracy: " in out
    for name in ("lr-medium-seed0", "hidden-0-seed0"):
        assert untimed(parts / name) == untimed(finished / name)


@pytest.mark.parametrize("damaged", ["metrics.csv", "model.pt"])
def test_a_damaged_part_is_named_with_what_helps(
    damaged: str, finished: Path, tmp_path: Path, call: Call
) -> None:
    parts = shutil.copytree(finished, tmp_path / "parts")
    path = parts / "lr-medium-seed0" / damaged
    path.write_bytes(path.read_bytes()[:-20])
    code, _, err = call(main, *NAMED, "--out-dir", parts, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{path} is damaged" in err
    assert "and --resume trains it again" in err


def test_a_study_whose_folder_is_deleted_ends_with_an_error(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(jobs: list[Job], *_: object) -> dict[str, str]:
        shutil.rmtree(jobs[0].run.folder.parent)
        return {}

    monkeypatch.setattr("fmnist_hyperparams.run_on_all_ranks", vanish)
    code, _, err = call(main, "hidden-0", "--limit", 50, "--out-dir", tmp_path / "run")
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path / "run") in err
    assert not (tmp_path / "run").exists()


def test_a_section_prints_its_own_claims_only(call: Call, tmp_path: Path) -> None:
    code, out, err = call(main, "--section", "5.6", "--out-dir", tmp_path / "run")
    assert (code, err) == (0, "")
    claims = read_summary(tmp_path / "run")["claims"]
    assert {claim["id"]: claim["verdict"] for claim in claims} == {
        "5.6a": "reproduced", "5.6b": "reproduced", "5.6c": "reproduced"
    }  # fmt: skip
    assert "5.7d" not in out
    assert "Open sigmoid.png." in out
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == {"sigmoid.png"}


@pytest.mark.full
def test_ctrl_c_stops_all_processes_and_prints_the_command_that_continues(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, str(PROJECT / "fmnist_hyperparams.py"), "lr-low", "no-dropout"]
    process = subprocess.Popen(
        [*command, "--limit", "2000", "--out-dir", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Ctrl-C may be ignored where the tests run in the background; a child would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    metrics = out / "lr-low-seed0" / "metrics.csv"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    continued = f"python fmnist_hyperparams.py --out-dir {out} --resume"
    assert err == f"fmnist_hyperparams.py: interrupted; continue with: {continued}\n"
    time.sleep(5)  # Python's own resource tracker takes a moment longer
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_section_that_trains_nothing_needs_no_two_examples() -> None:
    options = parse(None, ["--section", "5.3", "--limit", "1"], EVERY_EXPERIMENT)
    assert options.section == "5.3"
    with pytest.raises(UsageError, match="batch norm needs two"):
        parse(None, ["--section", "5.14", "--limit", "1"], EVERY_EXPERIMENT)


def test_the_list_of_experiments(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(main, "--list")
    assert (code, err) == (0, "")
    assert all(name in out for name in EVERY_EXPERIMENT)
    assert not any(tmp_path.iterdir())


def chosen(*arguments: str) -> dict[str, Experiment]:
    options = parse(None, arguments, EVERY_EXPERIMENT)
    return chosen_experiments(options, EXPERIMENTS, FURTHER)


def test_a_bare_command_is_the_short_form_of_the_document_s_experiments() -> None:
    options = parse(None, [], EVERY_EXPERIMENT)
    assert options.quick
    assert list(chosen()) == [*EXPERIMENTS]
    assert sum(experiment.epochs for experiment in chosen().values()) < 150
    assert not parse(None, ["--all"], EVERY_EXPERIMENT).quick
    assert chosen("--all") == EVERY_EXPERIMENT
    sizes = ["batch-32", "batch-10000", "batch-8", "batch-128", "batch-1000", "batch-8-0.001",
             "batch-128-0.001", "batch-1000-0.001", "batch-10000-0.001", "hidden-1"]  # fmt: skip
    assert list(chosen("--section", "5.7")) == sizes
    assert list(chosen("sgd", "l1-0.01", "sgd")) == ["sgd", "l1-0.01"]
    assert chosen("batch-8", "--quick")["batch-8"] == replace(FURTHER["batch-8"], epochs=3)
    yours = {"yours": Experiment("", epochs=20), "short": Experiment("", epochs=2)}
    options = parse(None, ["--quick"], yours)
    shortened = chosen_experiments(options, yours, {})
    assert [one.epochs for one in shortened.values()] == [11, 2]
    assert parse(None, ["scaled", "--seeds", "1,2"], EVERY_EXPERIMENT).seeds == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("scald",), "no experiment 'scald'; did you mean scaled?"),
        (("xyz",), "no experiment 'xyz'; --list shows them"),
        (("tiny-input-batchnorm", "--limit", "1"), "batch norm needs two examples"),
        (("--section", "5.14", "--limit", "1"), "batch norm needs two examples"),
        (("--all", "--limit", "1"), "batch norm needs two examples"),
        (("--section", "5.18"), "invalid choice: '5.18'"),
        (("--all", "--quick"), "give one"),
        (("scaled", "--all"), "give one"),
        (("--jobs", "0"), "'0' is not a whole number of at least 1"),
        (("--seeds", "0,0"), "names a number twice"),
        (("--epochs", "3"), "unrecognized arguments"),
    ],
)
def test_wrong_options(
    arguments: tuple[str, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)


def test_under_torchrun_a_list_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other processes would wait for trainings that never come."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert "--list trains nothing" in refused(main, "--list")
