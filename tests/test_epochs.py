"""The epochs of a run on a toy model, interrupted anywhere and resumed: bit-identical."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Callable
from functools import partialmethod
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress
from rich.text import Text
from torch import nn

import common.epochs
import common.terminal
from common.checkpoint import FORMAT
from common.data import InMemoryDataset, make_loader
from common.errors import Diverged, UsageError
from common.files import save_tensors
from common.folders import LOCK
from common.rows import Row, in_words, read_rows
from common.runs import Run
from common.training import evaluate, train_one_epoch
from tests.helpers import make_run
from tests.test_training import line_data


class Interrupted(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def train(run: Run, epochs: int, stop: tuple[str, int] | None = None) -> dict[str, Any]:
    """Trains a network with dropout and batch norm by Adam, with a scheduler that sees a score.

    `stop` says where in which epoch it is interrupted.
    """
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
    data = InMemoryDataset(*line_data())
    loader = make_loader(data, 4, shuffle=True, seed=3)
    for epoch in run.epochs(epochs, model, optimizer, loader, scheduler=scheduler):

        def interrupt(place: str, number: int = epoch.number) -> None:
            if stop == (place, number):
                raise Interrupted

        interrupt("before training")
        loss = train_one_epoch(
            model, epoch.batches, nn.MSELoss(), optimizer,
            after_step=lambda *_: interrupt("within training"),
        )  # fmt: skip
        interrupt("after training")
        scores = evaluate(model, make_loader(data, 4), {"mse": nn.MSELoss()})
        scheduler.step(scores["mse"])
        epoch.log(train_loss=loss)
        epoch.record(scores)
        interrupt("after logging")
    return {
        "history": run.history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def numbers(history: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize(
    "place", ["before training", "within training", "after training", "after logging"]
)
@pytest.mark.parametrize("number", [1, 2, 5])
def test_an_interrupted_training_ends_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    monkeypatch.setattr(common.epochs, "CHECKPOINT_SECONDS", 0)
    with make_run(tmp_path / "whole") as run:
        whole = train(run, 6)
    with pytest.raises(KeyboardInterrupt), make_run(tmp_path / "parts") as run:
        train(run, 6, stop=(place, number))
    torch.rand(7)  # other draws in between must not matter
    with make_run(tmp_path / "parts", resume=True) as run:
        parts = train(run, 6)

    assert numbers(parts["history"]) == numbers(whole["history"])
    rates = {row["lr"] for row in whole["history"]}
    assert len(rates) > 1, "the scheduler never acted: this test shows nothing of it"
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name
    for index, state in whole["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(parts["optimizer"]["state"][index][name], value), name
    with (tmp_path / "parts" / "metrics.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]
    saved = torch.load(tmp_path / "parts" / "model.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in whole["model"].items())


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        first = train(run, 3)
    with make_run(tmp_path, resume=True) as run:
        again = train(run, 3, stop=("before training", 3))
    assert again["history"] == first["history"]


def test_a_row_has_its_numbers_in_order(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        history = train(run, 1)["history"]
    assert list(history[0]) == ["epoch", "seconds", "lr", "train_loss", "mse"]
    assert 0 < history[0]["seconds"] < 5


def a_model() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    return model, optimizer, make_loader(InMemoryDataset(*line_data()), 4)


def test_rows_that_did_not_reach_the_disk_are_there_at_the_end(tmp_path: Path) -> None:
    """As after a power failure: the weights, which say that all is done, are synced; rows are not
    when they are appended."""
    with make_run(tmp_path) as run:
        for epoch in run.epochs(3, *a_model()):
            (tmp_path / "metrics.csv").write_text("")
            epoch.log(train_loss=1.0)
    assert [row["epoch"] for row in read_rows(tmp_path / "metrics.csv")] == [1, 2, 3]


def test_a_table_that_another_program_holds_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Excel holds it on Windows: the training goes on."""
    held = [False]

    def unless_held(write: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if held[0]:
                raise PermissionError(13, "Permission denied", str(arguments[0]))
            write(*arguments)

        return call

    for name in ("append_row", "write_rows"):
        write = getattr(common.epochs, name)
        monkeypatch.setattr(common.epochs, name, unless_held(write))
    with make_run(tmp_path) as run:
        for epoch in run.epochs(4, *a_model()):
            if epoch.number == 4:  # 2 and 3 could not be written, and are there now
                assert [row["epoch"] for row in read_rows(tmp_path / "metrics.csv")] == [1, 2, 3]
            held[0] = epoch.number == 2
            if epoch.number == 3:
                assert [row["epoch"] for row in read_rows(tmp_path / "metrics.csv")] == [1]
            epoch.log(train_loss=1.0)
    assert [row["epoch"] for row in read_rows(tmp_path / "metrics.csv")] == [1, 2, 3, 4]
    assert " ".join(capsys.readouterr().out.split()).count("is it open in another program?") == 1


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        train(run, 1)
    (tmp_path / "checkpoint.pt").unlink()
    (tmp_path / "checkpoint.pt").mkdir()
    with make_run(tmp_path, resume=True) as run, pytest.raises(UsageError, match="cannot be read"):
        train(run, 2)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        train(run, 1)
    with (
        make_run(tmp_path, resume=True) as run,
        pytest.raises(UsageError, match="does not fit this network"),
    ):
        list(run.epochs(2, *a_model()))


@pytest.mark.parametrize("content", ["of the old format", "code", "text", "another script's"])
def test_a_checkpoint_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, content: str
) -> None:
    with make_run(tmp_path) as run:
        train(run, 1)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    if content == "of the old format":
        save_tensors(path, {**state, "format": FORMAT - 1})
    elif content == "code":
        torch.save(nn.Linear(1, 1), path)
    elif content == "text":
        path.write_text("not a checkpoint")
    else:
        save_tensors(path, {**state, "script": "other.py"})
    expected = {
        "of the old format": "has checkpoint format 1, and script.py reads format 2",
        "another script's": "is a checkpoint of other.py, not of script.py",
    }.get(content, "is damaged or no checkpoint of script.py")
    with make_run(tmp_path, resume=True) as run, pytest.raises(UsageError) as caught:
        train(run, 2)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    model, optimizer, loader = a_model()

    def diverge() -> None:
        with make_run(tmp_path) as run:
            for epoch in run.epochs(2, model, optimizer, loader):
                loss = train_one_epoch(model, epoch.batches, nn.MSELoss(), optimizer)
                epoch.log(train_loss=loss)

    with pytest.raises(Diverged, match="epoch 1, step 2: the loss is inf"):
        diverge()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_score_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    """The last update blew the weights up: the loss was measured before it."""
    model, optimizer, loader = a_model()

    def blow_up() -> None:
        with make_run(tmp_path) as run:
            for epoch in run.epochs(1, model, optimizer, loader):
                epoch.log(train_loss=0.5, test_loss=math.nan)

    with pytest.raises(Diverged, match="epoch 1: test_loss is NaN"):
        blow_up()
    assert not (tmp_path / "model.pt").exists()


