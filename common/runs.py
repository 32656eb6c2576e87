"""A run's folder: what was asked, on which machine, every epoch's numbers, and the summary at the end."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from common.checkpoint import load_checkpoint, write_whole
from common.device import configure_numerics, resolve_precision, seed_everything, select_device
from common.errors import UsageError
from common.report import Verdict

_RUN_FILES = {"config.json", "environment.json", "summary.json", "checkpoint.pt", "model.pt"}
_RUN_SUFFIXES = {".png", ".csv", ".pth"}
# Options that say where and how a run is started, not what it computes.
_NOT_COMPARED = {"out_dir", "overwrite", "resume", "epochs", "jobs"}


@dataclass(frozen=True)
class Run:
    """One run's folder. As a context manager it answers an interruption with the command that goes on.

    `resume` is None where a script's runs cannot be resumed.
    """

    folder: Path
    script: str
    name: str
    seed: int
    device: torch.device
    dtype: torch.dtype
    resume: bool | None
    arguments: Sequence[str]
    started: float = field(default_factory=time.perf_counter)

    def study(self, name: str, settings: Mapping[str, object], seed: int | None = None) -> Run:
        """A subfolder of the same form for one of several trainings; `settings` become its `config.json`.

        Raises UsageError where a run that is gone on with has trained it with other settings.
        """
        folder = self.folder / name
        before = _read_config(folder).get("options") if self.resume else None
        if before is not None and before != {key: _plain(value) for key, value in settings.items()}:
            raise UsageError(f"--resume: {folder} was trained with other settings than {name} has now; "
                             "name another --out-dir")
        folder.mkdir(exist_ok=True)
        _write_json(folder / "config.json", {"script": self.script, "options": dict(settings)})
        return replace(self, folder=folder, name=name, seed=self.seed if seed is None else seed)

    def finish(self, document: int, metrics: Mapping[str, float], claims: Sequence[Verdict]) -> None:
        """Writes `summary.json`, which marks the run as finished; numbers that are not finite become null."""
        summary = {
            "script": self.script,
            "document": document,
            "seed": self.seed,
            "seconds": round(time.perf_counter() - self.started, 2),
            "metrics": {name: _finite(value) for name, value in metrics.items()},
            "claims": [{**claim.as_dict(), "measured": _finite(claim.measured)} for claim in claims],
        }
        _write_json(self.folder / "summary.json", summary)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt) and self.resume is not None:
            kept = _without_folder_options(self.arguments)
            command = shlex.join(["python", self.script, *kept, "--out-dir", str(self.folder), "--resume"])
            raise KeyboardInterrupt(f"; go on with: {command}") from None


def start_run(script_file: str, args: argparse.Namespace, argv: Sequence[str] | None) -> Run:
    """Chooses device and precision, makes or reopens the run's folder, writes `config.json` and `environment.json`.

    A finished run is never replaced without `--overwrite`, a folder that holds something else never at all, and
    `--resume` goes on only with the options the run was started with (more epochs are welcome). Raises UsageError.
    """
    script = Path(script_file).name
    device = select_device(args.device)
    dtype = resolve_precision(args.precision, device)
    configure_numerics()
    seed_everything(args.seed)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if args.resume and args.out_dir is None:
        raise UsageError("--resume needs --out-dir DIR, the folder of the run to go on with")
    if args.resume and args.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it; give one of them")
    options = {name: _plain(value) for name, value in vars(args).items()}
    folder = args.out_dir or _new_folder(script, args.seed)
    _check_holds_our_run(folder, script)
    _check_writable(folder)
    if args.resume:
        _check_can_resume(folder, options)
    else:
        _make_room(folder, script, args.overwrite, resumable=args.resume is not None)
    config = {"script": script, "command": shlex.join(["python", script, *arguments]), "options": options}
    _write_json(folder / "config.json", config)
    _write_json(folder / "environment.json", _environment(device, args.seed))
    return Run(folder, script, Path(script).stem, args.seed, device, dtype, args.resume, arguments)


def write_metrics(path: Path, rows: Sequence[Mapping[str, float]], append: bool = False) -> None:
    """Writes rows of named numbers as CSV under a header, in place of the file or, with `append`, at its end."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys() if rows else (), lineterminator="\n")
    if rows and not (append and path.stat().st_size):
        writer.writeheader()
    writer.writerows(rows)
    if append:
        with path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())
    else:
        write_whole(path, lambda file: file.write(text.getvalue().encode()))


def _new_folder(script: str, seed: int) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"
    parent = Path("runs") / Path(script).stem
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{n}" for n in range(2, 1000))):  # several runs may start in one second
            folder = parent / (name + suffix)
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise UsageError(f"{parent} cannot be written ({error.strerror}); name a folder with --out-dir") from None
    raise UsageError(f"{parent} holds a thousand runs of this second; name a folder with --out-dir")


def _check_holds_our_run(folder: Path, script: str) -> None:
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return
    except OSError as error:
        raise UsageError(f"--out-dir {folder} is no folder that can be read ({error.strerror})") from None
    if (folder / "checkpoint.pt").exists():
        load_checkpoint(folder / "checkpoint.pt", script)
    owner = _read_config(folder).get("script")
    if owner != script:
        holds = f"a run of {owner}" if owner else "files that are no run"
        raise UsageError(f"--out-dir {folder} holds {holds}; name a new or empty folder or one of {script}")


def _check_can_resume(folder: Path, options: Mapping[str, object]) -> None:
    if not any(folder.iterdir()):
        print(f"{folder} holds no run yet: starting at the beginning")
        return
    before = _read_config(folder)["options"]
    different = {name for name in options.keys() | before.keys() if options.get(name) != before.get(name)}
    different -= _NOT_COMPARED
    if options.get("epochs", 0) < before.get("epochs", 0):
        different.add("epochs")
    if different:
        was = ", ".join(f"--{name.replace('_', '-')} was {before.get(name)}" for name in sorted(different))
        raise UsageError(f"--resume: the run in {folder} was started with other options: {was}")
    if not any((*folder.rglob("checkpoint.pt"), *folder.rglob("model.pt"))):
        print(f"{folder} holds no checkpoint yet: training starts at the beginning")


def _make_room(folder: Path, script: str, overwrite: bool, resumable: bool) -> None:
    """Removes what an earlier run wrote, and nothing else, so that no old figure stands beside new numbers."""
    if not any(folder.iterdir()):
        return
    if not overwrite:
        kind = "a finished" if (folder / "summary.json").exists() else "an unfinished"
        go_on = "--resume goes on with it, " if resumable else ""
        raise UsageError(f"--out-dir {folder} holds {kind} run; {go_on}--overwrite replaces it")
    for entry in folder.iterdir():
        if entry.is_dir() and _read_config(entry).get("script") == script:
            shutil.rmtree(entry)
        elif entry.name in _RUN_FILES or entry.suffix in _RUN_SUFFIXES:
            entry.unlink()


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"--out-dir {folder} cannot be written ({error.strerror}); name another folder") from None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) and isinstance(config.get("options"), dict) else {}


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _plain(value: object) -> object:
    """An option as JSON gives it back."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _environment(device: torch.device, seed: int) -> dict[str, object]:
    name = torch.get_device_module(device).get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "device": name,
        "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def _without_folder_options(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument in {"--overwrite", "--resume"} or argument.startswith("--out-dir="):
            skip = False
        elif argument == "--out-dir":
            skip = True
        else:
            kept.append(argument)
    return kept
