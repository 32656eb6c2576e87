"""The weather recipe: its inputs by hand, no look ahead, its network, the year scored once."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as oracle_loss

from common.claims import judge
from common.cli import PROJECT
from common.errors import UsageError
from common.layers import count_parameters
from common.runs import Run
from common.weather import load_weather
from recipes import weather
from recipes.ladder import climb, without_each
from recipes.training import load_weights
from recipes.weather import (
    RECIPE,
    STEPS,
    Forecaster,
    Recipe,
    day_inputs,
    days_of,
    main,
    spells,
    train,
    train_one,
)
from reports import recipe_weather as report
from rnn_demo import HIDDEN, WEATHER_BATCH, WEATHER_EPOCHS, WEATHER_LR, WEIGHT_DECAY, make_windows
from tests.helpers import Call, make_run, numbers, read_summary

TABLE = PROJECT / "data" / "weather" / "seattle-weather.csv"
DATA = {"data_dir": PROJECT / "data", "held_out": 2014, "ladder": False, "validate": False}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, seeds=(0,), **DATA)


# The inputs


def test_the_ladder_starts_from_document_2_s_network() -> None:
    ours = Recipe()
    document = (HIDDEN, WEATHER_EPOCHS, WEATHER_BATCH, WEATHER_LR, WEIGHT_DECAY)
    assert (ours.hidden, ours.epochs, ours.batch_size, ours.lr, ours.weight_decay) == document
    assert list(climb(Recipe(), STEPS).values())[-1] == RECIPE
    assert len(without_each(Recipe(), STEPS)) == len(STEPS)


def test_the_document_s_days_are_those_of_rnn_demo(run: Run) -> None:
    """Scaled by the days that are shown in training, not by the years: the numbers differ a bit."""
    theirs = make_windows(load_weather(PROJECT / "data"), 3, 3)
    for name, years in (("train", (2012, 2013)), ("validation", (2014,)), ("test", (2015,))):
        ours = days_of(run, Recipe(), years)
        assert ours.targets.equal(theirs[name].targets)
        known = days_of(run, Recipe(), (2012, 2013)).inputs
        scaled = (ours.inputs - known.mean((0, 1))) / known.std((0, 1))
        assert torch.allclose(scaled, theirs[name].inputs, atol=0.02)


def test_spells_by_hand() -> None:
    wet = torch.tensor([1, 1, 1, 0, 1, 0, 0])
    expected = [0, math.log(2), math.log(3), 0, 0, 0, -math.log(2)]
    assert spells(wet).tolist() == pytest.approx(expected, abs=1e-6)
    assert spells(torch.zeros(30).long())[-1].item() == pytest.approx(-math.log(10)), "at most ten"


def test_a_day_s_inputs_by_hand() -> None:
    days = torch.tensor([[0.0, 10, 5, 2], [3.2, 8, 4, 1], [0.5, 9, 3, 4]])
    assert day_inputs(Recipe(), days).equal(days)
    inputs = day_inputs(RECIPE, days)
    assert inputs.shape == (3, 5)
    assert inputs[:, 0].tolist() == pytest.approx([0, math.log(33), math.log(6)])
    assert inputs[:, 1:4].equal(days[:, 1:])
    assert inputs[:, 4].tolist() == pytest.approx([0, 0, math.log(2)])


def test_no_day_is_seen_before_it_came(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured on a day and later changes nothing of what is known before it."""
    before = days_of(run, RECIPE, [2014])
    changed = load_weather(PROJECT / "data")
    first = int((changed.years < 2014).sum())
    changed.measurements[first + 100 :] = 77.0
    monkeypatch.setattr(weather, "load_weather", lambda _: changed)
    after = days_of(run, RECIPE, [2014])
    assert after.inputs[:101].equal(before.inputs[:101])
    assert not after.inputs[101].equal(before.inputs[101])


def test_what_is_trained_and_chosen_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def note(run: Run, recipe: Recipe, years: tuple[int, ...], held_out: tuple[int, ...]) -> None:
        asked.append([*years, *held_out])

    monkeypatch.setattr(weather, "train", note)
    for year in (2014, 2012):
        run.options.held_out = year
        train_one(run, RECIPE)
    assert asked == [[2012, 2013, 2014], [2013, 2014, 2012]]


# The network


