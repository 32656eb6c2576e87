"""What a document states, held against what a run measured. A claim is data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.bounds import Bound, show_number
from common.config import mean_of
from common.terminal import print_table, say

Metrics = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class OneOf:
    """A setting that may have any of several values."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class Including:
    """A setting, a list, that must hold all of these values."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class Claim:
    """One statement of a document and how it is tested.

    `says` quotes the document closely enough to find the place; `metric` names the number of a run
    that tests it, `settings` the options of such a run; the bound is fixed before the run. Over
    several seeds the mean must meet the bound, or with `every_seed` (for directions) each one.
    `shown` is the format of the number.
    """

    id: str
    statement: str
    says: str
    metric: str
    bound: Bound
    shown: str = "{:.3g}"
    settings: Mapping[str, object] = field(default_factory=dict)
    every_seed: bool = False

    @property
    def claimed(self) -> str:
        """The document's words and the bound that they became."""
        bound = self.bound.words(self.shown)
        return self.says if self.says == bound else f"{self.says}: {bound}"


class Target(Claim):
    """A number that we ourselves want to reach, tested as a document's statement is."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: `reproduced`, `not reproduced`, or `not run` for the reason given.

    `measured` is the mean over the seeds, `spread` their standard deviation; None where there is
    none.
    """

    claim: Claim
    measured: float | None
    spread: float | None
    verdict: str
    reason: str = ""

    def as_dict(self) -> dict[str, object]:
        """For `summary.json`; a number that is not finite becomes null."""
        finite = self.measured is not None and math.isfinite(self.measured)
        shown: dict[str, object] = {
            "id": self.claim.id,
            "text": self.claim.statement,
            "claimed": self.claim.claimed,
            "measured": self.measured if finite else None,
            "verdict": self.verdict,
        }
        if self.spread is not None:
            shown["spread"] = self.spread if math.isfinite(self.spread) else None
        if self.reason:
            shown["reason"] = self.reason
        return shown


def judge(
    claims: Sequence[Claim], metrics: Metrics, options: Mapping[str, object]
) -> list[Verdict]:
    """Holds each claim against its metric: one number, or one for each seed.

    A run whose options are not the claim's settings does not judge it, and says which. Where they
    are, a number that is missing or NaN means `not reproduced`.
    """
    return [_judge_one(claim, metrics, options) for claim in claims]


def _judge_one(claim: Claim, metrics: Metrics, options: Mapping[str, object]) -> Verdict:
    metric = metrics.get(claim.metric, ())
    values = [metric] if isinstance(metric, float | int) else list(metric)
    measured = mean_of(values) if values else None
    spread = (
        statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    )
    different = _differences(claim.settings, options)
    if different:
        reason = " and ".join(different)
        return Verdict(claim, measured, spread, "not run", reason)
    if measured is None:
        return Verdict(claim, None, None, "not reproduced", "nothing was measured")
    tested = values if claim.every_seed else [measured]
    holds = all(claim.bound.holds(value) for value in tested)
    return Verdict(claim, measured, spread, "reproduced" if holds else "not reproduced")


def _differences(settings: Mapping[str, object], options: Mapping[str, object]) -> list[str]:
    """How a run's options would have to differ: `with --epochs 6`, `without --limit`."""
    added: list[str] = []
    left_out: list[str] = []
    for name, needed in settings.items():
        given, flag = options.get(name), f"--{name.replace('_', '-')}"
        if isinstance(needed, OneOf):
            fits, accepted = given in needed.values, " or ".join(map(str, needed.values))
        elif isinstance(needed, Including):
            held = given if isinstance(given, list | tuple | set | frozenset) else ()
            missing = [str(value) for value in needed.values if value not in held]
            fits, accepted, flag = not missing, ", ".join(missing), ""  # names, without a flag
        else:
            fits, accepted = given == needed, _as_typed(needed)
        if not fits and (needed is None or needed is False):
            left_out.append(flag)
        elif not fits:
            added.append(f"{flag} {accepted}".strip())
    return [f"{word} {' '.join(flags)}" for word, flags in
            (("with", added), ("without", left_out)) if flags]  # fmt: skip


def _as_typed(value: object) -> str:
    """A setting as it is typed behind its flag."""
    if value is True:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def print_claims(verdicts: Sequence[Verdict]) -> None:
    """Prints what was measured, a table of the document's statements and one of our own targets,
    and which claims need a run with other options."""
    for ours in (False, True):
        _print_table([one for one in verdicts if isinstance(one.claim, Target) is ours], ours)
    not_judged: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.verdict == "not run":
            not_judged.setdefault(verdict.reason, []).append(verdict.claim.id)
    for reason, ids in not_judged.items():
        say(f"Judged only in a run {reason}: {', '.join(ids)}.")
    say()


def _print_table(verdicts: Sequence[Verdict], ours: bool) -> None:
    rows = []
    words = {"reproduced": "reached", "not reproduced": "missed"} if ours else {}
    for verdict in verdicts:
        claim = verdict.claim
        nothing = verdict.measured is None or math.isnan(verdict.measured)
        if nothing and verdict.verdict == "not run":
            continue
        measured = "nothing"
        if verdict.measured is not None:
            measured = show_number(verdict.measured, claim.shown)
        if verdict.spread is not None:
            measured += f" ± {show_number(verdict.spread, claim.shown).lstrip('+')}"
        shown = "not judged" if verdict.verdict == "not run" else verdict.verdict
        rows.append([claim.id, claim.statement, claim.claimed, measured, words.get(shown, shown)])
    if rows:
        stated = "Our targets" if ours else "What the document states"
        says = "expected" if ours else "the document says"
        print_table(
            f"{stated}, and what this run measured",
            ["", "statement", says, "measured", "verdict"],
            rows,
        )
