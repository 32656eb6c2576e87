"""A run's folder: whose it is, what may be deleted from it, and who is writing in it.

`manifest.jsonl` names the script and then every file and subfolder that the run wrote, one a line,
each before it is written. Nothing else is ever deleted.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.checkpoint import FORMAT
from common.config import read_script
from common.errors import UsageError
from common.files import leftovers, sync, write_text

MANIFEST, LOCK = "manifest.jsonl", ".lock"


class RunFolder:
    """A folder in which one run at a time writes files that it names first."""

    def __init__(self, path: Path, script: str) -> None:
        self.path, self.script = path, script
        self._lock: FileLock | None = None
        self._named: set[str] = set()
        self.made: list[Path] = []  # folders that this run has made, innermost first

    def __getstate__(self) -> dict[str, object]:
        """For another process, which has to take the lock itself."""
        return {**self.__dict__, "_lock": None}

    def start(self) -> None:
        """Makes the folder and, where there is none yet, its manifest."""
        self.path.mkdir(parents=True, exist_ok=True)
        manifest = self.path / MANIFEST
        for path in leftovers(manifest):
            path.unlink(missing_ok=True)
        if not manifest.exists():
            write_text(manifest, json.dumps({"script": self.script, "format": FORMAT}) + "\n")
        elif not manifest.read_bytes().endswith(b"\n"):  # a full disk cut the last name off
            with manifest.open("a", encoding="utf-8") as file:
                file.write("\n")
        self._named = set(read_manifest(self.path)[1])

    def discard(self) -> None:
        """Deletes the run again, which failed before it had any result, and empty folders."""
        if (self.path / MANIFEST).exists():
            delete_run(self.path, self.script)
        (self.path / LOCK).unlink(missing_ok=True)
        for folder in self.made:
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def file(self, name: str) -> Path:
        """The path of a file or subfolder in this folder, named in the manifest from now on.

        Raises OSError where the folder or its manifest has vanished.
        """
        if name not in self._named:
            with (self.path / MANIFEST).open("r+", encoding="utf-8") as manifest:
                manifest.seek(0, io.SEEK_END)
                manifest.write(json.dumps(name) + "\n")
                sync(manifest)  # before the file: none that is there is without its name
            self._named.add(name)
        return self.path / name

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Holds the lock, also twice; UsageError if another process has it for `wait` seconds.

        Raises FileNotFoundError where the folder has vanished.
        """
        if not self.path.is_dir():  # the lock would make it again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        if self._lock is None:
            self._lock = FileLock(self.path / LOCK)
        try:
            self._lock.acquire(timeout=wait)
        except Timeout:
            message = f"--out-dir {self.path}: another run is writing there; name another folder"
            raise UsageError(message) from None
        try:
            self.tidy()
            yield
        finally:
            self._lock.release()

    def tidy(self) -> None:
        """Deletes what a killed process left of the files named; the caller holds the lock."""
        for name in self._named:
            for path in leftovers(self.path / name):
                path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> tuple[str | None, list[str]]:
    """The script that wrote the run in a folder (None where there is no run), and what it wrote.

    A damaged line names nothing; where it is the first, `config.json` names the script. Raises
    UsageError for a run of another version's format.
    """
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None, []
    head = _parsed(lines[0]) if lines else None
    if not isinstance(head, dict) or not isinstance(head.get("script"), str):
        head = {"script": read_script(folder), "format": FORMAT}
    if head.get("format") != FORMAT:
        raise UsageError(f"--out-dir {folder} holds a run of another version; name another folder")
    names = [name for name in map(_parsed, lines[1:]) if isinstance(name, str)]
    # A name is one step below the folder, whatever a damaged manifest says.
    inside = [name for name in names if Path(name).name == name and name not in ("", "..")]
    return head["script"], inside


def _parsed(line: str) -> Any:
    """A manifest's line; None for one that was cut off while it was written."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def holds_anything(folder: Path) -> bool:
    """Whether a folder is there and not empty, but for what a start that was killed left there."""
    if not folder.exists():
        return False
    left = {*leftovers(folder / MANIFEST), folder / LOCK}
    return any(path not in left for path in folder.iterdir())


def check_is_ours(folder: Path, script: str) -> None:
    """Raises UsageError where a folder holds anything but a run of this script."""
    try:
        if not holds_anything(folder):
            return
    except OSError as error:
        message = f"--out-dir {folder} is no folder that can be read ({error.strerror})"
        raise UsageError(message) from None
    owner, _ = read_manifest(folder)
    if owner == script:
        return
    if owner is not None:
        holds = f"a run of {owner}"
    elif (folder / "config.json").exists():
        holds = "no run, or one of an older version"
    else:
        holds = "files that are no run"
    raise UsageError(f"--out-dir {folder} holds {holds}; name a new or empty folder")


def delete_run(folder: Path, script: str) -> None:
    """Deletes what a run's manifest names, the manifest last: it can be interrupted and repeated.

    UsageError, before anything is deleted, where a subfolder is another script's.
    """
    files, folders = files_of_run(folder, script)
    for file in files[:-1]:
        file.unlink(missing_ok=True)
    for subfolder in reversed(folders):
        with suppress(OSError):  # it holds something else, or a terminal stands in it
            subfolder.rmdir()
    files[-1].unlink(missing_ok=True)


def files_of_run(folder: Path, script: str) -> tuple[list[Path], list[Path]]:
    """A run's files, its manifest last, and its subfolders, a folder before those in it.

    Raises UsageError where a subfolder is another script's.
    """
    owner, names = read_manifest(folder)
    if owner != script:
        raise UsageError(f"{folder} holds no run of {script}; move it away or name another folder")
    files: list[Path] = []
    folders: list[Path] = []
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            files += [path, *leftovers(path)]
        elif not holds_anything(path):
            files += [*leftovers(path / MANIFEST), path / LOCK]
            folders.append(path)
        else:
            below = files_of_run(path, script)
            files += [*below[0], path / LOCK]
            folders += [path, *below[1]]
    return [*files, folder / MANIFEST], folders