@pytest.mark.parametrize("network", ["rnn", "linear"])
def test_the_network_by_hand(network: str) -> None:
    torch.manual_seed(0)
    days = torch.randn(7, 3, 5) * 4 + 2
    model = Forecaster(Recipe(network=network), days)
    scaled = (days - days.mean((0, 1))) / days.std((0, 1))
    read = scaled.flatten(1)
    if model.recurrent is not None:
        read = model.recurrent(scaled)[1][0]  # the hidden state after the last day
    assert torch.allclose(model(days), read @ model.classify.weight.T + model.classify.bias)
    size = {"rnn": 5 * 16 + 16 * 16 + 2 * 16 + 16 * 2 + 2, "linear": 3 * 5 * 2 + 2}
    assert count_parameters(model) == size[network]


def test_a_network_of_the_document_learns_what_three_days_tell(run: Run) -> None:
    """Every third day is wet, which no two days alone but three always tell."""
    run.options.limit = 300
    run.listener = report.quiet
    changed = load_weather(PROJECT / "data")
    changed.measurements[:, 0] = (torch.arange(len(changed.years)) % 3 == 0).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weather, "load_weather", lambda _: changed)
        train(run, Recipe(epochs=4), [2012], [2014])
    assert run.history[-1]["val_accuracy"] > 0.95


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        run = make_run(tmp_path / str(number), seed=seed, **DATA)
        run.listener, run.options.limit = report.quiet, 64
        model = train(run, Recipe(epochs=2, one_cycle=True))
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()))
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


# The report


def test_shares_losses_and_days_apart_by_hand() -> None:
    wet = torch.tensor([1, 0, 1, 0])
    assert report.right(torch.tensor([1, 0, 0, 0]), wet) == 0.75
    ours = [torch.tensor([1, 0, 1, 1]), torch.tensor([1, 0, 0, 1])]
    other = torch.tensor([0, 1, 0, 0])
    assert report.apart(ours, [other, other], wet) == (2.5, 1)
    probabilities = torch.tensor([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5], [0.9, 0.1]])
    expected = oracle_loss(wet.numpy(), probabilities.numpy())
    assert report.log_loss(probabilities, wet) == pytest.approx(expected, abs=1e-6)
    assert report.standard_error(0.5, 100) == pytest.approx(5)


def test_the_recipe_is_held_against_every_baseline(tmp_path: Path) -> None:
    """As good as the best of them is no gain; the ending names who is not behind."""
    settings = {"epochs": RECIPE.epochs, "batch_size": RECIPE.batch_size, "lr": RECIPE.lr}
    run = make_run(tmp_path, seeds=(0, 1, 2, 3, 4), validate=False, ladder=False, **settings)
    wet = torch.tensor([1, 0, 1, 0, 0, 0, 1, 0, 0, 1])
    right = torch.stack([1 - wet, wet], 1).float() * 0.6 + 0.2
    wrong = right.clone()
    wrong[0] = right[0].flip(0)
    answers = {name: [wrong] * 5 for name in weather.COMPARED}
    rules = {"always dry": torch.zeros(10).long(), "same as yesterday": right.argmax(1)}
    run.history = [{"epoch": 1, "seconds": 2.0}]
    ending = report.tested(run, [run] * 5, {"recipe": [right] * 5, **answers}, rules, wet)
    assert "100.0 ± 0.0% of the days of 2015. Not behind it: same as yesterday" in ending
    assert run.metrics["gain_over_always_dry"] == [0.4] * 5
    verdicts = judge(report.claims(run, RECIPE), run.metrics, vars(run.options))
    judged = {verdict.claim.id: verdict.verdict for verdict in verdicts}
    assert judged["weather.2"] == "not reproduced"
    assert {judged[f"weather.{number}"] for number in (1, 3, 4, 5)} == {"reproduced"}


def test_claims_are_judged_by_the_whole_recipe_only(tmp_path: Path) -> None:
    for number, option in enumerate(("ladder", "validate")):
        run = make_run(tmp_path / str(number), **{**DATA, option: True})
        assert not report.claims(run, RECIPE)


