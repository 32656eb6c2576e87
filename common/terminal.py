"""What a person sees while a script runs: sentences, tables and progress."""

from __future__ import annotations

import codecs
import io
import math
import os
import re
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Item = TypeVar("Item")
WINDOWS = os.name == "nt"
WIDTH_IN_A_FILE = 80
QUIET_SECONDS = 5.0
IN_ASCII = {
    "×": "x", "−": "-", "–": "-", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "±": "+-", "÷": "/",
    "·": "*", "√": "sqrt ", "²": "^2", "³": "^3", "⁴": "^4", "Σ": "sum ", "γ": "gamma", "β": "beta",
    "°": " deg ", "′": "'", "“": '"', "”": '"', "…": "...",
}  # fmt: skip
_NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?( ?(%|×|s|px|points))?( ± .*)?|-?inf|nan|")


class _Patient:
    """A stream that goes on without its reader, as after `| head`: what follows is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Drops all that follows; raises the error again, unless it is that the reader has left
        (which Windows calls an invalid argument)."""
        # The descriptor itself: what Python still holds of the text is flushed to it later.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError) and not (WINDOWS and error.errno == EINVAL):
            raise error


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Other words for what an output's encoding lacks: `--help` and minus signs stay readable."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(IN_ASCII.get(character, "?") for character in missing), error.end


codecs.register_error("in ascii", _in_ascii)


@contextmanager
def patient_output() -> Iterator[None]:
    """Within it, printing cannot end the program: not for a reader who has left or was never there,
    nor for a character that the output's encoding lacks, which is written in ASCII, or as `?`."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="in ascii")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        patient = [_Patient(stream or nowhere) for stream in streams]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in patient)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for stream in patient:  # here, not when Python ends and can only complain
                stream.flush()


def console(*, stderr: bool = False) -> Console:
    """The terminal, or 80 columns of plain text where the output goes to a file."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_IN_A_FILE
    shown = Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
    if shown.width < 1:  # as some terminals say while they start
        shown.width = WIDTH_IN_A_FILE
    return shown


def say(text: str = "") -> None:
    """Prints sentences, broken between words where the line ends.

    A line that starts with `python` is a command to be copied: it stays whole. So does a word
    longer than a line, such as a path.
    """
    width = console().width
    for line in text.split("\n"):
        if line.startswith("python "):
            print(line, flush=True)
            continue
        broken = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        print("\n".join(broken), flush=True)


def one_line(name: str) -> str:
    """The name with `?` for each character that no terminal prints, such as the end of a line."""
    return "".join(one if one.isprintable() or unicodedata.category(one) == "Zs" else "?"
                   for one in name)  # Zs: spaces, such as that of Chinese texts


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows under a header; numbers to the right, text to the left, broken between words."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(header):
        column = [row[number] for row in cells]
        numeric = any(column) and all(_NUMBER.fullmatch(cell) for cell in column)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    say(f"\n{title}\n")
    shown = console()
    with shown.capture() as capture:
        shown.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip(), flush=True)  # without the spaces that fill up a line
    say()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def progress_bar(*, quiet: bool = False) -> Progress:
    """A bar with steps done and time left on a terminal; nothing in a file or if `quiet`."""
    shown = console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=shown,
        disable=quiet or not shown.is_terminal,
        transient=True,
        # What is printed stands above the bar; into a file it must go as it is.
        redirect_stdout=sys.stdout.isatty(),
        refresh_per_second=4,
    )


def track(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Gives the items one by one; shows a bar, or in a file a line every five seconds."""
    count = len(items) if isinstance(items, Sized) else None
    shown = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task(what, total=count, note="")
        for number, item in enumerate(items):
            if bar.disable and time.monotonic() - shown > QUIET_SECONDS:
                print(
                    f"{what}: {number} of {count} done" if count else f"{what}: {number} done",
                    flush=True,
                )
                shown = time.monotonic()
            yield item
            bar.advance(task)
