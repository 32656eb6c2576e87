"""Run folders: what may be deleted, who may write; errors that are one line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
import torch

from common.cli import PROJECT, guarded, make_parser
from common.cli import add_data_flag as add_data_flag_to
from common.data import load_images
from common.device import resolve_precision, select_device
from common.errors import RunError, UsageError
from common.files import write_text, write_whole
from common.folders import MANIFEST, delete_run
from common.runs import Run
from common.start import start_run
from tests.helpers import Call, make_run


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill_the_disk(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, fill_the_disk)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_on_windows_a_file_that_a_virus_scanner_reads_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, refusals = Path.replace, [PermissionError(5, "Access is denied")] * 3

    def replace_later(self: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr("common.files.WINDOWS", True)
    monkeypatch.setattr(Path, "replace", replace_later)
    write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"
    assert not refusals


def test_on_macos_a_file_reaches_the_disk_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="POSIX")
    asked: list[int] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda file, command: asked.append(command))
    write_text(tmp_path / "file", "whole")
    assert asked == [51]


def test_a_file_is_named_on_the_disk_before_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would otherwise leave a file that no manifest names: the next run's, it seems."""
    with make_run(tmp_path) as run:
        manifest, on_disk = tmp_path / MANIFEST, list[str]()
        monkeypatch.setattr(os, "fsync", lambda _: on_disk.append(manifest.read_text()))
        run.file("model.pt")
    assert on_disk[-1].endswith('"model.pt"\n')


NO_MEMORY = (
    "error: out of memory; a lower --limit or --batch-size helps, on a GPU also --device cpu"
)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("wrong\nvalue"), 2, "error: wrong value"),
        (RunError("diverged"), 1, "error: diverged"),
        (OSError(errno.ENOSPC, "No space left"), 1, "error: [Errno 28] No space left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, NO_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 1, NO_MEMORY),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nFor debugging"), 1,
         "error: the GPU failed (CUDA error: unspecified launch failure)"),
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


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
              torch.AcceleratorError("CUDA error: unspecified launch failure")],
)  # fmt: skip
@pytest.mark.parametrize("trained", ["checkpoint.pt", "one of a study/model.pt"])
def test_a_failure_of_the_machine_names_the_command_that_continues(
    trained: str, error: Exception, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    run.file(Path(trained).parts[0])
    (tmp_path / trained).parent.mkdir(exist_ok=True)
    (tmp_path / trained).write_bytes(b"trained")
    with pytest.raises(RunError, match="; continue with: python script"), run:
        raise error


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
    with make_run(tmp_path) as run:
        run.metrics = {"good": 0.5, "bad": float("nan"), "worse": float("inf"), "seeds": [1, 2]}
        run.finish(1, [], "")
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert metrics == {"good": 0.5, "bad": None, "worse": None, "seeds": 1.5}


def test_a_subrun_is_a_folder_of_the_same_form(tmp_path: Path) -> None:
    with make_run(tmp_path, seed=3) as run:
        subrun = run.subrun("lr-high", {"lr": 0.1})
        assert (subrun.folder, subrun.name, subrun.seed) == (tmp_path / "lr-high", "lr-high", 3)
        assert run.subrun("other", {}, seed=5).seed == 5
    config = json.loads((tmp_path / "lr-high" / "config.json").read_text())
    assert config == {"script": "script.py", "options": {"lr": 0.1}}
    with make_run(tmp_path, seed=3, resume=True) as run:
        run.subrun("lr-high", {"lr": 0.1})
        with pytest.raises(
            UsageError, match="was trained with other settings than lr-high has now"
        ):
            run.subrun("lr-high", {"lr": 0.2})


# What --overwrite may delete


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def finished_run(folder: Path) -> None:
    """A run with a figure, a table and a subrun, all of which it named."""
    with make_run(folder) as run:
        run.file("curves.png").write_bytes(b"drawn")
        run.file("errors.csv").write_text("numbers")
        run.subrun("part", {}).file("model.pt").write_bytes(b"weights")
        run.metrics["number"] = 1
        run.finish(1, [], "")


def test_overwrite_deletes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished_run(folder)
    (folder / "holiday.png").write_bytes(b"mine")
    (folder / "table.csv").write_bytes(b"mine")
    (folder / "weights.pth").write_bytes(b"mine")
    finished_run(folder / "another run")
    kept = contents(folder / "another run")
    with make_run(folder, overwrite=True) as run:
        run.file("curves.png")
    left = contents(folder)
    assert {
        name: left[name] for name in ("holiday.png", "table.csv", "weights.pth")
    } == dict.fromkeys(("holiday.png", "table.csv", "weights.pth"), b"mine")
    assert contents(folder / "another run") == kept
    assert not {"curves.png", "errors.csv", "summary.json", "part/model.pt"} & set(left)
    assert not (folder / "part").exists()


def test_a_deletion_that_was_interrupted_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Path) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    finished_run(folder)
    monkeypatch.setattr(Path, "rmdir", interrupt)
    with pytest.raises(KeyboardInterrupt):
        delete_run(folder, "script.py")
    monkeypatch.undo()
    with make_run(folder, overwrite=True) as run:
        run.file("curves.png")
        assert not (folder / "part").exists()


