"""Files that are whole or absent, and whose damage is noticed when they are read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from filelock import FileLock
from torch import Tensor

from common.terminal import WINDOWS

LARGEST_WEIGHTS = 400_000_000  # bytes: mnist_mlp.py, 100,000 units wide, saves 318 million


class Damaged(Exception):
    """A file's content is not what was written."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` with a temporary file beside `path`, syncs it and renames it to `path`.

    An interruption or a full disk leaves the file that was there before as it was.
    """
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            write(file)
            sync(file)
        patiently(lambda: temporary.replace(path))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """The temporary file of this process while it writes to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def leftovers(path: Path) -> list[Path]:
    """What killed processes left of a file that they were writing."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"\d+")
    hidden = path.parent.glob(".*")
    return [other for other in hidden if pattern.fullmatch(other.name)]


def check_can_write(path: Path) -> None:
    """Raises OSError where no file can be written beside `path`; leaves nothing there.

    `tempfile` does that too, but on Windows only after thousands of millions of tries: there it
    takes a folder that refuses for a name that is taken.
    """
    _beside(path).touch()
    _beside(path).unlink(missing_ok=True)


def sync(file: IO[Any]) -> None:
    """Waits until what was written to a file is on the disk, and survives a power cut.

    On macOS `os.fsync` leaves it in the drive's own memory.
    """
    file.flush()
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # a network's drive may not know it
            fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
            return
    os.fsync(file.fileno())


def patiently(change: Callable[[], object]) -> None:
    """Renames or deletes a file; on Windows it waits up to a second for a virus scanner there."""
    for _ in range(10 if WINDOWS else 0):
        try:
            change()
            return
        except PermissionError:
            time.sleep(0.1)
    change()


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all.

    What UTF-8 lacks, the bytes of a file's name that are no text, becomes an escape like JSON's.
    """
    write_whole(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def lock_for(path: Path) -> FileLock:
    """A lock by which a user's processes on this machine write to `path` one at a time.

    Its file lies in the machine's folder for temporary files: that of `path` may be a network's, or
    read-only. There another user's lock cannot be opened, so each has their own.
    """
    home = os.path.expanduser("~")  # noqa: PTH111  Path's raises an error where there is none
    owner = f"{path.resolve()} {home}"
    key = hashlib.sha256(owner.encode(errors="surrogateescape")).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"{path.name}.{key}.lock")


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
    if path.stat().st_size > LARGEST_WEIGHTS:
        raise Damaged
    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        finite = all(value.isfinite().all() for value in tensors.values())
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError):
        raise Damaged from None  # the last two: of types that torch lacks, or cannot test
    stated = (header.get("__metadata__") or {}).get("sha256")
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
