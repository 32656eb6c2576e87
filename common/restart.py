"""When a run in a folder may be replaced or continued, and when not."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from common.checkpoint import CHECKPOINT
from common.config import HOW_STARTED, precision_name, read_environment, read_options
from common.errors import UsageError
from common.folders import files_of_run
from common.terminal import say


def check_options(options: argparse.Namespace) -> None:
    """Raises UsageError where --resume, --overwrite and --out-dir do not go together."""
    if options.resume and options.out_dir is None:
        raise UsageError("--resume needs --out-dir DIR, the folder of the run to continue")
    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; give one of them")


def check_can_replace(folder: Path, script: str, options: argparse.Namespace) -> None:
    """Raises UsageError without --overwrite, and where something else would be deleted."""
    if options.overwrite:
        files_of_run(folder, script)  # says now, not later, what must not be deleted
        return
    kind = "a finished" if (folder / "summary.json").exists() else "an unfinished"
    continues = "--resume continues it, " if options.resume is not None else ""
    raise UsageError(f"--out-dir {folder} holds {kind} run; {continues}--overwrite replaces it")


def check_can_resume(folder: Path, options: dict[str, object], dtype: torch.dtype) -> None:
    """Raises UsageError where the run would not go on as it began; says where it begins anew."""
    if not (folder / "config.json").exists() and not has_trained(folder):
        say(f"{folder} holds no run yet: starting at the beginning")
        return
    before = read_options(folder)
    if before is None:
        raise UsageError(
            f"--resume: {folder / 'config.json'} cannot be read; --overwrite replaces the run"
        )
    different = {name for name in {*options, *before} if options.get(name) != before.get(name)}
    different -= {*HOW_STARTED, "epochs", "recipe"}
    epochs, epochs_before = options.get("epochs"), before.get("epochs")
    if isinstance(epochs, int) and isinstance(epochs_before, int) and epochs < epochs_before:
        different.add("epochs")
    if different:
        was = [f"--{name.replace('_', '-')} was {before.get(name)}" for name in sorted(different)]
        raise UsageError(
            f"--resume: the run in {folder} was started with other options: {', '.join(was)}"
        )
    if options.get("recipe") != before.get("recipe"):  # the script's numbers were changed
        raise UsageError(f"--resume: the run in {folder} has another recipe; name another folder")
    precision = precision_name(dtype)
    # Which `auto` chooses by the machine.
    if read_environment(folder).get("precision") not in (None, precision):
        raise UsageError(f"--resume: the run in {folder} did not compute in {precision}, as here")
    if not has_trained(folder):
        say(f"{folder} holds no checkpoint yet: training starts at the beginning")
    elif (folder / "metrics.csv").exists() and not (folder / CHECKPOINT).exists():
        raise UsageError(
            f"--resume: {folder / CHECKPOINT} is gone, and a finished training would be lost; "
            "--overwrite replaces it"
        )


def has_trained(folder: Path) -> bool:
    """Whether it, or a folder in it, holds a training that could be continued, or its network."""
    return any(any(folder.rglob(name)) for name in (CHECKPOINT, "*.pth", "model.pt"))
