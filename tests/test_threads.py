"""How many threads compute, and how they wait for each other."""

from __future__ import annotations

from common.begin import SPINS, share_processors
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import make_run


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
