"""A run: its folder, options, device and seed, what it has measured, and the summary at its end."""

from __future__ import annotations

import argparse
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from common.claims import Claim, judge, print_claims
from common.config import as_json, mean_or_none, read_options, write_json
from common.epochs import Epochs
from common.errors import RunError, UsageError, failure_of_the_machine
from common.folders import LOCK, MANIFEST, RunFolder, files_of_run, read_manifest
from common.restart import has_trained
from common.rows import Row
from common.terminal import WINDOWS, say


class Run:
    """One run. As a context manager it answers an interruption with the command that continues it.

    `start.start_run` makes one. `metrics` collects what is measured: a number, or one for each
    seed; `history` holds a training's rows, an epoch each; `resume` is None where nothing can be
    resumed.
    """

    def __init__(
        self,
        run_folder: RunFolder,
        options: argparse.Namespace,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`options` has at least seed and resume."""
        self.run_folder, self.options = run_folder, options
        self.script = run_folder.script
        self.name = Path(self.script).stem
        self.is_new = False  # whether the folder held no run before
        self.is_part = False  # whether it is one of several trainings of another run
        self.command = self.script  # as it is called from the current folder
        self.seed: int = options.seed
        self.resume: bool | None = options.resume
        self.device, self.dtype = device, dtype
        self.metrics: dict[str, float | Sequence[float]] = {}
        self.history: list[Row] = []
        # Called with each epoch's row instead of printing it: for a worker process.
        self.listener: Callable[[Row], None] | None = None
        # What `start_run` has left for the moment when the run writes its first file.
        self.before_first_file: Callable[[], None] | None = None
        self._started = time.perf_counter()
        self._held = ExitStack()

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self.run_folder.path

    def file(self, name: str) -> Path:
        """The path of a file in the run's folder, which the run may now write."""
        self.begin()
        return self.run_folder.file(name)

    def begin(self) -> None:
        """Makes the folder ready, once; a run that is to be replaced is deleted here."""
        occupy, self.before_first_file = self.before_first_file, None
        if occupy is not None:
            occupy()

    def epochs(
        self,
        count: int,
        model: nn.Module,
        optimizer: Optimizer,
        batches: DataLoader[Any],
        *,
        scheduler: Any = None,
        weights: str = "model.pt",
    ) -> Epochs:
        """The epochs of a training, to loop over: restores, saves, shows progress and logs.

        Each epoch has its `batches`, and takes its numbers with `log`; `history` holds them all. At
        the end the model's state dict is saved as `weights`.
        """
        return Epochs(self, count, model, optimizer, batches, scheduler, weights)

    def subrun(self, name: str, settings: Mapping[str, object], seed: int | None = None) -> Run:
        """A run in a subfolder, for one of several trainings; `settings` become its config.

        Raises UsageError where a run that is resumed has trained it with other settings.
        """
        folder = RunFolder(self.file(name), self.script)
        before = read_options(folder.path) if self.resume else None
        if before is not None and before != as_json(settings):
            raise UsageError(
                f"--resume: {folder.path} was trained with other settings than {name} has now; "
                "name another --out-dir"
            )
        folder.start()
        config = {"script": self.script, "options": as_json(settings)}
        write_json(folder.file("config.json"), config)
        options = argparse.Namespace(**vars(self.options))
        options.seed = self.seed if seed is None else seed
        run = Run(folder, options, self.device, self.dtype)
        run.name, run.is_part, run._held = name, True, self._held
        return run

    def finish(self, document: int, claims: Sequence[Claim], ending: str) -> None:
        """Judges the claims and writes `summary.json`, which marks the run as finished.

        Its `seconds` are those since the run was started, or last resumed. Prints the claims and
        then the ending, in which the learner finds what the run was for.
        """
        verdicts = judge(claims, self.metrics, vars(self.options))
        summary = {
            "script": self.script,
            "document": document,
            "seed": self.seed,
            "seconds": round(time.perf_counter() - self._started, 2),
            "metrics": {name: mean_or_none(value) for name, value in self.metrics.items()},
            "claims": [verdict.as_dict() for verdict in verdicts],
        }
        write_json(self.file("summary.json"), summary)
        if verdicts:
            print_claims(verdicts)
        say(ending)
        say(f"All files of this run: {self.folder}")

    def hold_lock(self) -> None:
        """Takes the folder's lock until the run ends; UsageError where another run holds it."""
        self._held.enter_context(self.run_folder.locked())

    def on_end(self, call: Callable[[], object]) -> None:
        """Has something called when the run ends, however it ends."""
        self._held.callback(call)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()
        failed = isinstance(error, UsageError | RunError | OSError)
        if failed and self.is_new:
            with suppress(UsageError, OSError):  # `error` says what went wrong
                if not self._has_results():
                    self.run_folder.discard()
        begun = self.before_first_file is None
        if self.resume is None or not begun:
            return
        continued = f"; continue with: {self.continued()}"
        if isinstance(error, KeyboardInterrupt):
            raise type(error)(continued) from None
        machine = None if error is None else failure_of_the_machine(error)
        if machine is not None and has_trained(self.folder):
            raise RunError(f"{machine}{continued}") from None

    def continued(self) -> str:
        """The command that continues this run."""
        return in_shell(["python", self.command, "--out-dir", str(self.folder), "--resume"])

    def _has_results(self) -> bool:
        """Whether it has written anything but what every run begins with."""
        begins_with = ("config.json", "environment.json", MANIFEST, LOCK)
        owner, _ = read_manifest(self.folder)
        files = files_of_run(self.folder, self.script)[0] if owner else []
        return any(file.name not in begins_with and file.exists() for file in files)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which takes the folder's lock itself."""
        return {**self.__dict__, "_held": ExitStack(), "listener": None}


def in_shell(parts: Sequence[str]) -> str:
    """Words of a command as the shell of this system takes them; on Windows that is PowerShell."""
    return " ".join(map(_in_powershell, parts)) if WINDOWS else shlex.join(parts)


def _in_powershell(word: str) -> str:
    """The word, quoted where a character of it means something there."""
    if re.fullmatch(r"[\w.:/\\+=-]+", word):
        return word
    if not set(word) & set("$`\"“”„"):  # which mean something in double quotes too
        return f'"{word}"'  # as cmd and Git's bash take it too
    return "'" + re.sub("(['‘’‚‛])", r"\1\1", word) + "'"
