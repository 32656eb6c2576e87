"""Disks that fill up and folders that vanish: one line, exit code 1, nothing on disk is lost."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import common.epochs
from common.cli import guarded
from common.data import LabelledImages
from common.errors import RunError
from common.figures import new_figure, save_figure
from common.folders import MANIFEST
from common.image_folder import decode_images, export_image_folder
from tests.helpers import Call, make_run
from tests.test_epochs import train
from tests.test_image_folder import as_document
from tests.test_kills import content_of, leftovers

resource = pytest.importorskip("resource", reason="needs POSIX")
EPOCHS = 12


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, no file can grow beyond so many bytes (the error has another number)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def a_script(folder: Path) -> Callable[..., None]:
    """A script's main that trains the toy network of tests/test_epochs.py and draws a figure."""

    @guarded
    def main(argv: object = None) -> None:
        with make_run(folder, resume=True) as run:
            train(run, EPOCHS)
            figure, (panel,) = new_figure("a figure")
            panel.imshow(torch.rand(100, 100).numpy())
            save_figure(figure, run.file("figure.png"))
            run.metrics["rows"] = len(run.history)
            run.finish(1, [], "")

    return main


@pytest.fixture
def undisturbed(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(common.epochs, "CHECKPOINT_SECONDS", -1)
    folder = tmp_path / "undisturbed"
    assert call(a_script(folder))[::2] == (0, "")
    return folder


NAMES = ("config.json", "metrics.csv", "checkpoint.pt", "figure.png")


@pytest.mark.parametrize("full_at", NAMES)
def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(
    full_at: str, undisturbed: Path, tmp_path: Path, call: Call
) -> None:
    sizes = {name: (undisturbed / name).stat().st_size for name in NAMES}
    assert sorted(sizes, key=lambda name: sizes[name]) == list(NAMES), "one after the other fails"
    folder = tmp_path / "parents" / "run"
    with files_of_at_most(sizes[full_at] - 10):
        code, _, err = call(a_script(folder))
    assert code == 1
    assert err.count("\n") == 1
    assert "File too large" in err
    assert f"{folder / full_at}'" in err or full_at == "metrics.csv", "appended row by row"
    assert ("; continue with: python" in err) == (full_at in ("checkpoint.pt", "figure.png"))
    if full_at == "config.json":
        assert not folder.parent.exists(), "nothing has been done"
    else:
        assert leftovers(folder) == []
    assert call(a_script(folder))[::2] == (0, "")
    assert content_of(folder) == content_of(undisturbed)
    rows = [(one / MANIFEST).read_text().splitlines() for one in (folder, undisturbed)]
    assert set(rows[1]) <= set(rows[0]), "what is not named would survive --overwrite"


def test_what_a_run_without_training_has_made_stays(tmp_path: Path, call: Call) -> None:
    """The disk is full only when the second figure is saved."""
    folder = tmp_path / "run"

    @guarded
    def main(argv: object = None) -> None:
        with make_run(folder) as run:
            run.is_new = True
            figure, _ = new_figure("a figure")
            save_figure(figure, run.file("one.png"))
            with files_of_at_most(100):
                save_figure(figure, run.file("two.png"))

    code, _, err = call(main)
    assert code == 1
    assert "two.png" in err
    assert (folder / "one.png").stat().st_size > 100


@pytest.mark.parametrize("vanishes_at", ["metrics.csv", "checkpoint.pt", "figure.png"])
def test_a_vanished_folder_is_one_line_and_is_not_made_again(
    vanishes_at: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    module, function = {
        "metrics.csv": ("common.epochs", "append_row"),
        "checkpoint.pt": ("common.epochs", "save_tensors"),
        "figure.png": ("tests.test_storage", "save_figure"),
    }[vanishes_at]
    write = getattr(sys.modules[module], function)

    def vanish(*arguments: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        write(*arguments)

    monkeypatch.setattr(f"{module}.{function}", vanish)
    code, _, err = call(a_script(folder))
    assert code == 1
    assert err.count("\n") == 1
    assert "No such file or directory" in err
    assert str(folder) in err
    assert not folder.exists()


def test_what_is_named_after_the_folder_has_gone_is_not_written(tmp_path: Path) -> None:
    with make_run(tmp_path / "run") as run:
        shutil.rmtree(run.folder)
        with pytest.raises(FileNotFoundError):
            run.file("summary.json")
    assert not run.folder.exists()


def test_a_manifest_cut_off_on_a_full_disk_names_what_follows(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.file("a.png").write_bytes(b"drawn")
    with (tmp_path / MANIFEST).open("a") as manifest:
        manifest.write('"cut o')
    with make_run(tmp_path, resume=True) as run:
        run.file("model.pt").write_bytes(b"weights")
    with make_run(tmp_path, overwrite=True) as run:
        run.file("metrics.csv")
        assert not (tmp_path / "model.pt").exists(), "it would pass for that of the new run"


def test_a_start_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """Killed while it wrote its first file, and between its first and its second."""
    (tmp_path / f".{MANIFEST}.123").write_text("{")
    with make_run(tmp_path) as run:
        run.run_folder.file("config.json").unlink()
    assert leftovers(tmp_path) == []
    with make_run(tmp_path, resume=True):
        assert (tmp_path / "config.json").exists()


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure, _ = new_figure("a figure")
    with files_of_at_most(1000), pytest.raises(OSError, match=f"File too large: '{path}'"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_on_a_full_disk_is_completed_later(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8, generator=generator)
    splits = {"test": LabelledImages(images, torch.zeros(4, dtype=torch.int64))}
    with files_of_at_most(100), pytest.raises(RunError, match=r"png cannot be written \(File too"):
        export_image_folder(tmp_path / "png", splits)
    assert not [path for path in (tmp_path / "png").rglob("*") if path.is_file()]
    export_image_folder(tmp_path / "png", splits)
    assert torch.equal(decode_images(as_document(tmp_path / "png" / "test")), images)
