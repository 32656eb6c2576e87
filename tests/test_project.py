"""What the pages say against what is there: commands, scripts, functions and claims."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from common.cli import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
EXPERIMENTS = (PROJECT / "EXPERIMENTS.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["py-modules"]


def test_ci_runs_the_readme_s_test_command() -> None:
    command = next(line for line in README.splitlines() if line.startswith("python3 -m venv") and "pytest" in line)
    assert command in (PROJECT / ".ci" / "run").read_text()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_in_the_readme_and_in_the_list_of_experiments(script: str) -> None:
    assert f"python {script}.py" in README
    module = importlib.import_module(script)
    section = EXPERIMENTS.split(f"`{script}.py`\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    listed = {row[0] for row in rows}
    for claim in module.CLAIMS:
        assert re.sub("[a-z]$", "", claim.id) in listed, f"claim {claim.id} has no row"
    for row in rows[1:]:
        for name in re.findall("`([^`]+)`", row[3]):
            assert exists(module, name), f"{name}, named in row {row[0]}, does not exist"


def exists(module: ModuleType, name: str) -> bool:
    """Whether a name as the pages write it, `function`, `Class.method` or `common.module.function`, is defined."""
    where: object = module
    if name.startswith("common."):
        package, _, name = name.rpartition(".")
        where = importlib.import_module(package)
    for part in name.split("."):
        if not hasattr(where, part):
            return False
        where = getattr(where, part)
    return True


COMMANDS = (
    "fashion_cnn.py --limit 200 --epochs 1",
    "mnist_mlp.py --source tensor --limit 200 --epochs 1",
    "mnist_cnn.py --limit 200 --epochs 1",
    "rnn_demo.py --limit 20 --seeds 0",
    "fmnist_hyperparams.py hidden-0 --limit 50",
)


def test_scripts_as_commands(tmp_path: Path) -> None:
    """In another folder, where they make runs/, all at once; line_regression.py has its own such test."""
    # On one thread each: several that wait for each other's threads are many times slower.
    processes = {command: subprocess.Popen([sys.executable, str(PROJECT / command.split()[0]), *command.split()[1:]],
                                           cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                           env={**os.environ, "OMP_NUM_THREADS": "1"}) for command in COMMANDS}
    for command, process in processes.items():
        out, err = process.communicate()
        assert (process.returncode, err) == (0, ""), command
        assert "What the document states, and what was measured" in out
        (folder,) = (tmp_path / "runs" / command.split(".")[0]).iterdir()
        assert (folder / "summary.json").exists()


def test_every_script_of_the_project_is_declared() -> None:
    assert sorted(SCRIPTS) == sorted(path.stem for path in PROJECT.glob("*.py"))
