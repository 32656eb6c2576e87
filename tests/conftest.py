"""What holds for all tests, and their fixtures.

The process that hands out the tests reads this file too: torch is imported by those that run them.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.helpers import Call, Outcome, Training

# One thread, here and in the processes that tests start: threads of small computations that wait
# for each other are many times slower on a busy machine. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says nothing on a machine that does other work too. No folder of
# examples is kept: the clone may be read-only.
settings.register_profile("untimed", deadline=None, database=None)
settings.load_profile("untimed")

pytest.register_assert_rewrite("tests.helpers")

# No test can see whether a file survives a power cut; waiting for the disk takes seconds.
os.fsync = lambda _: None

# Many tests read the same eight archives; unpacking the largest takes half a second.
gzip.decompress = lru_cache(maxsize=8)(gzip.decompress)

@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lock files, which nothing deletes, lie among the tests' files, of which pytest keeps few."""
    tempfile.tempdir = str(tmp_path_factory.getbasetemp())
    yield
    tempfile.tempdir = None


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a script's main with arguments; gives its exit code, standard output and error."""

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> Outcome:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not painted, and grids of images not made: most of a small run's time.

    Their files are there, and empty.
    """
    monkeypatch.setattr("common.figures.FigureCanvasAgg.print_png", lambda *_: None)
    for report in ("classification", "fashion_cnn", "line_regression", "line_regression_draft",
                   "line_regression_question", "mnist_mlp", "recipe_digits"):  # fmt: skip
        monkeypatch.setattr(f"reports.{report}.image_grid", lambda *_, **__: None)


@pytest.fixture
def refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., str]:
    """Calls a script's main with what cannot work; gives the one line it ends with.

    Checks that it ends with exit code 2, prints nothing else and leaves nothing behind in the
    current folder.
    """

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        before = {path.name for path in tmp_path.iterdir()}
        code, out, err = call(main, *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        after = {path.name for path in tmp_path.iterdir()}
        assert after == before, "a refused command left something behind"
        return err

    return run


@pytest.fixture
def first_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Training]:
    """Calls a script's main, which is ended at the first batch of its first `run.epochs`."""
    from common.runs import Run
    from tests.helpers import Training

    class Found(Exception):
        pass

    def run(main: Callable[[Sequence[str]], None], *arguments: object) -> Training:
        found: list[Training] = []
        epochs = Run.epochs

        def note(run: Run, count: int, *rest: Any, **others: Any) -> Any:
            found.append(Training(run, count, *rest))
            return epochs(run, count, *rest, **others)

        def autocast(device: object, dtype: Any) -> contextlib.nullcontext[None]:
            if found:
                found[0].dtype = dtype
                raise Found
            return contextlib.nullcontext()

        monkeypatch.setattr(Run, "epochs", note)
        for module in ("common.training", "mnist_mlp"):
            monkeypatch.setattr(f"{module}.autocast", autocast)
        with pytest.raises(Found):
            main([str(argument) for argument in arguments])
        return found[0]

    return run