def test_what_a_killed_start_of_a_part_left_can_be_replaced(tmp_path: Path) -> None:
    finished_run(tmp_path)
    for path in (tmp_path / "part").iterdir():
        path.unlink()
    (tmp_path / "part" / f".{MANIFEST}.123").write_text("{")
    with make_run(tmp_path, overwrite=True) as run:
        run.file("curves.png")
        assert not (tmp_path / "part").exists()


def test_overwrite_checks_everything_before_it_deletes_anything(tmp_path: Path) -> None:
    """The user put a folder of another script's in the place of a subrun."""
    folder = tmp_path / "run"
    finished_run(folder)
    (folder / "part" / MANIFEST).write_text('{"script": "other.py", "format": 2}\n')
    before = contents(folder)
    with pytest.raises(UsageError, match=r"holds no run of script\.py"):
        make_run(folder, overwrite=True)
    assert contents(folder) == before


def test_a_manifest_that_names_other_folders_deletes_nothing_there(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    (tmp_path / "photo.png").write_bytes(b"mine")
    try:
        (tmp_path / "run" / "link").symlink_to(tmp_path / "photos", target_is_directory=True)
    except OSError:
        pytest.skip("making a link is a privilege here, as on Windows")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"mine")
    with (tmp_path / "run" / MANIFEST).open("a") as manifest:
        manifest.write('"../photo.png"\n"/etc/passwd"\n".."\n"link"\n17\n"cut o')
    with make_run(tmp_path / "run", overwrite=True) as run:
        run.file("curves.png")
    assert (tmp_path / "photo.png").exists()
    assert (tmp_path / "photos" / "a.png").exists()


@pytest.mark.parametrize("error", [UsageError("no such data"), KeyboardInterrupt()])
def test_a_run_is_replaced_only_when_the_new_one_writes(
    tmp_path: Path, error: BaseException
) -> None:
    """Until then data are read, which may fail; an interrupted one cannot be continued either."""
    folder = tmp_path / "run"
    finished_run(folder)
    before = contents(folder)
    with pytest.raises(type(error)) as caught, make_run(folder, overwrite=True):
        raise error
    assert "continue with" not in str(caught.value)
    assert contents(folder) == before
    with make_run(folder, overwrite=True) as run:
        run.subrun("part", {})
        assert not (folder / "summary.json").exists()
        assert not (folder / "part" / "model.pt").exists()


