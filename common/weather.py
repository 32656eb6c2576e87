"""The weather of Seattle, day by day from 2012 to 2015, read from its table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UsageError

MEASUREMENTS = ("precipitation", "temp_max", "temp_min", "wind")
CLASSES = ("drizzle", "fog", "rain", "snow", "sun")
YEARS = (2012, 2013, 2014, 2015)


@dataclass(frozen=True)
class Weather:
    """Days in order: measurements (float32, D×4; mm, °C, °C, m/s), classes and years (int64, D)."""

    measurements: Tensor
    classes: Tensor
    years: Tensor


def load_weather(data_dir: Path) -> Weather:
    """Reads the table of days; UsageError where it is missing, no such table, or lacks a year."""
    path = data_dir / "weather" / "seattle-weather.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            days = sorted(csv.DictReader(file), key=lambda day: day["date"])
        measurements = [[float(day[name]) for name in MEASUREMENTS] for day in days]
        classes = [CLASSES.index(day["weather"]) for day in days]
        years = [int(day["date"][:4]) for day in days]
        missing = {*YEARS} - {*years}
        if missing:
            raise ValueError(f"it has no day of {min(missing)}")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        message = f"--data-dir {data_dir}: weather/seattle-weather.csv cannot be read ({error})"
        raise UsageError(message) from None
    return Weather(torch.tensor(measurements), torch.tensor(classes), torch.tensor(years))
