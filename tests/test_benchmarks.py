"""Every benchmark starts, on few examples."""

from __future__ import annotations

import importlib

import pytest

from common.cli import PROJECT
from tests.helpers import Call, no_processes

BENCHMARKS = sorted(path.stem for path in (PROJECT / "benchmarks").glob("*_*.py"))


@pytest.mark.parametrize("benchmark", [name for name in BENCHMARKS if not name.startswith("__")])
def test_a_benchmark_starts(benchmark: str, call: Call) -> None:
    main = importlib.import_module(f"benchmarks.{benchmark}").main
    with no_processes():
        code, out, err = call(main, "--pairs", 1, "--limit", 20)
    assert (code, err) == (0, "")
    assert "÷" in out
