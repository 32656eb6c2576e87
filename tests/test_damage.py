"""Files that were damaged on disk: refused in one line, never read as something else."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.checkpoint import FORMAT, load_checkpoint, load_weights
from common.errors import UsageError
from common.files import LARGEST_WEIGHTS, Damaged, load_safetensors, save_safetensors, save_tensors
from common.rows import read_rows
from fashion_cnn import load_network

STATE: dict[str, Any] = {
    "format": FORMAT,
    "script": "script.py",
    "history": [{"epoch": 1, "train_loss": 0.5}],
    "model": {"weight": torch.arange(12.0).view(3, 4)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
    "scheduler": None,
    "loader": torch.Generator().get_state(),
    "random": {"cpu": torch.get_rng_state()},
}


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "checkpoint.pt"
    save_tensors(path, {**STATE, **changes})
    return path


def same(a: Any, b: Any) -> bool:
    """Whether two contents of checkpoints are equal, to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def damaged_copies(content: bytes, count: int) -> list[bytes]:
    """Copies of a file with one bit flipped, and as many that are cut off."""
    draw = random.Random(0)
    copies = []
    for _ in range(count):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        copies += [bytes(flipped), content[: draw.randrange(len(content))]]
    return copies


def refusals(folder: Path, count: int) -> int:
    """How many of 2·`count` damaged checkpoints are refused; the others must be read unchanged (a
    bit between two records belongs to nothing)."""
    path = saved(folder)
    content = path.read_bytes()
    messages = []
    for copy in damaged_copies(content, count):
        path.write_bytes(copy)
        try:
            state = load_checkpoint(path, "script.py")
        except UsageError as error:
            messages.append(str(error))
        else:
            assert same(state, STATE)
    assert all(str(path) in message and "\n" not in message for message in messages)
    return len(messages)


def test_a_damaged_checkpoint_is_refused_or_read_unchanged(tmp_path: Path) -> None:
    assert refusals(tmp_path, 100) > 150


@pytest.mark.full
def test_many_damaged_checkpoints(tmp_path: Path) -> None:
    assert refusals(tmp_path, 10_000) > 15_000


@pytest.mark.parametrize("part", [name for name in STATE if name != "format"])
def test_a_part_of_another_type_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(UsageError, match=rf"is damaged \({part}\)"):
        load_checkpoint(saved(tmp_path, **{part: 7}), "script.py")


def test_a_part_of_a_study_is_mended_by_itself(tmp_path: Path) -> None:
    """--overwrite would delete the other trainings too, and --resume meets the same file again."""
    path = saved(tmp_path)
    path.write_bytes(b"junk")
    with pytest.raises(UsageError, match="--overwrite starts the run again"):
        load_checkpoint(path, "script.py")
    with pytest.raises(UsageError, match="delete that file, and --resume starts this training"):
        load_checkpoint(path, "script.py", is_part=True)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"format {FORMAT + 1}.*another version"):
        load_checkpoint(saved(tmp_path, format=FORMAT + 1, extra=1), "script.py")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, number: float) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2), "b": torch.tensor([1.0, number])}, path)
    with pytest.raises(UsageError, match=r"model\.pt: the weights b are not finite"):
        load_weights(path, "script.py")


@pytest.mark.parametrize("content", [b"", b"text", torch.ones(2), {}, {"a": 1}, None])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=r"model\.pt"):
        load_weights(path, "script.py")


def test_weights_of_another_kind_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8-bit floats, where PyTorch cannot test them; a shape without sides; a file of gigabytes."""
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2).to(torch.float8_e4m3fn)}, path)
    try:  # PyTorch 2.15 can
        assert load_weights(path, "script.py")["a"].float().tolist() == [1, 1]
    except UsageError as refusal:
        assert "holds no network of" in str(refusal)  # noqa: PT017
    torch.save({"block1.0.weight": torch.tensor(1.0)}, path)
    with pytest.raises(UsageError, match="holds no network of"):
        load_network(path)
    torch.save({"a": torch.ones(2)}, path)
    assert load_weights(path, "script.py")["a"].tolist() == [1, 1]
    widest = 100_000  # units of mnist_mlp.py's layer, at most
    assert 4 * (785 * widest + 10 * widest + 10) < LARGEST_WEIGHTS
    monkeypatch.setattr("common.checkpoint.LARGEST_WEIGHTS", 100)
    with pytest.raises(UsageError, match="holds no network of"):
        load_weights(path, "script.py")


@pytest.mark.parametrize("header", [
    {"a": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}},
    {"__metadata__": None, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
])  # fmt: skip
def test_safetensors_of_another_kind_are_refused_or_read(
    header: dict[str, Any], tmp_path: Path
) -> None:
    path, text = tmp_path / "model.safetensors", json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with contextlib.suppress(Damaged):
        assert load_safetensors(path)["a"].item() == 0


def test_damaged_weights_of_a_recipe_are_refused_or_read_unchanged(tmp_path: Path) -> None:
    """The format safetensors has no checksum of its own."""
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor(7), "c": torch.ones(2).half()}
    save_safetensors(path, tensors)
    content = path.read_bytes()
    refused = 0
    for copy in damaged_copies(content, 100):
        path.write_bytes(copy)
        try:
            assert same(load_safetensors(path), tensors)
        except Damaged:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_of_a_recipe_that_are_no_numbers_are_refused(
    tmp_path: Path, number: float
) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(path, {"a": torch.tensor([1.0, number])})
    with pytest.raises(Damaged):
        load_safetensors(path)


@pytest.mark.parametrize("content", [
    "epoch,loss\n1,0.5\n2\n", "epoch,loss\n1,0.5\n2,0.4,0.3\n", "epoch,loss\n1,0.5\n2,0.4x\n",
    "epoch,loss\n1,\x00\n", "epoch,loss\n1,\udcff\n"])  # fmt: skip
def test_a_damaged_table_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=rf"metrics\.csv is damaged; delete {tmp_path}"):
        read_rows(path)


def test_a_table_that_lost_whole_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n1,0.5\n2,0.4\n")
    assert len(read_rows(path, 2)) == 2
    with pytest.raises(UsageError, match=rf"metrics\.csv is damaged; delete {tmp_path}"):
        read_rows(path, 3)


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called damaged, the run would be started again, and everything in it lost."""
    path = saved(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(MemoryError):
        load_checkpoint(path, "script.py")
