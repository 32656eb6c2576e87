"""Bounds that say themselves in words, so that the words and the code cannot differ."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """The numbers that a statement allows: those that stand in the relation `sign` to `value`."""

    sign: str
    value: float
    tolerance: float = 0.0

    def holds(self, measured: float) -> bool:
        """Whether the measured number is allowed; NaN never is."""
        if self.sign == "±":
            # 0.87 is within 0.02 of 0.85, though not in the arithmetic of floats.
            return abs(measured - self.value) <= self.tolerance + 1e-12
        return {
            "≥": measured >= self.value,
            "≤": measured <= self.value,
            ">": measured > self.value,
            "<": measured < self.value,
            "=": measured == self.value,
        }[self.sign]

    def words(self, shown: str) -> str:
        """The bound as a person writes it, in the unit of the format `shown`: `≥ 88%`."""
        number = _plain(self.value, shown)
        if self.sign == "=":
            return number
        if self.sign == "±":
            tolerance = "{} points" if "%}" in shown else shown
            return f"{number} ± {_plain(self.tolerance, tolerance)}"
        return f"{self.sign} {number}"


def at_least(value: float) -> Bound:
    """Allows the value and more."""
    return Bound("≥", value)


def at_most(value: float) -> Bound:
    """Allows the value and less."""
    return Bound("≤", value)


def above(value: float) -> Bound:
    """Allows more than the value, not the value itself."""
    return Bound(">", value)


def below(value: float) -> Bound:
    """Allows less than the value, not the value itself."""
    return Bound("<", value)


def exactly(value: float) -> Bound:
    """Allows the value alone."""
    return Bound("=", value)


def about(value: float, tolerance: float) -> Bound:
    """Allows what is at most `tolerance` away, in the metric's own unit: 0.02 is two points."""
    return Bound("±", value, tolerance)


def show_number(value: float, shown: str) -> str:
    """A number in a claim's format; `… points` shows a fraction as percentage points."""
    return shown.format(100 * value if shown.endswith("points") else value)


def _plain(value: float, shown: str) -> str:
    """A bound's number in the unit of a format, with no more digits than it has."""
    unit = shown.split("}")[1]
    percent = "%}" in shown
    scale = 100 if percent or unit.endswith("points") else 1
    return f"{scale * value:,.10g}{'%' if percent else unit}"
