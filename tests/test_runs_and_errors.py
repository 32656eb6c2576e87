"""Files that are whole or absent, devices and precisions, and errors that are one line."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
import torch

from common.checkpoint import write_whole
from common.cli import guarded
from common.device import resolve_precision, select_device
from common.errors import RunError, UsageError
from tests.conftest import make_run


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill_the_disk(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_whole(path, fill_the_disk)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("wrong\nvalue"), 2, "error: wrong value"),
        (RunError("diverged"), 1, "error: diverged"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @guarded
    def main(argv: Sequence[str] | None = None) -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == code
    assert capsys.readouterr().err == f"{Path(__file__).name}: {line}\n"


def test_a_defect_keeps_its_traceback() -> None:
    @guarded
    def main(argv: Sequence[str] | None = None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])


def test_auto_is_a_device_that_computes() -> None:
    assert torch.ones(1, device=select_device("auto")).item() == 1
    assert select_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="accepted: auto, cpu"):
        select_device("gpu")


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert resolve_precision("fp32", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == resolve_precision("auto", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert resolve_precision("auto", cpu) == torch.float32
    with pytest.raises(UsageError, match="accepted: fp32, auto"):
        resolve_precision("bf16", cpu)


def test_a_summary_holds_no_number_that_json_cannot(tmp_path: Path) -> None:
    make_run(tmp_path).finish(document=1, metrics={"good": 0.5, "bad": float("nan"), "worse": float("inf")}, claims=[])
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"] == {"good": 0.5, "bad": None, "worse": None}


def test_a_study_is_a_subfolder_of_the_same_form(tmp_path: Path) -> None:
    study = make_run(tmp_path, seed=3).study("lr-high", {"lr": 0.1})
    assert (study.folder, study.name, study.seed) == (tmp_path / "lr-high", "lr-high", 3)
    config = json.loads((tmp_path / "lr-high" / "config.json").read_text())
    assert config == {"script": "script.py", "options": {"lr": 0.1}}
    assert make_run(tmp_path, seed=3).study("lr-high", {}, seed=5).seed == 5
