"""How many threads compute, how they wait for each other, and whose memory they use."""

from __future__ import annotations

from common.begin import PROJECT, SPINS, share_processors
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import make_run


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_wait_a_shorter_time_unless_the_user_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    share_processors()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    share_processors()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_processors()
    assert "GOMP_SPINCOUNT" not in os.environ


# Trains a small CNN, then prints how many pages of memory the system handed out for each batch.
PAGES = """
import resource
import torch
from torch import nn

model = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.MaxPool2d(2), nn.ReLU(),
    nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 25, 1))
images = torch.rand(128, 1, 28, 28)

def pages(batches):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(batches):
        model.zero_grad()
        model(images).sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / batches

pages(10)
print(pages(20))
"""


def pages_for_a_batch(environment: dict[str, str]) -> float:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    clean.pop("GLIBC_TUNABLES", None)
    command = [sys.executable, "-c", f"import common.begin{PAGES}"]
    return float(subprocess.check_output(command, text=True, env=clean | environment, cwd=PROJECT))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_memory_is_kept_from_batch_to_batch_unless_the_user_says_how() -> None:
    usual = pages_for_a_batch({"MALLOC_ARENA_MAX": "8"})
    if usual < 1000:
        pytest.skip("this C library keeps freed memory anyway")
    assert pages_for_a_batch({}) < usual / 10


@pytest.mark.usefixtures("two_threads")
def test_a_run_computes_with_as_many_threads_as_it_asks_for(tmp_path: Path) -> None:
    with make_run(tmp_path / "all"):
        assert torch.get_num_threads() == 2
    with make_run(tmp_path / "one", threads=1) as run:
        assert torch.get_num_threads() == 1
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["threads"] == 1


@pytest.mark.parametrize("script", ["mnist_mlp", "gradient_demo", "rnn_demo"])
def test_small_networks_use_one_thread(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        pass

    def start(*arguments: Any, threads: int | None = None) -> None:
        raise Started(threads)

    chapter = importlib.import_module(script)
    monkeypatch.setattr(chapter, "start_run", start)
    with pytest.raises(Started, match="1"):
        chapter.main(["--out-dir", str(tmp_path)])
