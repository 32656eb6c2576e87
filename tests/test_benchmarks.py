"""Every benchmark starts: on few examples, where both ways have to do the same work."""

from __future__ import annotations

import importlib
import sys

import pytest

from common.cli import PROJECT

BENCHMARKS = sorted(path.stem for path in (PROJECT / "benchmarks").glob("*_*.py"))


@pytest.mark.parametrize("benchmark", [name for name in BENCHMARKS if not name.startswith("__")])
def test_a_benchmark_starts(
    benchmark: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [benchmark, "--pairs", "1", "--limit", "200"])
    importlib.import_module(f"benchmarks.{benchmark}").main()
    shown = capsys.readouterr()
    assert "÷" in shown.out
    assert shown.err == ""
