"""Document 5: inputs, networks, penalties and the numbers of its claims by hand; a study as a user runs it."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import common.training
from common.cli import PROJECT
from common.study import Job
from common.training import Row
from fmnist_hyperparams import (
    CLAIMS,
    CORRECTIONS,
    EXPERIMENTS,
    MEASURES,
    QUESTIONS,
    QUICK_EPOCHS,
    Experiment,
    Means,
    Result,
    Task,
    batch_norm_error,
    chosen_experiments,
    differences,
    dropout_answers,
    dropout_weights,
    experiments_of,
    halved_without_rise,
    main,
    make_inputs,
    make_network,
    make_penalty,
    measure_claims,
    parse,
    print_sentences,
    share_within,
    sigmoid_change,
    train_experiment,
)
from tests.conftest import Call, make_run, read_summary


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_the_experiments_are_the_document_s() -> None:
    document = {name: experiment for name, experiment in EXPERIMENTS.items() if name != "tiny-input-batchnorm-no-bias"}
    assert " ".join(document) == (
        "unscaled scaled batch-32 batch-10000 sgd adam lr-high lr-medium lr-low unscaled-lr-high unscaled-lr-medium "
        "unscaled-lr-low lr-annealing lr-annealing-100 no-annealing-100 hidden-0 hidden-1 hidden-2 tiny-input "
        "tiny-input-batchnorm dropout no-dropout l1 l2-norm l2-square inverted"
    )
    assert sum(experiment.epochs for experiment in document.values()) == 768
    assert {experiment.epochs for experiment in EXPERIMENTS.values()} == set(QUICK_EPOCHS)
    assert differences(EXPERIMENTS["hidden-1"]) == "nothing"
    assert differences(EXPERIMENTS["unscaled"]) == "divisor 1, optimizer sgd, lr 0.01"


def test_every_claim_needs_experiments_that_exist() -> None:
    assert [claim.id for claim in CLAIMS] == [*MEASURES]
    for needs, _ in MEASURES.values():
        assert set(needs) <= set(EXPERIMENTS)
    unscaled = ["unscaled-lr-high", "unscaled-lr-medium", "unscaled-lr-low"]
    assert experiments_of("5.11") == [*unscaled, "lr-medium", "lr-low"]
    assert experiments_of("5.17") == ["inverted", "hidden-1"]


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


def test_batch_norm_stands_before_relu_and_dropout_before_both_linear_layers() -> None:
    def kinds(name: str) -> list[str]:
        return [type(layer).__name__ for layer in make_network(EXPERIMENTS[name])]

    assert kinds("tiny-input-batchnorm") == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds("dropout") == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_inputs() -> None:
    images = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert make_inputs(EXPERIMENTS["unscaled"], images).tolist() == [[0, 51, 255]]
    assert make_inputs(EXPERIMENTS["scaled"], images).tolist() == [[0, pytest.approx(0.2), 1]]
    assert make_inputs(EXPERIMENTS["tiny-input"], images).tolist() == [[0, pytest.approx(2e-5), pytest.approx(1e-4)]]
    assert make_inputs(EXPERIMENTS["inverted"], images).tolist() == [[1, pytest.approx(0.8), 0]]


def test_penalties_equal_numpy() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    parts = [p.detach().double().numpy() for p in network.parameters()]
    by_hand = {
        "l1": 1e-4 * sum(np.abs(part).sum() for part in parts),
        "l2-norm": 1e-2 * sum(np.sqrt((part**2).sum()) for part in parts),
        "l2-square": 1e-2 * sum((part**2).sum() for part in parts),
    }
    for name, expected in by_hand.items():
        penalty = make_penalty(EXPERIMENTS[name])
        assert penalty is not None
        assert penalty(network).item() == pytest.approx(expected, rel=1e-5)
    assert make_penalty(EXPERIMENTS["no-dropout"]) is None


def test_what_needs_no_training() -> None:
    assert sigmoid_change(1) == pytest.approx(1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(-0.1)))
    assert batch_norm_error(by_variance=False) < 1e-5
    assert batch_norm_error(by_variance=True) > 0.5
    assert (dropout_answers(training=True), dropout_answers(training=False)) == (10, 1)
    assert dropout_weights() == 1


def make_result(folder: Path, name: str, rows: list[Row]) -> Result:
    folder.mkdir()
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    torch.manual_seed(0)
    torch.save(make_network(EXPERIMENTS[name]).state_dict(), folder / "model.pt")
    return Result(name, folder, torch.full((4, 784), 255, dtype=torch.uint8))


def test_numbers_of_a_result_by_hand(tmp_path: Path) -> None:
    rates, losses = (1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4), (0.5, 0.6, 0.4, 0.3995, 0.39)
    rows: list[Row] = [
        {"epoch": number, "lr": rate, "train_loss": 0.1, "train_accuracy": 0.9, "validation_loss": loss,
         "validation_accuracy": 0.8 + number / 100}
        for number, (rate, loss) in enumerate(zip(rates, losses, strict=True), 1)
    ]  # fmt: skip
    result = make_result(tmp_path / "a", "lr-annealing", rows)
    assert result.halvings() == [2, 4]
    assert halved_without_rise(result) == 1, "after epoch 4 the loss had not risen"
    assert result.accuracy_gap() == pytest.approx(0.05)
    assert result.loss_gap(1) == pytest.approx(0.4)
    weights = torch.cat([result.parameters()[name].flatten() for name in ("hidden.weight", "output.weight")])
    assert share_within(result, 0.01) == pytest.approx(np.mean(np.abs(weights.numpy()) <= 0.01), abs=1e-6)
    assert result.hidden_values.shape == (4, 1000)
    first = result.network.get_submodule("hidden")
    assert torch.allclose(result.hidden_values, torch.relu(first(torch.ones(4, 784))), atol=1e-5)
    measured = measure_claims({0: {"lr-annealing": result}, 1: {"lr-annealing": result}})
    assert measured["5.12a"] == [0, 0]
    assert measured["5.12b"] == [1, 1]
    assert measured["5.12c"] == []
    assert len(measured["5.7d"]) == 1


def test_every_sentence_of_the_report_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = dict.fromkeys(("epoch", "seconds", "lr", "train_loss", "validation_loss"), 1.0)
    rows = [{**row, "train_accuracy": 0.875, "validation_accuracy": 0.75}]
    means = Means([{name: make_result(tmp_path / name, name, rows) for name in EXPERIMENTS}])
    print_sentences("all", (*QUESTIONS, *CORRECTIONS), means)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 2 + len(QUESTIONS) + len(CORRECTIONS)
    assert "Training less validation accuracy is 12.5 points with it and 12.5 without" in said
    assert "0.0 of 0.0 times" in said
    print_sentences("one", (*QUESTIONS, *CORRECTIONS), Means([{"hidden-1": means.results[0]["hidden-1"]}]))
    assert not capsys.readouterr().out, "what was not run is not spoken of"


def make_job(folder: Path, experiment: Experiment, resume: bool = False) -> Job:
    return Job(make_run(folder, resume=resume), experiment.epochs, Task("name", experiment, PROJECT / "data", 300, 200))


@pytest.mark.parametrize("name", ["dropout", "lr-annealing"])
def test_interrupted_in_an_epoch_and_resumed_it_ends_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.training, "CHECKPOINT_SECONDS", 0.0)
    experiment = dataclasses.replace(EXPERIMENTS[name], epochs=4)
    train_experiment(make_job(tmp_path / "whole", experiment), lambda row: None)

    def interrupt(row: Row) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_experiment(make_job(tmp_path / "parts", experiment), interrupt)
    assert not make_job(tmp_path / "parts", experiment).finished
    train_experiment(make_job(tmp_path / "parts", experiment, resume=True), lambda row: None)
    assert read_rows(tmp_path / "whole" / "metrics.csv") == read_rows(tmp_path / "parts" / "metrics.csv")
    whole, parts = (torch.load(tmp_path / part / "model.pt", weights_only=True) for part in ("whole", "parts"))
    assert all(whole[key].equal(parts[key]) for key in whole)


def test_a_study_and_a_part_of_it_trained_again(tmp_path: Path, call: Call) -> None:
    options = ("lr-medium", "hidden-0", "--limit", 200)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, out, err = call(main, *options, "--jobs", 2, "--out-dir", whole)
    assert (code, err) == (0, "")
    assert "lr-medium-seed0: 8 epochs" in out
    assert {path.stem for path in whole.glob("*.png")} == {"curves_5.9", "curves_5.13"}
    summary = read_summary(whole)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in CLAIMS]
    assert verdicts["5.13a"] == "not run"
    assert verdicts["5.15b"] == "not reproduced"
    assert 0.3 < summary["metrics"]["lr-medium_validation_accuracy"] < 0.9

    shutil.copytree(whole, parts)
    config = parts / "hidden-0-seed0" / "config.json"
    config.write_text(config.read_text().replace('"lr": 0.001', '"lr": 0.01'))
    code, _, err = call(main, *options, "--out-dir", parts, "--resume")
    assert (code, "was trained with other settings than hidden-0-seed0 has now" in err) == (2, True)
    shutil.copy(whole / "hidden-0-seed0" / "config.json", config)
    (parts / "hidden-0-seed0" / "model.pt").unlink()
    code, out, _ = call(main, *options, "--jobs", 1, "--out-dir", parts, "--resume")
    assert (code, "1/1 hidden-0-seed0" in out, "lr-medium-seed0:" in out) == (0, True, False)
    for name in ("lr-medium-seed0", "hidden-0-seed0"):
        first, again = (read_rows(folder / name / "metrics.csv") for folder in (whole, parts))
        assert first == again
        assert first[-1]["train_accuracy"] > first[0]["train_accuracy"]


@pytest.mark.full
def test_ctrl_c_stops_all_processes_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "fmnist_hyperparams.py"), "lr-low", "no-dropout", "--limit", "2000", "--out-dir",
         str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    metrics = out / "lr-low-seed0" / "metrics.csv"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("fmnist_hyperparams.py: interrupted; go on with: python fmnist_hyperparams.py lr-low")
    assert err.count("\n") == 1
    time.sleep(5)  # Python's own resource tracker takes a moment longer
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_list_of_experiments(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(main, "--list")
    assert (code, err) == (0, "")
    assert all(name in out for name in EXPERIMENTS)
    assert not any(tmp_path.iterdir())


def test_a_bare_command_is_the_short_schedule_of_everything() -> None:
    args = parse([])
    assert args.quick
    assert chosen_experiments(args) == [*EXPERIMENTS]
    assert not parse(["--all"]).quick
    assert chosen_experiments(parse(["--section", "5.7"])) == ["batch-32", "batch-10000"]
    assert chosen_experiments(parse(["sgd", "adam", "sgd"])) == ["sgd", "adam"]
    assert parse(["scaled", "--seeds", "1,2"]).seeds == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scald",), "no experiment 'scald'; did you mean scaled?"),
        (("xyz",), "no experiment 'xyz'; --list shows them"),
        (("--section", "5.18"), "invalid choice: '5.18'"),
        (("--all", "--quick"), "give one"),
        (("scaled", "--all"), "give one"),
        (("--jobs", "0"), "'0' is not a whole number of at least 1"),
        (("--seeds", "0,0"), "names a number twice"),
        (("--epochs", "3"), "unrecognized arguments"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(main, *arguments)
