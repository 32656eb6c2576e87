"""Bounds and verdicts; and of every chapter each claim, on both sides of its bound."""

from __future__ import annotations

import importlib
import math
import re

import pytest

from common.bounds import Bound, about, above, at_least, at_most, below, exactly, show_number
from common.claims import Claim, Including, OneOf, Target, judge, print_claims
from common.cli import PROJECT
from common.config import mean_or_none

CHAPTERS = sorted(path.stem for path in PROJECT.glob("*.py"))


@pytest.mark.parametrize(
    ("bound", "shown", "words", "inside", "outside"),
    [
        (at_least(0.88), "{:.1%}", "≥ 88%", 0.88, 0.8799),
        (at_most(0.001), "{:.4f}", "≤ 0.001", 0.001, 0.0011),
        (above(0), "{:+.1f} points", "> 0 points", 1e-9, 0.0),
        (below(1), "{:.2f}×", "< 1×", 0.999, 1.0),
        (exactly(120_422_400), "{:,.0f}", "120,422,400", 120_422_400, 120_422_401),
        (about(0.85, 0.02), "{:.1%}", "85% ± 2 points", 0.87, 0.8701),
        (about(0, 0.02), "{:+.1f} points", "0 points ± 2 points", -0.02, -0.0201),
        (about(0.978, 0.005), "{:.4f}", "0.978 ± 0.005", 0.974, 0.972),
    ],
)  # fmt: skip
def test_a_bound_says_what_it_tests(
    bound: Bound, shown: str, words: str, inside: float, outside: float
) -> None:
    assert bound.words(shown) == words
    assert bound.holds(inside)
    assert not bound.holds(outside)
    assert not bound.holds(math.nan)


def test_points_are_shown_of_fractions() -> None:
    assert show_number(0.0345, "{:+.1f} points") == "+3.5 points"
    assert show_number(0.0345, "{:.1%}") == "3.5%"


def claim(metric: str = "score", **other: object) -> Claim:
    return Claim("9.1", "a score", "high", metric, above(0.9), "{:.0%}", **other)  # type: ignore[arg-type]


def test_verdicts_follow_from_the_numbers() -> None:
    (good,) = judge([claim()], {"score": 0.95}, {})
    assert (good.verdict, good.measured, good.spread) == ("reproduced", 0.95, None)
    assert good.as_dict() == {"id": "9.1", "text": "a score", "claimed": "high: > 90%",
                              "measured": 0.95, "verdict": "reproduced"}  # fmt: skip
    (bad,) = judge([claim()], {"score": 0.5}, {})
    assert bad.verdict == "not reproduced"


@pytest.mark.parametrize(
    "metrics", [{}, {"score": math.nan}, {"score": [0.95, math.nan]}, {"score": []}]
)
def test_a_number_that_was_to_be_measured_and_is_not_there_is_not_reproduced(
    metrics: dict[str, float],
) -> None:
    (verdict,) = judge([claim(settings={"epochs": 6})], metrics, {"epochs": 6})
    assert verdict.verdict == "not reproduced"
    assert verdict.as_dict()["measured"] is None


def test_infinity_is_judged_but_not_written() -> None:
    (verdict,) = judge([claim()], {"score": math.inf}, {})
    assert (verdict.verdict, verdict.as_dict()["measured"]) == ("reproduced", None)
    (verdict,) = judge([claim()], {"score": [math.inf, -math.inf]}, {})
    assert (verdict.verdict, verdict.as_dict()["measured"]) == ("not reproduced", None)
    assert mean_or_none([math.inf, -math.inf]) is None


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({"epochs": 6}, {"epochs": 6}, ""),
        ({"epochs": 6}, {"epochs": 1}, "with --epochs 6"),
        ({"limit": None}, {"limit": 10}, "without --limit"),
        ({"batch_norm": False}, {"batch_norm": True}, "without --batch-norm"),
        ({"compare": True}, {"compare": False}, "with --compare"),
        (
            {"model": OneOf(("inception", "all"))},
            {"model": "basic"},
            "with --model inception or all",
        ),
        ({"model": OneOf(("inception", "all"))}, {"model": "all"}, ""),
        (
            {"experiments": Including(("a", "b"))},
            {"experiments": ["a", "c"]},
            "with b",
        ),
        ({"experiments": Including(("a", "b"))}, {"experiments": ("b", "c", "a")}, ""),
        ({"epochs": 6, "limit": None}, {"limit": 9}, "with --epochs 6 and without --limit"),
        ({"widths": (8, 9)}, {"widths": (8,)}, "with --widths 8,9"),
        ({"epochs": 6, "lr": 0.1}, {"epochs": 1, "lr": 1}, "with --epochs 6 --lr 0.1"),
    ],
)
def test_other_settings_are_not_judged_and_named(
    settings: dict[str, object], options: dict[str, object], reason: str
) -> None:
    (verdict,) = judge([claim(settings=settings)], {"score": 0.95}, options)
    assert verdict.measured == 0.95, "the number stands beside it"
    assert verdict.reason == reason
    assert verdict.verdict == ("not run" if reason else "reproduced")