# Runs from the command line


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of an epoch saved."""
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("weather") / "run"
    main(["--limit", "60", "--epochs", "1", "--out-dir", str(folder)])
    return folder / "model.safetensors"


def test_a_run_scores_the_test_year(weights: Path) -> None:
    metrics = read_summary(weights.parent)["metrics"]
    assert 0 < metrics["test_score"] == metrics["accuracy_recipe"] < 1
    assert (weights.parent / "weather.png").exists()
    assert {"gain_over_same_as_yesterday", "seconds_of_training"} <= metrics.keys()
    for metric in (claim.metric for claim in report.claims(
            make_run(weights.parent.parent / "other", **DATA), RECIPE)):  # fmt: skip
        assert metric in metrics, f"{metric}, which a claim judges, was not measured"


def test_your_own_days(weights: Path, tmp_path: Path, call: Call) -> None:
    """The last days of 2014 in a table of their own get the answer that the network gives them."""
    with TABLE.open() as file:
        days = list(csv.reader(file))
    table = tmp_path / "days.csv"
    newest_first = [days[0], *reversed(days[1 : 366 + 365 + 365])]  # up to 2014/12/30
    table.write_text("\n".join(",".join(row[:5]) for row in newest_first))
    (tmp_path / "bad.csv").write_text("no table")
    given = ("--predict", table, tmp_path / "bad.csv", "--weights", weights)
    code, out, _ = call(main, *given, "--out-dir", tmp_path / "seen")
    assert code == 0
    assert "bad.csv: 12 days or more are needed" in " ".join(out.split())
    measurements = load_weather(PROJECT / "data").measurements[: 366 + 365 + 364]
    model = Forecaster(RECIPE, torch.randn(9, 3, 5))
    load_weights(weights, model)
    expected = model.eval()(day_inputs(RECIPE, measurements)[None, -3:]).softmax(1)[0, 1].item()
    assert f"{expected:.0%}" in out
    assert numbers(tmp_path / "seen")["wet_1"] == pytest.approx(expected)
    assert (tmp_path / "seen" / "seen.png").exists()
    # The command that an interrupted run prints.
    assert call(main, "--out-dir", tmp_path / "seen", "--resume")[::2] == (0, "")
    other = call(main, "--predict", table, "--out-dir", weights.parent, "--resume")
    assert other[0] == 2
    assert "was started with other options" in other[2]


def test_validation_leaves_2015_alone(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.setattr(weather, "TEST_YEAR", None)  # whoever reads it fails
    folder = tmp_path / "run"
    code, out, _ = call(main, "--validate", "--epochs", 1, "--limit", 90, "--held-out", 2013,
                        "--seeds", "0,1", "--out-dir", folder)  # fmt: skip
    assert code == 0
    assert "2013, which no network was trained on" in out
    metrics = read_summary(folder)["metrics"]
    assert np.isfinite([metrics["val_accuracy"], metrics["val_loss"]]).all()
    assert "test_score" not in metrics


HEADER = "date,precipitation,temp_max,temp_min,wind\n"


def table_of(*days: int) -> str:
    return HEADER + "".join(f"2020/01/{day:02},0,9,3,1\n" for day in days)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "cannot be read"),
        ("date,rain\n2020/01/01,0\n", r"must be date \(2015/12/31\), precipitation, temp_max"),
        (table_of(*range(1, 12)), "12 days or more"),
        (table_of(*range(1, 12), 13), "one after the"),
        (table_of(*range(1, 6), 5, *range(7, 14)), "one after the"),
        (f"{HEADER}1.1.2020,0,9,3,1\n", "is no table of days"),
        (table_of(*range(1, 13)).replace(",9,", ",-9999,", 1),
         "temp_max of 2020/01/01 is -9999; accepted: -90 to 60"),
        (table_of(*range(1, 13)).replace(",0,", ",nan,", 1),
         "precipitation of 2020/01/01 is nan; accepted: 0 to 2000"),
    ],
    ids=["missing", "columns", "too few days", "a gap", "twice", "dates", "-9999", "nan"],
)
def test_a_strange_table_of_days(table: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    if table is not None:
        path.write_text(table)
    with pytest.raises(UsageError, match=said):
        report.read_days(path)


def test_dates_without_zeros_are_put_in_order(tmp_path: Path) -> None:
    """As Excel writes them in China; as text 2020/1/10 comes before 2020/1/9."""
    path = tmp_path / "days.csv"
    rows = [f"2020/1/{day},{day},9,3,1" for day in range(12, 0, -1)]
    path.write_text(HEADER + "\n".join(rows))
    assert report.read_days(path)[:, 0].tolist() == list(range(1, 13))


def test_a_table_of_days_as_excel_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    path.write_text("\ufeff" + table_of(*range(1, 13)), encoding="utf-8")
    assert report.read_days(path).tolist() == [[0, 9, 3, 1]] * 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--held-out", "2015"), "invalid choice"),
        (("--held-out", "2013"), "--held-out belongs to --validate or --ladder"),
        (("--precision", "auto"), "slower"),
        (("--ladder", "--validate"), "--ladder"),
        (("--predict", "nowhere.csv", "--weights", "a"), "nowhere.csv cannot be read"),
        (("--weights", "a"), "--weights names the network for --predict FILE"),
        (("--predict", "a", "--weights", "a", "--ladder"), "no --ladder"),
        (("--predict", "a", "--epochs", "3"), "is trained already: no --epochs"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(main, *arguments)
