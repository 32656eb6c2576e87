"""Weights that scripts saved, and checkpoints from which a run continues exactly."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UsageError
from common.files import LARGEST_WEIGHTS, Damaged, load_tensors, patiently

CHECKPOINT = "checkpoint.pt"
FORMAT = 2
PARTS: dict[str, Any] = {  # of a checkpoint, with their types
    "script": str,
    "history": list,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict | None,
    "loader": Tensor | None,
    "random": dict,
}


def load_weights(
    path: Path, script: str, accepted: str = "--weights takes a file it saved"
) -> dict[str, Tensor]:
    """The tensors of a model that a script saved, by name; UsageError for any other file, and where
    a number is NaN or infinite. `accepted` ends the message."""
    other = f"{path} is damaged or holds no network of {script}; {accepted}"
    try:
        if path.stat().st_size > LARGEST_WEIGHTS:
            raise Damaged
        weights = load_tensors(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except Damaged:
        raise UsageError(other) from None
    if not isinstance(weights, dict) or not weights or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise UsageError(other)
    for name, value in weights.items():
        try:
            finite = bool(value.isfinite().all())
        except RuntimeError:  # of a kind that none of ours has, such as 8-bit floats
            raise UsageError(other) from None
        if not finite:
            raise UsageError(f"{path}: the weights {name} are not finite numbers (NaN or infinite)")
    return weights


def newest_weights(script: str, name: str) -> Path:
    """The newest network, a file `name`, of a finished run in `runs/<script>`.

    Raises UsageError if there is none.
    """
    networks = Path("runs", script).glob(f"*/{name}")
    finished = [path for path in networks if (path.parent / "summary.json").exists()]
    if not finished:
        raise UsageError(f"no finished run in runs/{script}; start one, or give --weights FILE")
    return max(finished, key=lambda path: path.stat().st_mtime)


def load_checkpoint(path: Path, script: str, is_part: bool = False) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU; `is_part`: of one of several trainings of a run.

    Raises UsageError for a file that is damaged, is no checkpoint, has another format than today's,
    or was written by a script other than `script`.
    """
    cure = "--overwrite starts the run again"
    if is_part:  # the others are not lost
        cure = "delete that file, and --resume starts this training again"
    try:
        state = load_tensors(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except Damaged:
        state = None
    if not isinstance(state, dict) or "format" not in state:
        raise UsageError(f"{path} is damaged or no checkpoint of {script}; {cure}")
    if state["format"] != FORMAT:
        raise UsageError(
            f"{path} has checkpoint format {state['format']}, and {script} reads format {FORMAT}: "
            "it was written by another version; name another --out-dir"
        )
    for name, kind in PARTS.items():
        if not isinstance(state.get(name), kind):
            raise UsageError(f"{path} is damaged ({name}); {cure}")
    if state["script"] != script:
        raise UsageError(
            f"{path} is a checkpoint of {state['script']}, not of {script}; name another --out-dir"
        )
    return state


def delete_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint of a training that is done, if it is there."""
    patiently(partial((folder / CHECKPOINT).unlink, missing_ok=True))


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's random number generators, on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type], device)
