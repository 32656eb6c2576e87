"""The weather of Seattle, day by day from 2012 to 2015, read from its table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UsageError

MEASUREMENTS = ("precipitation", "temp_max", "temp_min", "wind")
WORDS = ("drizzle", "fog", "rain", "snow", "sun")
YEARS = (2012, 2013, 2014, 2015)
ANSWERS = ("dry", "wet")


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
    """Reads the table of days; UsageError where it is missing, no such table, or lacks a year."""
    path = data_dir / "weather" / "seattle-weather.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            days = sorted(csv.DictReader(file), key=lambda day: day["date"])
        measurements = [[float(day[name]) for name in MEASUREMENTS] for day in days]
        words = [WORDS.index(day["weather"]) for day in days]
        years = [int(day["date"][:4]) for day in days]
        missing = {*YEARS} - {*years}
        if missing:
            raise ValueError(f"it has no day of {min(missing)}")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        message = f"--data-dir {data_dir}: weather/seattle-weather.csv cannot be read ({error})"
        raise UsageError(message) from None
    return Weather(torch.tensor(measurements), torch.tensor(words), torch.tensor(years))
