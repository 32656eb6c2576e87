"""Where is computed: names that cannot be used here, several GPUs, how many trainings at once."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import common.device
import common.ranks
import gradient_demo
import mnist_mlp
import rnn_demo
from common.checkpoint import random_state, restore_random_state
from common.cli import PROJECT
from common.device import computes, own_share_of, say_where, select_device
from common.errors import UsageError
from common.jobs import Job
from common.ranks import default_jobs, run_on_all_ranks
from recipes import weather
from tests.helpers import make_run

GPU = torch.device("cuda")
NAME = "emulated"


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "hpu", "meta", "xla", "lazy", "mtia", "vulkan", "mkldnn", "privateuseone", "cpu:x",
     "cuda:-1", "cuda:99", "maia:0", "fpga", "CPU"],
)  # fmt: skip
def test_a_device_that_cannot_be_used_here_is_refused_in_one_line(name: str) -> None:
    warnings.simplefilter("error")  # a warning would be a second line
    with pytest.raises(UsageError) as caught:
        select_device(name)
    assert str(caught.value) == f"--device {name}: no such device here; accepted: auto, cpu"


def test_auto_takes_no_gpu_that_this_pytorch_cannot_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is older than what PyTorch has code for is found, but computes nothing."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("hpu"))
    device = select_device("auto")
    assert device == torch.device("cpu")
    say_where(device)
    said = " ".join(capsys.readouterr().out.split())
    assert said == "Computing on the processor; this PyTorch cannot use the GPU (hpu)."


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory"),
    torch.AcceleratorError("CUDA error: out of memory"),  # its context does not fit either
])  # fmt: skip
def test_a_gpu_whose_memory_is_full_is_no_missing_one(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(torch.OutOfMemoryError):
        computes(GPU)
    with pytest.raises(torch.OutOfMemoryError):
        select_device("cuda")
    # Who computes on the CPU does not need it.
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: GPU)
    say_where(torch.device("cpu"))
    assert "--device cuda computes on the GPU." in " ".join(capsys.readouterr().out.split())


def test_of_several_gpus_the_one_that_computes_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device, PyTorch asks and sets the current one, which is the first."""
    asked: list[tuple[object, ...]] = []

    class Gpus:
        def get_rng_state(self, device: torch.device) -> torch.Tensor:
            asked.append(("get", device))
            return torch.zeros(1)

        def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
            asked.append(("set", device))

    second = torch.device("cuda:1")
    monkeypatch.setattr(torch, "get_device_module", lambda _: Gpus())
    restore_random_state(random_state(second), second)
    assert asked == [("get", second), ("set", second)]


@pytest.mark.parametrize(
    ("chosen", "local_rank", "expected"),
    [("cuda", "0", "cuda"), ("cuda", "1", "cuda:1"), ("cuda", "5", "cuda:1"),
     ("cuda", None, "cuda"), ("cuda:0", "1", "cuda:0"), ("cpu", "1", "cpu")],
)  # fmt: skip
def test_each_rank_on_a_machine_has_a_gpu_of_its_own(
    chosen: str, local_rank: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert own_share_of(torch.device(chosen)) == torch.device(expected)


def test_a_rank_trains_on_its_own_gpu_what_rank_0_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 has made the jobs, with its own device."""
    run = make_run(tmp_path)
    run.device = GPU
    trained_on: list[torch.device] = []

    def scatter(mine: list[Any], shares: Any) -> None:
        mine[0] = [Job(run, 1, None)]

    def note(jobs: Sequence[Job], *_: Any) -> dict[str, str]:
        trained_on.extend(job.run.device for job in jobs)
        return {}

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    for name in ("init_process_group", "destroy_process_group", "gather_object"):
        monkeypatch.setattr(dist, name, lambda *_, **__: None)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "scatter_object_list", scatter)
    monkeypatch.setattr(common.ranks, "run_jobs", note)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    run_on_all_ranks(None, lambda job: None, 1)
    assert trained_on == [torch.device("cuda:1")]


@pytest.mark.parametrize(("device", "jobs"), [("cpu", 7), ("cuda", 1)])
def test_trainings_at_the_same_time(
    device: str, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor one for each core, on a GPU one; the study and the ladders ask here."""
    monkeypatch.setattr(common.ranks, "select_device", torch.device)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert default_jobs(device) == jobs
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    assert default_jobs(device) == 1


@pytest.mark.parametrize("parse", [
    mnist_mlp.parse, gradient_demo.parse, rnn_demo.parse, weather.parse])  # fmt: skip
def test_what_is_small_is_trained_on_the_processor(
    parse: Callable[[Sequence[str]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse([]).device == "cpu"
    assert parse(["--device", "auto"]).device == "auto"
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "(default cpu: so small a network gains little by a GPU)" in said


def test_where_there_is_a_choice_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(device: torch.device) -> str:
        say_where(device)
        return " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert said(torch.device("cpu")) == ""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: GPU)
    monkeypatch.setattr(common.device, "computes", lambda _: True)
    assert said(torch.device("cpu")).endswith("--device cuda computes on the GPU.")
    assert said(GPU) == "Computing on cuda; --device cpu computes on the processor."


@pytest.mark.full
@pytest.mark.parametrize("command", [
    "fashion_cnn --limit 30 --epochs 1 --batch-size 10 --batch-norm",
    "mnist_mlp --source tensor --limit 40 --epochs 1 --batch-size 20",
    "mnist_mlp --explain --limit 60",
    "mnist_cnn --model inception --limit 20 --epochs 1 --batch-size 10",
    "mnist_cnn --model residual --limit 20 --epochs 1 --batch-size 10",
    "line_regression --image-size 32 --limit 20 --epochs 1 --batch-size 10",
    "gradient_demo --converge --limit 60",
    "recipes.fashion --limit 20 --epochs 1 --batch-size 10",
    "recipes.digits_mlp --limit 20 --epochs 1 --batch-size 10",
    "recipes.digits_cnn --limit 20 --epochs 1 --batch-size 10 --validate",
    "recipes.lines --limit 10 --epochs 1 --batch-size 5",
])  # fmt: skip
def test_nothing_needs_float64_or_mixes_devices(command: str, tmp_path: Path) -> None:
    """On a device without float64, which is emulated (recurrent networks are beyond that)."""
    words = [sys.executable, "-m", "tests.emulated_device", *command.split()]
    done = subprocess.run(
        [*words, "--out-dir", str(tmp_path / "run")], cwd=PROJECT, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Computing on {NAME}:0" in done.stdout or f"Computing on {NAME};" in done.stdout
    assert (tmp_path / "run" / "summary.json").exists()
