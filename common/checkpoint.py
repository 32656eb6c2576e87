"""Files that are whole or absent, and checkpoints from which a run continues exactly."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from common.errors import UsageError

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


class Damaged(Exception):
    """A file's content is not what was written."""


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
    """Writes a text in UTF-8, whole or not at all.

    What UTF-8 lacks, the bytes of a file's name that are no text, becomes an escape like JSON's.
    """
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Saves tensors and plain types, whole or not at all."""
    # Through memory: torch turns a failed write (a full disk) into an error without cause or file
    # name.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()))


def load_tensors(path: Path) -> Any:
    """What `save_tensors` or `torch.save` wrote, on the CPU; runs no code from the file.

    Every byte is compared with the checksums in the file (torch's format is a ZIP archive; torch
    itself does not compare them). Raises Damaged where one is wrong, or the file is cut off or no
    such file; OSError where it cannot be read.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            if archive.testzip() is not None:
                raise Damaged
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # many types for what is no such archive; all mean the same here
        raise Damaged from None


def save_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Saves tensors, with their checksum, in the format safetensors, whole or not at all."""
    content = safetensors.torch.save(tensors, {"sha256": _checksum(tensors)})
    write_whole(path, lambda file: file.write(content))


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of that format, on the CPU.

    Raises Damaged for another file, where a checksum is wrong, and for numbers that are NaN or
    infinite; OSError where it cannot be read.
    """
    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (safetensors.SafetensorError, ValueError):
        raise Damaged from None
    stated = header.get("__metadata__", {}).get("sha256")
    finite = all(value.isfinite().all() for value in tensors.values())
    if not finite or stated not in (None, _checksum(tensors)):
        raise Damaged
    return tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(
    path: Path, script: str, accepted: str = "--weights takes a file it saved"
) -> dict[str, Tensor]:
    """The tensors of a model that a script saved, by name; UsageError for any other file, and where
    a number is NaN or infinite. `accepted` ends the message."""
    other = f"{path} is damaged or holds no network of {script}; {accepted}"
    try:
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
        if not value.isfinite().all():
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


def load_checkpoint(path: Path, script: str) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU.

    Raises UsageError for a file that is damaged, is no checkpoint, has another format than today's,
    or was written by a script other than `script`.
    """
    try:
        state = load_tensors(path)
    except Damaged:
        state = None
    if not isinstance(state, dict) or "format" not in state:
        raise UsageError(
            f"{path} is damaged or no checkpoint of {script}; --overwrite starts the run again"
        )
    if state["format"] != FORMAT:
        raise UsageError(
            f"{path} has checkpoint format {state['format']}, and {script} reads format {FORMAT}: "
            "it was written by another version; name another --out-dir"
        )
    for name, kind in PARTS.items():
        if not isinstance(state.get(name), kind):
            raise UsageError(f"{path} is damaged ({name}); --overwrite starts the run again")
    if state["script"] != script:
        raise UsageError(
            f"{path} is a checkpoint of {state['script']}, not of {script}; name another --out-dir"
        )
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's random number generators, on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Restores what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type])
