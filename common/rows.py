"""Rows of named numbers, an epoch or an update each, as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UsageError
from common.files import write_text

Row = dict[str, float]
PARTS = ("train", "val", "validation", "test", "unseen")  # of the data, before a number's name


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows under a header, in place of the file that was there."""
    write_text(path, _as_csv(rows, header=True))


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Writes one more row at the end of a file, with the header where the file is empty."""
    text = _as_csv([row], header=path.stat().st_size == 0)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def read_rows(path: Path, count: int | None = None) -> list[Row]:
    """The rows of numbers in a file; UsageError where it was damaged or has not `count` rows."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            numbers = [{name: float(value) for name, value in row.items()} for row in rows]
        if count is not None and len(numbers) != count:
            raise ValueError
        return numbers
    except (ValueError, TypeError, csv.Error):  # TypeError: a row that is too short or too long
        raise UsageError(
            f"{path} is damaged; delete {path.parent}, and --resume trains it again"
        ) from None


def _as_csv(rows: Sequence[Mapping[str, object]], header: bool) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def in_words(numbers: Row) -> str:
    """The numbers of an epoch as a line shows them: `loss: train 0.61, val 0.42`."""
    by_quantity: dict[str, list[str]] = {}
    for name, value in numbers.items():
        part, _, quantity = name.partition("_")
        if part not in PARTS:
            part, quantity = "", name
        shown = f"{value:.1%}" if quantity == "accuracy" else f"{value:.3g}"
        by_quantity.setdefault(quantity.replace("_", " "), []).append(f"{part} {shown}".strip())
    return "  ".join(f"{name}: {', '.join(values)}" for name, values in by_quantity.items())
