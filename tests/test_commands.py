"""Scripts as commands, in another folder, with their cheapest settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common.cli import PROJECT

COMMANDS = (
    "fashion_cnn.py --limit 200 --epochs 1",
    "mnist_mlp.py --source tensor --limit 200 --epochs 1",
    "mnist_cnn.py --limit 200 --epochs 1",
    "rnn_demo.py --limit 20 --seeds 0",
    "fmnist_hyperparams.py hidden-0 --limit 50",
)


def test_scripts_as_commands(tmp_path: Path) -> None:
    """In another folder, where they make runs/, all at once; line_regression.py has its own test.

    The other scripts run in the tests' process only, in their own test files.
    """
    processes = {}
    for command in COMMANDS:
        script, *arguments = command.split()
        processes[script] = subprocess.Popen(
            [sys.executable, str(PROJECT / script), *arguments], cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    for script, process in processes.items():
        out, err = process.communicate()
        assert (process.returncode, err) == (0, ""), script
        assert "What the document states, and what this run measured" in out
        (folder,) = (tmp_path / "runs" / Path(script).stem).iterdir()
        assert (folder / "summary.json").exists()
        assert out.rstrip().endswith(folder.name), "the last line says where everything is"
        for line in out.splitlines():
            assert len(line) <= 80 or "epoch" in line or str(folder) in line or "runs/" in line