def test_a_finished_training_is_not_begun_again_without_its_checkpoint(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.file("metrics.csv").write_text("epoch\n1\n")
        run.file("model.pt").write_bytes(b"weights")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"checkpoint\.pt is gone"):
        make_run(tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_the_command_that_started_a_run_stays_when_it_is_continued(tmp_path: Path) -> None:
    commands = [["--epochs", "9"], ["--resume"], ["--resume", "--epochs", "12"]]
    for arguments in commands:
        options = Namespace(seed=0, resume="--resume" in arguments, overwrite=False, device="cpu",
                            precision="fp32", out_dir=tmp_path)  # fmt: skip
        with start_run("script.py", options, arguments):
            pass
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["command"] == "python script.py --epochs 9"
    assert config["continued"] == ["python script.py --resume",
                                   "python script.py --resume --epochs 12"]  # fmt: skip


def test_a_run_that_gets_more_epochs_is_no_finished_one(tmp_path: Path) -> None:
    with make_run(tmp_path, epochs=6) as run:
        run.finish(1, [], "")
    with make_run(tmp_path, epochs=6, resume=True):
        assert (tmp_path / "summary.json").exists()
    with pytest.raises(KeyboardInterrupt), make_run(tmp_path, epochs=12, resume=True):
        raise KeyboardInterrupt
    assert not (tmp_path / "summary.json").exists()


def test_a_run_is_continued_in_its_own_precision(tmp_path: Path) -> None:
    """`auto` chooses it by the machine, so an option does not tell."""
    with make_run(tmp_path):
        pass
    environment = tmp_path / "environment.json"
    content = environment.read_text()
    assert json.loads(content)["precision"] == "fp32"
    environment.write_text(content.replace('"fp32"', '"bf16"'))
    with pytest.raises(UsageError, match="did not compute in fp32, as here"):
        make_run(tmp_path, resume=True)
    environment.write_text("damaged")
    make_run(tmp_path, resume=True)


def test_a_run_that_goes_on_elsewhere_says_so_and_keeps_where_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_run(tmp_path):
        pass
    path = tmp_path / "environment.json"
    here = json.loads(path.read_text())
    before = {**here, "device": "NVIDIA H200", "threads": 99}
    path.write_text(json.dumps(before))
    for moved in (True, False):  # the second time it goes on where it was the first time
        with make_run(tmp_path, resume=True):
            pass
        said = " ".join(capsys.readouterr().out.split())
        assert ("Until now this run had another device, threads: its numbers" in said) is moved
        assert json.loads(path.read_text()) == {**here, "began": before}
    path.write_text(json.dumps(here))
    with make_run(tmp_path, resume=True):
        pass
    assert "another" not in capsys.readouterr().out
    assert json.loads(path.read_text()) == here


def test_a_run_is_continued_with_its_own_recipe(tmp_path: Path) -> None:
    with make_run(tmp_path, recipe={"channels": (8, 16)}):
        pass
    make_run(tmp_path, resume=True, recipe={"channels": (8, 16)})
    with pytest.raises(UsageError, match="has another recipe"):
        make_run(tmp_path, resume=True, recipe={"channels": (8, 32)})


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "trouble",
    [
        "another script's run",
        "somebody's files",
        "a file",
        "an older version's run",
        "a run of format 1",
        "by a detour",
    ],
)
def test_a_folder_that_is_not_ours_is_left_alone(
    tmp_path: Path, trouble: str, overwrite: bool, resume: bool
) -> None:
    folder = tmp_path / "run"
    if trouble == "a file":
        folder.write_text("mine")
    else:
        finished_run(folder)
        heads = {"another script's run": '{"script": "other.py", "format": 2}',
                 "a run of format 1": '{"script": "script.py", "format": 1}'}  # fmt: skip
        if trouble in heads:
            (folder / MANIFEST).write_text(heads[trouble] + "\n")
        else:
            (folder / MANIFEST).unlink()
        if trouble in ("somebody's files", "by a detour"):
            (folder / "config.json").unlink()
    if trouble == "by a detour":  # `new` is not there yet; made, it would lead to somebody's files
        folder = tmp_path / "new" / ".." / "run"
    before = contents(tmp_path)
    with pytest.raises(UsageError) as caught:
        make_run(folder, overwrite=overwrite, resume=resume)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_run_is_replaced_only_on_request(tmp_path: Path) -> None:
    finished_run(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(
        UsageError, match="holds a finished run; --resume continues it, --overwrite"
    ):
        make_run(tmp_path)
    with pytest.raises(UsageError, match=r"holds a finished run; --overwrite replaces it$"):
        make_run(tmp_path, resume=None)
    with pytest.raises(UsageError, match="give one of them"):
        make_run(tmp_path, resume=True, overwrite=True)
    assert contents(tmp_path) == before
    (tmp_path / "summary.json").unlink()
    with pytest.raises(UsageError, match="holds an unfinished run"):
        make_run(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"cannot be written \(.*\); name another"):
        make_run(tmp_path / "file" / "run")


def test_a_resumed_run_needs_the_options_it_was_started_with(tmp_path: Path) -> None:
    with make_run(tmp_path, epochs=2, lr=0.1):
        pass
    with make_run(tmp_path, epochs=3, lr=0.1, resume=True):
        pass
    for options, words in (({"epochs": 2, "lr": 0.1}, "--epochs was 3"),
                           ({"epochs": 3, "lr": 0.2}, "--lr was 0.1")):  # fmt: skip
        with pytest.raises(UsageError, match=f"started with other options: {words}"):
            make_run(tmp_path, resume=True, **options)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        make_run(tmp_path, epochs=3, lr=0.1, resume=True)


# One run at a time

HOLDER = """
import argparse, sys
from pathlib import Path
from common.start import start_run

options = argparse.Namespace(seed=0, device="cpu", precision="fp32", limit=None,
                             out_dir=Path(sys.argv[1]), overwrite=False, resume=False)
with start_run("script.py", options, []):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_runs_never_write_into_one_folder(tmp_path: Path) -> None:
    """The other is a process of its own; when it is killed its lock goes with it."""
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=PROJECT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PROJECT)}, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        before = contents(folder)
        for options in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(UsageError, match="another run is writing there"):
                make_run(folder, **options)
            assert contents(folder) == before
        other.kill()
    for options in ({"resume": True}, {"overwrite": True}):
        with make_run(folder, **options):
            pass


def test_a_run_that_started_a_moment_earlier_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It started after this one had found the folder empty."""
    hold_lock = Run.hold_lock

    def late(run: Run) -> None:
        monkeypatch.setattr(Run, "hold_lock", hold_lock)
        with make_run(tmp_path):
            pass
        hold_lock(run)

    monkeypatch.setattr(Run, "hold_lock", late)
    with pytest.raises(UsageError, match="another run started there"):
        make_run(tmp_path)
    assert {"config.json", "environment.json", "manifest.jsonl"} <= set(contents(tmp_path))


# The data folder


def test_a_mistyped_data_folder_is_not_made(tmp_path: Path, call: Call) -> None:
    missing = tmp_path / "dta"

    def main(argv: Sequence[str]) -> None:
        parser = make_parser("")
        add_data_flag_to(parser)
        parser.parse_args(argv)

    code, out, err = call(main, "--data-dir", missing)
    assert (code, out) == (2, "")
    assert f"'{missing}' is no folder" in err
    assert err.count("\n") == 1
    with pytest.raises(UsageError, match="there is no such folder"):
        load_images("MNIST", "test", missing)
    assert not missing.exists()
