"""Files that are whole or absent, and checkpoints from which a run continues exactly."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from common.errors import UsageError

FORMAT = 2


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` with a temporary file beside `path`, syncs it and renames it to `path`.

    An interruption or a full disk leaves the file that was there before as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Saves tensors and plain types, whole or not at all."""
    # Through memory: torch turns a failed write (a full disk) into an error without cause or file
    # name.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()))


def load_checkpoint(path: Path, script: str) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU; runs no code from the file (`weights_only`).

    Raises UsageError for a file that is no checkpoint, has another format than today's, or was
    written by a script other than `script`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # torch raises many types for what is not its archive; all mean the same here
        state = None
    if not isinstance(state, dict) or "format" not in state:
        raise UsageError(
            f"{path} is not a checkpoint that {script} can read; name another --out-dir"
        )
    if state["format"] != FORMAT:
        raise UsageError(
            f"{path} has checkpoint format {state['format']}, and {script} reads format {FORMAT}: "
            "it was written by another version; name another --out-dir"
        )
    if state["script"] != script:
        raise UsageError(
            f"{path} is a checkpoint of {state['script']}, not of {script}; name another --out-dir"
        )
    return state


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's random number generators, on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type])
