"""What the pages say against what is there: commands, scripts, functions and claims."""

from __future__ import annotations

import importlib
import re
import runpy
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from common.cli import PROJECT
from tests.helpers import run_command

README = (PROJECT / "README.md").read_text(encoding="utf-8")
EXPERIMENTS = (PROJECT / "EXPERIMENTS.md").read_text(encoding="utf-8")
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = SETTINGS["tool"]["setuptools"]["py-modules"]


def test_ci_runs_the_readme_s_test_command() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    (command,) = {line for line in lines if "pytest" in line}
    assert command in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_in_the_readme_and_in_the_list_of_experiments(script: str) -> None:
    assert f"python {script}.py" in README
    chapter = importlib.import_module(script)
    section = EXPERIMENTS.split(f"`{script}.py`\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    listed = {row[0] for row in rows}
    for claim in importlib.import_module(f"reports.{script}").CLAIMS:
        assert re.sub("[a-z]$", "", claim.id) in listed, f"claim {claim.id} has no row"
    for row in rows[1:]:
        for name in re.findall("`([^`]+)`", row[3]):
            assert exists(chapter, name), f"{name}, named in row {row[0]}, does not exist"


def exists(chapter: ModuleType, name: str) -> bool:
    """Whether a name as the pages write it is defined.

    `function` and `Class.method` are the chapter's; others have their module before them.
    """
    where: object = chapter
    if name.startswith(("common.", "reports.", "hyperparams.")):
        package, module, name = name.split(".", 2)
        where = importlib.import_module(f"{package}.{module}")
    for part in name.split("."):
        if not hasattr(where, part):
            return False
        where = getattr(where, part)
    return True


def test_every_script_of_the_project_is_declared() -> None:
    assert sorted(SCRIPTS) == sorted(path.stem for path in PROJECT.glob("*.py"))


def test_the_versions_tested_are_those_of_every_package_declared() -> None:
    project = SETTINGS["project"]
    extras = project["optional-dependencies"]
    lines = (*project["dependencies"], *extras["test"], *extras["dev"])
    declared = {one.name: one.specifier for one in map(Requirement, lines)}
    del declared["first-networks"]  # itself, in dev
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    tested = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert sorted(tested) == sorted(declared)
    for name, versions in declared.items():
        assert versions.contains(tested[name])


@pytest.mark.full
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("fashion_cnn.py", ("--limit", 60, "--epochs", 1)),
        ("gradient_demo.py", ("--limit", 60)),
        ("line_regression.py", ("--limit", 60, "--epochs", 1, "--image-size", 32)),
        ("mnist_cnn.py", ("--limit", 60, "--epochs", 1, "--model", "basic")),
        ("mnist_mlp.py", ("--limit", 60, "--epochs", 1)),
    ],
)
def test_as_a_command(script: str, arguments: tuple[object, ...], tmp_path: Path) -> None:
    """In processes of their own; the ordinary tests run these chapters without (`run_script`)."""
    run_command(tmp_path, script, *arguments)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_only_an_editable_install_is_built(kind: str) -> None:
    pytest.importorskip("setuptools.build_meta")
    backend = runpy.run_path(str(PROJECT / ".build" / "editable_only.py"))
    with pytest.raises(SystemExit, match="clone it and use `pip install -e"):
        backend[f"build_{kind}"]("dist")
    assert backend["build_editable"]
