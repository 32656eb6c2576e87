"""How a run starts: the checks before anything is written, and the folder it gets."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from common.cli import PROJECT
from common.config import (
    DECIDES,
    as_json,
    environment,
    read_commands,
    read_environment,
    read_options,
    write_json,
)
from common.device import (
    configure_numerics,
    resolve_precision,
    say_where,
    seed_everything,
    select_device,
)
from common.errors import UsageError
from common.files import check_can_write
from common.folders import MANIFEST, RunFolder, check_is_ours, delete_run, holds_anything
from common.restart import check_can_replace, check_can_resume, check_options
from common.runs import Run, in_shell
from common.terminal import say


def start_run(
    script_file: str,
    options: argparse.Namespace,
    argv: Sequence[str] | None = None,
    *,
    threads: int | None = None,
) -> Run:
    """Makes or reopens the run's folder; writes `config.json` and `environment.json`.

    A finished run is replaced only with `--overwrite`, when the new one writes its first file: data
    that cannot be read harm nothing. A folder that holds something else is never replaced.
    `--resume` continues only with the options of the first start (or more epochs). `threads`: how
    many compute, where a network is too small to gain by all. UsageError before anything changes.
    """
    check_options(options)
    script = _name_in_project(script_file)
    device, dtype = _prepare_device(options, threads)
    folder = _folder_for(script, options)
    check_is_ours(folder.path, script)
    check_writable(folder.path)
    holds_a_run = holds_anything(folder.path)
    if options.resume:
        check_can_resume(folder.path, as_json(vars(options)), dtype)
    elif holds_a_run:
        check_can_replace(folder.path, script, options)

    run = Run(folder, options, device, dtype)
    run.command = _from_here(Path(script_file))
    with ExitStack() as ending:
        ending.push(run)  # a start that fails ends the run
        run.hold_lock()
        if holds_anything(folder.path) != holds_a_run:  # changed before the lock was held
            raise UsageError(f"--out-dir {folder.path}: another run started there; name another")
        run.is_new = not holds_a_run
        run.before_first_file = partial(_occupy, run, argv)
        if not (options.overwrite and holds_a_run):
            run.begin()
        ending.pop_all()
    say_where(device)
    return run


def _occupy(run: Run, argv: Sequence[str] | None) -> None:
    """Deletes the run in the folder if that is to be replaced, and writes the first files."""
    if not run.is_new and not run.resume:
        delete_run(run.folder, run.script)
    run.run_folder.start()
    run.run_folder.tidy()
    arguments = sys.argv[1:] if argv is None else argv
    command = f"python {in_shell([run.command, *arguments])}"
    before = read_options(run.folder) or {}
    if run.resume and before.get("epochs") != getattr(run.options, "epochs", None):
        (run.folder / "summary.json").unlink(missing_ok=True)  # of fewer epochs: it goes on
    first, *later = [*(read_commands(run.folder) if run.resume else []), command]
    config = {"script": run.script, "command": first, "options": as_json(vars(run.options))}
    write_json(run.file("config.json"), config | ({"continued": later} if later else {}))
    write_json(run.file("environment.json"), _environment_since(run))


def _environment_since(run: Run) -> dict[str, object]:
    """What the run computes with; says, and keeps, what it began with where that is another."""
    here = environment(run.device, run.dtype, run.seed)
    before = read_environment(run.folder) if run.resume else {}
    changed = [name for name in DECIDES if before and before.get(name) != here[name]]
    if changed:
        say(f"Until now this run had another {', '.join(changed)}: its numbers will differ a "
            "little from those of a run without a break.")  # fmt: skip
    if changed or "began" in before:
        here["began"] = before.get("began", before)
    return here


def _name_in_project(script_file: str) -> str:
    path = Path(script_file).resolve()
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else path.name


def _prepare_device(
    options: argparse.Namespace, threads: int | None
) -> tuple[torch.device, torch.dtype]:
    """The device and the precision of the run, whose arithmetic and seed are then set."""
    device = select_device(options.device)
    dtype = resolve_precision(options.precision, device)
    if not configure_numerics():
        say("This processor cannot flush denormal numbers; long trainings with Adam may be slow.")
    if threads is not None:
        torch.set_num_threads(threads)
    seed_everything(options.seed)
    return device, dtype


def _folder_for(script: str, options: argparse.Namespace) -> RunFolder:
    """The run's folder, which knows what is made for it and may go again if the start fails."""
    wanted = options.out_dir
    paths = (wanted, *wanted.parents) if wanted else ()
    made = [path for path in paths if not os.path.lexists(path)]
    folder = RunFolder(_chosen_folder(script, options), script)
    folder.made = made or ([] if wanted else [folder.path, *folder.path.parents[:2]])
    return folder


def _from_here(script: Path) -> str:
    """The script's path as it is written in the current folder."""
    script = script.resolve()
    here = Path.cwd()
    return str(script.relative_to(here)) if script.is_relative_to(here) else str(script)


def _chosen_folder(script: str, options: argparse.Namespace) -> Path:
    if options.out_dir is None:
        return new_folder(script, options.seed)
    folder = Path(options.out_dir)
    # `new/../photos` is `photos`, also while there is no `new`: what is checked is what is written.
    return folder.resolve() if ".." in folder.parts else folder


def check_writable(folder: Path) -> None:
    """Makes the folder where there is none; UsageError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_can_write(folder / MANIFEST)
    except OSError as error:
        message = f"--out-dir {folder} cannot be written ({error.strerror}); name another folder"
        raise UsageError(message) from None


def new_folder(script: str, seed: int) -> Path:
    """A new folder `runs/<script>/<time>-seed<seed>` in the current folder."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"
    parent = Path("runs") / Path(script).stem
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):  # several runs may start in one second
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        message = f"{parent} cannot be written ({error.strerror}); name a folder with --out-dir"
        raise UsageError(message) from None
    raise UsageError(f"{parent} holds a thousand runs of this second; name one with --out-dir")
