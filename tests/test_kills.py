"""Runs killed at random instants and resumed: they end as if nothing had happened.

The short form kills a toy training, the long one (`pytest -m full`) the scripts, each as often as
the environment variable KILLS says.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import common.epochs
from common.cli import PROJECT
from common.data import InMemoryDataset, make_loader
from common.training import train_one_epoch
from tests.helpers import TIMES, make_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
EPOCHS = 40
KILLS = int(os.environ.get("KILLS", "4"))  # of each command; of the toy training at least 5


def content_of(folder: Path) -> dict[str, Any]:
    """What a run left, without the seconds: every table, every number, every weight."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.csv":
            header, *rows = (line.split(",") for line in path.read_text().splitlines())
            place = header.index("seconds")
            found[name] = [header, *(row[:place] + row[place + 1 :] for row in rows)]
        elif path.suffix in (".pt", ".pth") and path.name != "checkpoint.pt":
            weights = torch.load(path, weights_only=True)
            found[name] = {key: value.tolist() for key, value in weights.items()}
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.name == "summary.json":
            summary = json.loads(path.read_text())
            numbers = summary["metrics"].items()
            found[name] = {key: value for key, value in numbers if not is_time(key)}
    return found


def is_time(name: str) -> bool:
    return name in TIMES or "seconds" in name or "time" in name


def leftovers(folder: Path) -> list[str]:
    """Temporary files: those that begin with a point, but for the lock."""
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


# The short form


def train_toy(folder: Path) -> None:
    """A training of about 0.2 s that saves a checkpoint after each epoch."""
    common.epochs.CHECKPOINT_SECONDS = -1
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    loader = make_loader(InMemoryDataset(inputs, inputs.sum(1, keepdim=True)), 16, shuffle=True)
    with make_run(folder, resume=True) as run:
        for epoch in run.epochs(EPOCHS, model, optimizer, loader):
            loss = train_one_epoch(model, epoch.batches, nn.MSELoss(), optimizer)
            epoch.log(train_loss=loss)


def in_a_child(work: Callable[[Path], None], folder: Path, seconds: float) -> bool:
    """Does the work in a process that is killed after so many seconds; whether it was done."""
    child = os.fork()
    if child == 0:
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                work(folder)
        except BaseException:
            os._exit(1)
        os._exit(0)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "the work failed"
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_a_killed_training_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    # The first optimizer of a process imports for seconds: so it is made before the children.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    begin = time.monotonic()
    assert in_a_child(train_toy, tmp_path / "undisturbed", 60)
    length = time.monotonic() - begin
    undisturbed = content_of(tmp_path / "undisturbed")
    draw = random.Random(0)
    kills = trainings = 0
    wanted = max(KILLS, 5)
    while kills < wanted:  # a training that ends before its first kill must be right too
        killed = tmp_path / f"killed{trainings}"
        before = kills
        while not in_a_child(train_toy, killed, draw.uniform(0.05, 0.5) * length):
            kills += 1
            assert kills < before + 200, "it does not get on"
        trainings += 1
        assert trainings < 10 * wanted, "it ends before it is killed"
        assert content_of(killed) == undisturbed
        assert leftovers(killed) == []


# The long form

COMMANDS = {
    "line": "line_regression.py --limit 600 --image-size 64 --epochs 12",
    "fashion": "fashion_cnn.py --limit 2000 --epochs 12",
    "batch norm": "fashion_cnn.py --limit 2000 --epochs 12 --batch-norm --shuffle",
    "mnist_cnn": "mnist_cnn.py --limit 2000 --epochs 10",
    "mnist_mlp": "mnist_mlp.py --source tensor --limit 6000 --epochs 12",
    "widths": "mnist_mlp.py --widths 8,16 --limit 3000 --epochs 6",
    "compare": "fashion_cnn.py --compare --limit 500 --epochs 3",
    "study": "fmnist_hyperparams.py hidden-0 dropout lr-annealing --limit 1000",
    "digits recipe": "recipes/digits_mlp.py --limit 600 --epochs 8 --seeds 1,2",
    "clothes recipe": "recipes/fashion.py --limit 1500 --epochs 8 --seeds 1,2",
    "sprint": "recipes/sprint.py --limit 600 --seeds 1,2",
    "ladder": "recipes/weather.py --ladder --seeds 0,1",
    "torchrun": "fmnist_hyperparams.py hidden-0 hidden-1 dropout --limit 1000",
}
WITH_WORKERS = ("study", "ladder", "torchrun")  # these import the script, by its path
MARK = "KILL_TEST"  # an environment variable, by which all processes of a command are known


def start(name: str, folder: Path) -> subprocess.Popen[str]:
    script, *options = COMMANDS[name].split()
    words = [*options, "--out-dir", str(folder), "--resume"]
    command = [sys.executable, str(PROJECT / script), *words]
    if name == "torchrun":
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command[1:1] = torchrun
    elif name not in WITH_WORKERS:
        patch = (
            "import sys, runpy, common.epochs; common.epochs.CHECKPOINT_SECONDS = -1; "
            f"sys.argv = {[script, *words]!r}; "
            f"runpy.run_path({str(PROJECT / script)!r}, run_name='__main__')"
        )
        command = [sys.executable, "-c", patch]
    return subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, MARK: str(folder), "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip


def last_start(folder: Path) -> int:
    """When a run began, or was resumed, in a folder; 0 where none has."""
    path = folder / "environment.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def in_a_run(name: str, folder: Path) -> tuple[subprocess.Popen[str], bool]:
    """A command whose run has begun, or that has ended before; whether it has begun."""
    before = last_start(folder)
    process = start(name, folder)
    while last_start(folder) == before and process.poll() is None:
        time.sleep(0.01)
    return process, last_start(folder) != before


def processes_of(folder: Path) -> list[int]:
    """The processes of a command and those that they started; zombies have ended."""
    found = []
    mark = f"{MARK}={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def wait_for_all(folder: Path) -> None:
    """A worker whose parent is gone ends by itself, soon."""
    limit = time.monotonic() + 30
    while left := processes_of(folder):
        assert time.monotonic() < limit, f"still running: {left}"
        time.sleep(0.05)


def complete(name: str, folder: Path) -> float:
    """Runs a command to its end; the seconds from the beginning of its run."""
    process, _ = in_a_run(name, folder)
    begin = time.monotonic()
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert err == "" or name == "torchrun", "torchrun says how many threads it uses"
    wait_for_all(folder)
    return time.monotonic() - begin


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc for other processes")
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_scripts_end_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """Each run is killed within its first half, resumed and killed again, and compared at its end;
    one that ends before it is killed must be right too."""
    length = complete(name, tmp_path / "undisturbed")
    undisturbed = content_of(tmp_path / "undisturbed")
    draw = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        assert runs < 3 * KILLS + 3, "it ends before it is killed"
        folder, ended = tmp_path / f"run{runs}", False
        while kills < KILLS and not ended:
            process, _ = in_a_run(name, folder)
            try:
                process.communicate(timeout=draw.uniform(0, 0.5) * length)
                ended = True
                assert process.returncode == 0
            except subprocess.TimeoutExpired:
                process.kill()  # only the first process: those that it started must notice
                process.communicate()
                kills += 1
            wait_for_all(folder)
        complete(name, folder)
        assert content_of(folder) == undisturbed
        assert leftovers(folder) == []
    print(f"{name}: {kills} kills, {runs} runs equal, {length:.0f} s undisturbed")
