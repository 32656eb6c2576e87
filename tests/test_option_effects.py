"""Every option that the scripts share reaches the training: each of these fails if one is ignored.

What only one script has is tested with that script.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch.utils.data import RandomSampler, SequentialSampler

import fashion_cnn
import fmnist_hyperparams
import gradient_demo
import rnn_demo
from common.cli import PROJECT
from common.data import LabelledImages
from common.jobs import Job
from common.runs import Run
from common.training import device_of
from recipes import fashion, ladder
from tests.helpers import Call, Training, make_run, read_summary

DATA = PROJECT / "data"
SHARED = {
    "epochs": 3, "batch_size": 7, "lr": 0.0123, "seed": 5, "precision": "bf16", "limit": 50,
    "device": "meta",  # on which no number is stored
    "data_dir": DATA,
}  # fmt: skip
ITS_OWN = {  # further options, and shared ones that a script does not have
    "fashion_cnn": ((), ()),
    "mnist_cnn": ((), ()),
    "mnist_mlp": (("--source", "tensor"), ()),
    "line_regression": (("--image-size", 32), ("data_dir",)),
    "recipes.lines": ((), ("data_dir",)),
    "recipes.fashion": ((), ()),
    "recipes.digits_mlp": ((), ()),
    "recipes.digits_cnn": ((), ()),
    "recipes.sprint": (("--race", "digits-99.0"), ("epochs", "batch_size", "lr", "precision")),
    "recipes.weather": ((), ("precision",)),
}


def some_images(name: str, split: str, folder: Path, limit: int | None = None) -> LabelledImages:
    """In the place of `load_images`."""
    assert folder == DATA
    labels = torch.arange(min(limit or 60, 60)) % 10
    return LabelledImages(torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    """Takes away what a script does beside its training; the default data folder is none."""

    def prepare(script: ModuleType) -> None:
        monkeypatch.setattr("common.cli.PROJECT", Path("nowhere"))
        monkeypatch.setattr("common.start.select_device", torch.device)
        monkeypatch.setattr("common.ranks.select_device", torch.device)
        monkeypatch.setattr("common.device._has_bfloat16", lambda _: True)
        for name in ("report", "draft", "rates", "train_watched", "fashion_cnn_layers"):
            if hasattr(script, name):
                monkeypatch.setattr(script, name, MagicMock())
        if hasattr(script, "load_images"):
            monkeypatch.setattr(script, "load_images", some_images)

    return prepare


@pytest.mark.parametrize("name", ITS_OWN)
def test_what_is_shared_reaches_the_training(
    name: str,
    tmp_path: Path,
    first_training: Callable[..., Training],
    quick: Callable[[ModuleType], None],
) -> None:
    script = importlib.import_module(name)
    quick(script)
    further, missing = ITS_OWN[name]
    given = {option: value for option, value in SHARED.items() if option not in missing}
    words: list[object] = [*further, "--out-dir", tmp_path / "run"]
    for option, value in given.items():
        words += [f"--{option.replace('_', '-')}", value]
    found = first_training(script.main, *words)
    rates = found.optimizer.param_groups[0]
    seeds = {found.run.seed, torch.initial_seed(), found.batches.generator.initial_seed()}
    reached: dict[str, object] = {
        "epochs": found.epochs,
        "batch_size": found.batches.batch_size,
        "lr": rates.get("max_lr", rates["lr"]),
        "seed": 5 if seeds == {5} else seeds,
        "precision": {torch.bfloat16: "bf16"}.get(found.dtype),
        "limit": len(found.batches.dataset),  # type: ignore[arg-type]
        "device": device_of(found.model).type,
        "data_dir": DATA,  # the data have been found
    }
    assert {option: reached[option] for option in given} == given
    assert tmp_path / "run" in (found.run.folder, found.run.folder.parent)
    if name == "line_regression":
        assert found.batches.dataset[0][0].shape == (1, 32, 32)


def test_what_is_shared_reaches_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Callable[[ModuleType], None]
) -> None:
    quick(fmnist_hyperparams)
    given: list[tuple[Sequence[Job], int]] = []

    def note(jobs: Sequence[Job], work: object, processes: int, show: object) -> dict[str, str]:
        given.append((jobs, processes))
        return {}

    monkeypatch.setattr(fmnist_hyperparams, "run_on_all_ranks", note)
    monkeypatch.setattr(fmnist_hyperparams, "load_results", MagicMock())
    importlib.import_module("reports.fmnist_hyperparams")
    monkeypatch.setattr("reports.fmnist_hyperparams", MagicMock())
    monkeypatch.setattr(Run, "finish", MagicMock())
    words = ("hidden-0", "--seeds", "5,6", "--limit", 50, "--device", "meta", "--jobs", 3,
             "--data-dir", DATA, "--out-dir", tmp_path / "run")  # fmt: skip
    fmnist_hyperparams.main([str(word) for word in words])
    ((jobs, processes),) = given
    assert processes == 3
    assert [job.run.seed for job in jobs] == [5, 6]
    for job in jobs:
        assert job.run.device.type == "meta"
        assert job.settings.data_dir == DATA
        assert (job.settings.training_limit, job.settings.validation_limit) == (50, 50)


class Found(Exception):
    """Ends a script where it has what was asked for."""


def test_what_is_shared_reaches_the_descents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Callable[[ModuleType], None]
) -> None:
    quick(gradient_demo)
    found: list[Any] = []

    def note(run: Run, name: str, experiment: object, training: Any, test: Any) -> None:
        found.extend((run.seed, training.images.device.type, len(training.labels), experiment))
        raise Found

    monkeypatch.setattr(gradient_demo, "descend", note)
    words = ("--seed", 5, "--limit", 50, "--device", "meta", "--data-dir", DATA, "--converge",
             "--out-dir", tmp_path)  # fmt: skip
    with pytest.raises(Found):
        gradient_demo.main([str(word) for word in words])
    assert found == [5, "meta", 50, gradient_demo.CONVERGING["all samples"]]


def test_what_is_shared_reaches_the_weather(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Callable[[ModuleType], None]
) -> None:
    quick(rnn_demo)
    for name in ("weather_report", "learn_hello", "words_by_seed"):
        monkeypatch.setattr(rnn_demo, name, MagicMock())
    found: list[Any] = []

    def note(
        experiment: rnn_demo.Experiment, parts: rnn_demo.Parts, seed: int, device: torch.device
    ) -> None:
        found.extend((experiment.network, len(parts["train"]), seed, device.type))
        raise Found

    monkeypatch.setattr(rnn_demo, "train", note)
    words = ("--seed", 5, "--limit", 50, "--device", "meta", "--data-dir", DATA, "--cell", "gru",
             "--out-dir", tmp_path)  # fmt: skip
    with pytest.raises(Found):
        rnn_demo.main([str(word) for word in words])
    assert found == ["gru", 50, 5, "meta"]


def test_the_network_and_the_order_of_the_clothes(
    tmp_path: Path,
    first_training: Callable[..., Training],
    quick: Callable[[ModuleType], None],
) -> None:
    quick(fashion_cnn)
    data = ("--device", "cpu", "--data-dir", DATA, "--out-dir")
    plain = first_training(fashion_cnn.main, *data, tmp_path / "plain")
    assert isinstance(plain.batches.sampler, SequentialSampler)
    found = first_training(
        fashion_cnn.main, "--kernel-size", 3, "--no-padding", "--shuffle", *data, tmp_path / "other"
    )
    assert isinstance(found.batches.sampler, RandomSampler)
    convolution = found.model.block1[0]  # type: ignore[index, union-attr]
    assert (convolution.kernel_size, convolution.padding) == ((3, 3), (0, 0))
    assert plain.model.block1[0].kernel_size == (5, 5)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("arguments", "sizes"), [(("--batch-norm",), [20, 20]), ((), [20, 20, 1])])  # fmt: skip
def test_batch_norm_leaves_out_a_last_batch_of_one_image(
    arguments: tuple[str, ...], sizes: list[int], tmp_path: Path,
    first_training: Callable[..., Training], quick: Callable[[ModuleType], None],
) -> None:  # fmt: skip
    quick(fashion_cnn)
    given = ("--limit", 41, "--batch-size", 20, "--device", "cpu", "--data-dir", DATA)
    found = first_training(fashion_cnn.main, *arguments, *given, "--out-dir", tmp_path)
    assert [len(labels) for _, labels in found.batches] == sizes


@pytest.mark.parametrize("one", ["--batch-size", "--limit"])
@pytest.mark.parametrize("network", ["--batch-norm", "--compare"])
def test_batch_norm_with_batches_of_one_is_refused(
    network: str, one: str, tmp_path: Path, call: Call
) -> None:
    """Before --overwrite deletes the run that stands there."""
    with make_run(tmp_path) as run:
        run.finish(document=3, claims=(), ending="Done.")
    before = read_summary(tmp_path)
    given = (one, 1, "--device", "cpu", "--data-dir", DATA, "--overwrite", "--out-dir", tmp_path)
    code, _, err = call(fashion_cnn.main, network, *given)
    assert (code, err.count("\n")) == (2, 1)
    assert "batch norm needs two examples in a batch" in err
    assert read_summary(tmp_path) == before


def test_a_ladder_has_as_many_processes_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def note(jobs: Sequence[Job], work: object, processes: int, show: object) -> dict[str, str]:
        found.append(processes)
        return {}

    monkeypatch.setattr(ladder, "run_on_all_ranks", note)
    run = make_run(tmp_path)
    options = Namespace(seeds=(0,), epochs=1, jobs=3)
    ladder.run_ladder(run, options, MagicMock(), fashion.Recipe(), {})
    assert found == [3]
