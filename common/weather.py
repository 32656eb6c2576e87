"""The weather of Seattle, day by day from 2012 to 2015, read from its table."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UsageError

MEASUREMENTS = ("precipitation", "temp_max", "temp_min", "wind")
WORDS = ("drizzle", "fog", "rain", "snow", "sun")
YEARS = (2012, 2013, 2014, 2015)
ANSWERS = ("dry", "wet")
# Of the table with the line ends of Unix.
SHA256 = "62f0609f787158128aa2bd102967173a4953122dd4f872bf1d502cae1037df0b"


@dataclass(frozen=True)
class Weather:
    """Days in order: measurements (float32, D×4; mm, °C, °C, m/s), words and years (int64, D)."""

    measurements: Tensor
    words: Tensor
    years: Tensor

    @property
    def wet(self) -> Tensor:
        """Whether each day had precipitation: 0 or 1, the place in `ANSWERS` (int64, D)."""
        return (self.measurements[:, MEASUREMENTS.index("precipitation")] > 0).long()


def load_weather(data_dir: Path) -> Weather:
    """Reads the table of days; UsageError where it is missing or not the one this project has."""
    path = data_dir / "weather" / "seattle-weather.csv"
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise UsageError(f"--data-dir {data_dir}: {problem}") from None
    if hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() != SHA256:
        raise UsageError(
            f"--data-dir {data_dir}: {path} is not the table of this project (data/README.md); "
            "its checksum differs"
        )
    rows = csv.DictReader(content.decode().splitlines())
    days = sorted(rows, key=lambda day: day["date"])
    measurements = [[float(day[name]) for name in MEASUREMENTS] for day in days]
    words = [WORDS.index(day["weather"]) for day in days]
    years = [int(day["date"][:4]) for day in days]
    return Weather(torch.tensor(measurements), torch.tensor(words), torch.tensor(years))