def test_a_training_that_diverged_has_ended_before_the_next_begins(tmp_path: Path) -> None:
    """Else its bar would go on moving, and its folder stay locked, until the run ends."""
    with make_run(tmp_path) as run:
        subrun = run.subrun("one", {})

        def diverge() -> None:
            for _ in subrun.epochs(2, *a_model()):
                raise Diverged("NaN")

        with contextlib.suppress(Diverged):
            diverge()
        with FileLock(subrun.folder / LOCK, timeout=0):
            pass


def test_numbers_of_an_epoch_fit_a_line() -> None:
    row = {"train_loss": 0.61136, "train_accuracy": 0.85512, "val_loss": 0.4, "val_accuracy": 1.0}
    assert in_words(row) == "loss: train 0.611, val 0.4  accuracy: train 85.5%, val 100.0%"
    row = {"unseen_median_error": 12.345, "mse": 2}
    assert in_words(row) == "median error: unseen 12.3  mse: 2"


def test_without_a_terminal_each_epoch_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_run(tmp_path) as run:
        train(run, 3)
    captured = capsys.readouterr()
    heading, *lines = captured.out.splitlines()
    assert heading.startswith("Training script for 3 epochs")
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all("loss: train" in line and "mse" not in line for line in lines)
    assert captured.err == ""


def watch_batches(folder: Path) -> list[Row]:
    """Two epochs, without a step, in which the losses of batches 2 and 4 are shown."""
    model, optimizer, _ = a_model()
    loader = make_loader(InMemoryDataset(*line_data(10)), 2)
    with make_run(folder) as run:
        for epoch in run.epochs(2, model, optimizer, loader):
            for number, _ in enumerate(epoch.batches, 1):
                if number % 2 == 0:
                    epoch.log_batch(number, 1 / (number * epoch.number))
            epoch.log(train_loss=1.0)
    return run.history


def test_losses_of_batches_are_one_line_an_epoch_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = watch_batches(tmp_path)
    assert [row["loss_at_batch_4"] for row in history] == [0.25, 0.125]
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["loss_at_batch_2"] for row in csv.DictReader(file)] == ["0.5", "0.25"]
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines[0::2] == ["loss every 2 batches: 0.500 0.250", "loss every 2 batches: 0.250 0.125"]
    assert [line.split()[:2] for line in lines[1::2]] == [["epoch", "1/2"], ["epoch", "2/2"]]


def test_losses_of_batches_stand_beside_the_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real bar on a terminal of 80 columns: each loss in its last column, and nowhere else."""
    screen = io.StringIO()

    def terminal(*, stderr: bool = False) -> Console:
        return Console(file=screen if stderr else None, force_terminal=stderr, width=80)

    monkeypatch.setattr(common.terminal, "console", terminal)
    # Drawn after each change instead of four times a second.
    draw_at_once = partialmethod(Progress.update, refresh=True)
    monkeypatch.setattr(Progress, "update", draw_at_once)
    watch_batches(tmp_path)
    drawn = [Text.from_ansi(line).plain.split() for line in screen.getvalue().splitlines()]
    shown = [words[-2:] for words in drawn if "loss" in words]
    assert [loss for loss, _ in groupby(shown)] == [
        ["loss", "0.500"], ["loss", "0.250"], ["loss", "0.125"]
    ]  # fmt: skip
    assert "loss every" not in capsys.readouterr().out
