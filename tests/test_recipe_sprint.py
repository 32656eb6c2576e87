"""The races: their steps, their targets on both sides, and the chapter from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.claims import judge
from common.data import LabelledImages, load_images
from common.rows import read_rows
from recipes import sprint
from recipes.fashion import ClothesNet, Recipe
from recipes.ladder import climb, without_each
from recipes.sprint import INSTEAD, RACES, main
from reports.recipe_sprint import claims, raced
from tests.helpers import Call, make_run, read_summary


@pytest.mark.parametrize("race", RACES.values(), ids=RACES)
def test_every_step_of_a_race_changes_something(race: sprint.Race) -> None:
    assert len(set(climb(race.foot, race.steps).values())) == len(race.steps) + 1
    for name, recipe in without_each(race.foot, race.steps, INSTEAD).items():
        ClothesNet(recipe)
        assert recipe.flips or not recipe.mirrored_looks, name
    assert race.foot == replace(Recipe(), epochs=race.epochs), "the document's, for as long"
    assert race.recipe.epochs == race.epochs
    # Without the cycle the rate is that of the step before it, as no later one fits.
    assert without_each(race.foot, race.steps, INSTEAD)["without one cycle"].lr == 0.01


@pytest.mark.parametrize(
    ("share", "seconds", "verdicts"),
    [
        (0.9901, 3.0, {"sprint.1a": True, "sprint.1b": True, "sprint.1c": True}),
        (0.9899, 3.1, {"sprint.1a": False, "sprint.1b": True, "sprint.1c": False}),
        (0.9899, 5.1, {"sprint.1a": False, "sprint.1b": False, "sprint.1c": False}),
    ],
)
def test_targets_on_both_sides(
    share: float, seconds: float, verdicts: dict[str, bool], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    race, seeds = "digits-99.0", tuple(range(10))
    run = make_run(tmp_path, race=race, seeds=seeds, ladder=False, validate=False)
    scores, times = {race: [share] * 10}, {race: [seconds] * 10}
    ending = raced(run, {race: RACES[race]}, scores, times)
    judged = judge(claims(run, RACES), run.metrics, vars(run.options))
    assert {one.claim.id: one.verdict == "reproduced" for one in judged} == verdicts
    assert (race in ending) == verdicts["sprint.1a"]
    assert (tmp_path / "races.png").stat().st_size > 2000


def test_the_races_from_end_to_end(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, str]] = []

    def note(name: str, split: str, *rest: object) -> LabelledImages:
        read.append((name, split))
        return load_images(name, split, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sprint, "load_images", note)
    code, out, err = call(main, "--limit", 200, "--seeds", "3,5", "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert [split for _, split in read] == ["train"] * 3 + ["test"] * 3
    assert [name for name, _ in read] == ["MNIST", "MNIST", "FashionMNIST"] * 2
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {f"{race}-seed{seed}" for race in RACES for seed in (3, 5)}
    found = read_summary(tmp_path)["metrics"]
    assert found["digits_99_5_test_accuracy"] > 0.3, "chance is 0.1"
    rows = [read_rows(tmp_path / f"digits-99.0-seed{seed}" / "metrics.csv") for seed in (3, 5)]
    sums = [sum(row["seconds"] for row in one) for one in rows]
    assert found["digits_99_0_seconds_of_training"] == pytest.approx(sum(sums) / 2)
    assert "No goal was reached." in out


def test_one_race_is_chosen_on_images_held_out(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sprint, "score_once", None)
    options = ("--race", "digits-99.0", "--limit", 300, "--out-dir", tmp_path)
    code, out, err = call(main, *options, "--validate")
    assert (code, err) == (0, "")
    row = read_rows(tmp_path / "metrics.csv")[-1]
    assert read_summary(tmp_path)["metrics"]["val_accuracy"] == row["val_accuracy"]
    assert "the goal is 99.0%" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ladder",), "need --race, one of digits-99.0"),
        (("--validate",), "need --race"),
        (("--race", "digits"), "choose from"),
        (("--race", "digits-99.0", "--ladder", "--validate"), "no --validate"),
        (("--epochs", "3"), "unrecognized arguments: --epochs"),
    ],
)
def test_a_value_that_cannot_work_ends_in_one_line(
    arguments: tuple[str, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)