def test_over_seeds_the_mean_must_hold_or_with_every_seed_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    claims = [
        Claim("9.1", "mean", "positive", "gain", above(0), "{:+.1%}"),
        Claim("9.2", "each", "positive", "gain", above(0), "{:+.1%}", every_seed=True),
        Claim("9.3", "one seed", "positive", "single", above(0), every_seed=True),
    ]
    verdicts = judge(claims, {"gain": [0.04, -0.01, 0.03], "single": [0.5]}, {})
    assert [v.verdict for v in verdicts] == ["reproduced", "not reproduced", "reproduced"]
    assert verdicts[0].measured == pytest.approx(0.02)
    assert verdicts[0].spread == pytest.approx(0.0264575, abs=1e-6)
    assert verdicts[2].spread is None
    assert verdicts[0].as_dict()["spread"] == verdicts[0].spread
    print_claims(verdicts)
    assert "+2.0% ± 2.6%" in capsys.readouterr().out


def test_what_was_not_judged_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim(settings={"epochs": 6}), claim("other", settings={"compare": True})]
    print_claims(judge(claims, {"score": 0.5}, {"epochs": 1}))
    shown = " ".join(capsys.readouterr().out.split())
    assert "50% not judged" in shown, "measured, though not judged"
    assert "Judged only in a run with --epochs 6: 9.1." in shown
    assert "Judged only in a run with --compare: 9.1." in shown
    print_claims(judge([claim("missing")], {}, {}))
    shown = capsys.readouterr().out
    assert "not reproduced" in shown
    assert "Judged only" not in shown


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_claim_of_a_chapter_holds_on_one_side_of_its_bound_only(chapter: str) -> None:
    claims = importlib.import_module(f"reports.{chapter}").CLAIMS
    ids = [claim.id for claim in claims]
    assert len(set(ids)) == len(ids)
    for tested in claims:
        assert re.fullmatch(r"[1-5]\.\d+[a-z]?", tested.id)
        bound = tested.bound
        edge = bound.tolerance if bound.sign == "±" else 0.0
        step = 1e-9 + 1e-9 * abs(bound.value)
        above_it, below_it = bound.value + edge + step, bound.value - edge - step
        assert bound.holds(above_it) == (bound.sign in ("≥", ">")), tested.id
        assert bound.holds(below_it) == (bound.sign in ("≤", "<")), tested.id
        assert bound.holds(bound.value) == (bound.sign in ("≥", "≤", "=", "±")), tested.id
        assert bound.words(tested.shown) in tested.claimed
        assert show_number(bound.value, tested.shown)


def test_our_own_targets_are_not_called_a_document_s(capsys: pytest.CaptureFixture[str]) -> None:
    target = Target("9.1", "a score", "our target", "score", above(0.9), "{:.0%}")
    print_claims(judge([target], {"score": 0.95}, {}))
    print_claims(judge([target], {"score": 0.85}, {}))
    out = capsys.readouterr().out
    assert "Our targets, and what this run measured" in out
    assert "document" not in out
    assert [word for word in ("reached", "missed", "reproduced") if word in out] == [
        "reached", "missed"]  # fmt: skip
    (verdict,) = judge([target], {"score": 0.95}, {})
    assert verdict.verdict == "reproduced", "in summary.json it is called as everywhere"
