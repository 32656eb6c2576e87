"""Document 2's sequences: cells and shapes by hand, windows without a look ahead, the story."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.dummy import DummyClassifier
from torch import nn

import rnn_demo
from common.claims import judge
from common.cli import PROJECT
from common.data import make_loader
from common.layers import count_parameters
from common.rows import Row
from common.training import accuracy_on
from common.weather import CLASSES, Weather, load_weather
from reports import rnn_demo as report
from reports import rnn_weather as weather_report
from rnn_demo import (
    LETTERS,
    READERS,
    SIZES,
    Experiment,
    baselines,
    encode,
    learn_hello,
    main,
    make_inputs,
    make_model,
    make_windows,
    modules_and_shapes,
    one_layer,
    parameters_by_days,
    parse,
    products_by_hand,
    spell,
    train,
    unroll,
)
from tests.conftest import make_run, numbers, read_summary

CPU = torch.device("cpu")


def four_years(first_day: int = 2012) -> Weather:
    """Forty days of each year; a day's first measurement is its number from 0 on."""
    count = torch.arange(160)
    generator = torch.Generator().manual_seed(0)
    measurements = torch.randn(160, 4, generator=generator)
    measurements[:, 0] = count
    return Weather(measurements, count % 5, first_day + count // 40)


# 1 and 2: one layer, shapes, three layers


def test_the_equation_by_hand() -> None:
    products = {name: value.tolist() for name, value in products_by_hand().items()}
    assert products["w1·h + w2·x"] == products["[w1 w2]·[h; x]"] == [8, 3]
    assert (products["w1·h"], products["w2·x"]) == ([1, 0], [7, 3])
    assert report.as_text(products_by_hand()["[w1 w2]"]) == "[1 0 1 1 0; 2 -1 0 2 -1]"


def test_one_layer_has_the_hidden_weights_first() -> None:
    biases = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    weight, bias = one_layer(torch.ones(2, 2), torch.zeros(2, 3), *biases)
    assert weight.tolist() == [[1, 1, 0, 0, 0]] * 2
    assert bias.tolist() == [4, 6]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_unrolled_by_hand_equals_rnn(layers: int) -> None:
    torch.manual_seed(layers)
    rnn, inputs = nn.RNN(3, 6, num_layers=layers), torch.randn(9, 4, 3)
    for mine, theirs in zip(unroll(rnn, inputs), rnn(inputs), strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_shapes_are_named_and_the_error_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    report.shapes(run, SIZES, modules_and_shapes())
    assert run.metrics == {"rnn_other_shapes": 0, "cell_dimensions": 2}
    shown = " ".join(capsys.readouterr().out.split())
    assert "seq_len 7, batch 2, input_size 4, hidden_size 5, num_layers 3" in shown
    assert "RNNCell, as in the document 7×2×4 3×2×5 error" in shown
    assert 'document": RNNCell: Expected input to be 1D or 2D, got 3D instead.' in shown


class WrongOutputs(nn.Module):
    """Answers as an RNN does, but with the batch first."""

    def forward(self, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.zeros(2, 7, 5), torch.zeros(3, 2, 5)


def test_another_shape_is_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    title, inputs, hidden = (
        "RNN, as in the document", "seq_len batch input_size", "num_layers batch hidden_size"
    )  # fmt: skip
    report.shapes(run, SIZES, [(title, WrongOutputs(), inputs, hidden)])
    assert run.metrics["rnn_other_shapes"] == 1
    refusing = nn.RNN(4, 5, 3, batch_first=True)
    report.shapes(run, SIZES, [(title, refusing, inputs, hidden)])
    assert run.metrics["rnn_other_shapes"] == 2, "an error gives neither of the two shapes"


# 3: "hello"


def test_letters_and_numbers() -> None:
    assert encode("hello").tolist() == [[1], [0], [2], [2], [3]]
    assert spell(torch.eye(len(LETTERS))[encode("ohlol")[:, 0]]) == "ohlol"


def test_rnn_is_the_cell_over_all_letters() -> None:
    torch.manual_seed(0)
    cell, rnn = READERS["RNNCell"](), READERS["RNN"]()
    for mine, theirs in zip(cell.parameters(), rnn.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    assert torch.allclose(cell(encode("hello")), rnn(encode("hello")), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_hello_is_learned_with_an_embedding(seed: int) -> None:
    history = learn_hello("embedding, RNN, linear", seed)
    assert len(history) == rnn_demo.HELLO_EPOCHS + 1
    assert spell(history[-1]) == "ohlol"
    assert torch.allclose(history[-1].sum(1), torch.ones(5))


def test_networks_that_coincide_are_named() -> None:
    one, other = [torch.zeros(5, 4)], [torch.ones(5, 4)]
    histories = {"a": one, "b": other, "c": [one[0] + 1e-6]}
    assert [report.same_as(name, histories) for name in histories] == [None, None, "a"]


# 4: the weather


def test_the_table_of_days() -> None:
    weather = load_weather(PROJECT / "data")
    assert weather.measurements.shape == (1461, 4)
    counts = dict(zip(CLASSES, weather.classes.bincount().tolist(), strict=True))
    assert counts == {"drizzle": 54, "fog": 411, "rain": 259, "snow": 23, "sun": 714}
    assert weather.years.bincount()[2012:].tolist() == [366, 365, 365, 365]
    assert weather.measurements[0].tolist() == pytest.approx([0.0, 12.8, 5.0, 4.7])
    assert weather.years.equal(weather.years.sort().values)


def test_a_window_is_the_days_before_its_target_and_never_later() -> None:
    weather = four_years()
    parts = make_windows(weather, weather.measurements, 3, first=7)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 80 - 7, "validation": 40, "test": 40}
    for name, first in (("train", 7), ("validation", 80), ("test", 120)):
        examples = zip(parts[name].inputs, parts[name].targets, strict=True)
        for target, (days, label) in enumerate(examples, first):
            assert days[:, 0].tolist() == [target - 3, target - 2, target - 1]
            assert label == target % 5


def test_a_limit_keeps_the_first_of_each_part() -> None:
    weather = four_years()
    whole = make_windows(weather, weather.measurements, 2, 2)
    few = make_windows(weather, weather.measurements, 2, 2, limit=5)
    for name, part in few.items():
        assert part.inputs.equal(whole[name].inputs[:5])


def test_inputs_are_scaled_by_the_training_years_alone() -> None:
    weather = four_years()
    inputs = make_inputs(weather, with_weather=True)
    trained = weather.measurements[:80].double().numpy()
    by_hand = (weather.measurements.double().numpy() - trained.mean(0)) / trained.std(0, ddof=1)
    assert torch.allclose(inputs[:, :4].double(), torch.from_numpy(by_hand), atol=1e-5)
    assert inputs[:, 4:].argmax(1).equal(weather.classes)
    assert inputs[:, 4:].sum(1).equal(torch.ones(160))
    assert make_inputs(weather, with_weather=False).equal(inputs[:, :4])
    weather.measurements[80:] = 1e6
    assert make_inputs(weather, with_weather=True)[:80].equal(inputs[:80])


def test_baselines() -> None:
    weather = load_weather(PROJECT / "data")
    labels, guesses = baselines(weather, None)
    trained = weather.classes[: 366 + 365].numpy()
    oracle = DummyClassifier(strategy="most_frequent").fit(trained[:, None], trained)
    assert guesses["most common class"].tolist() == oracle.predict(labels[:, None]).tolist()
    assert guesses["same as yesterday"][1:].equal(labels[:-1])
    assert guesses["same as yesterday"][0] == weather.classes[-366]


def test_parameters_by_hand() -> None:
    cell, last = 4 * 16 + 16 * 16 + 2 * 16, 16 * 5 + 5
    for name, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        assert count_parameters(make_model(Experiment(name, 30))) == gates * cell + last
        for days in (1, 3, 30):
            stacked = 4 * days * 16 + 16 + last
            assert parameters_by_days(name)[days] == (stacked, gates * cell + last)


@pytest.mark.parametrize("network", ["rnn", "gru", "lstm", "mlp"])
def test_the_order_of_the_days_matters(network: str) -> None:
    torch.manual_seed(0)
    model, days = make_model(Experiment(network, 3)), torch.randn(2, 3, 4)
    assert model(days).shape == (2, 5)
    assert not torch.allclose(model(days), model(days.flip(1)))


def weights_of(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def test_the_epoch_of_lowest_validation_loss_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter((3.0, 1.0, 2.0, 2.5))
    weights: list[torch.Tensor] = []

    def scripted(model: nn.Module, *_: object) -> Row:
        weights.append(weights_of(model))
        return {"loss": next(losses)}

    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 4)
    monkeypatch.setattr(rnn_demo, "evaluate", scripted)
    weather = four_years()
    parts = make_windows(weather, make_inputs(weather, False), 3, 3)
    kept = weights_of(train(Experiment("rnn", 3), parts, 0, CPU))
    assert kept.equal(weights[1])
    assert not kept.equal(weights[3])


@pytest.mark.parametrize("network", ["rnn", "mlp"])
def test_a_class_that_shows_the_day_before_is_learned(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tomorrow's class is today's and one more: with the earlier classes both networks find it."""
    monkeypatch.setattr(rnn_demo, "WEATHER_LR", 0.03)
    weather = four_years()
    weather.measurements[:, 0] = 0  # a day's number goes on growing after the years of training
    inputs = make_inputs(weather, with_weather=True).nan_to_num()
    parts = make_windows(weather, inputs, 3, 3)
    model = train(Experiment(network, 3, with_weather=True), parts, 0, CPU)
    assert accuracy_on(model, make_loader(parts["test"], 40)) > 0.9


@pytest.mark.parametrize("network", ["rnn", "mlp"])
def test_the_same_seed_gives_the_same_network(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 2)
    weather = four_years()
    parts = make_windows(weather, make_inputs(weather, False), 3, 3)
    models = [train(Experiment(network, 3), parts, seed, CPU) for seed in (0, 0, 1)]
    first, again, other = (weights_of(model) for model in models)
    assert first.equal(again)
    assert not first.equal(other)


# The report


def test_the_best_network_is_held_against_both_rules() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    guesses = {
        "most common class": torch.tensor([0, 0, 0, 0]),
        "same as yesterday": torch.tensor([0, 1, 2, 0]),
    }
    predicted = {
        Experiment("rnn", 3): [torch.tensor([4, 4, 4, 4])],
        Experiment("mlp", 1, with_weather=True): [torch.tensor([0, 1, 4, 4])],
    }
    said = weather_report.best_network(predicted, guesses, labels)
    assert "MLP with the measurements and the weather of 1 day as input" in said
    assert "50.0% of the 4 days" in said
    assert "better than always guessing the most common class (25.0%)" in said
    assert 'worse than "same as yesterday" (75.0%)' in said
    guesses["same as yesterday"] = torch.tensor([0, 1, 0, 0])
    said = weather_report.best_network(predicted, guesses, labels)
    assert 'as good as "same as yesterday" (50.0%)' in said


def test_days_found_and_spread_by_hand() -> None:
    labels = torch.tensor([4, 4, 1, 2])
    answers = [torch.tensor([4, 4, 4, 4]), torch.tensor([4, 1, 1, 2])]
    assert weather_report.days_found(answers, labels).tolist() == [[0, 0, 0, 0, 2], [0, 1, 1, 0, 1]]
    assert weather_report.spread(answers, labels) == ["62.5%", "17.7", "50.0%", "75.0%"]
    assert weather_report.spread(answers[:1], labels) == ["50.0%", "", "50.0%", "50.0%"]


@dataclass(frozen=True)
class Finished:
    folder: Path
    out: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished short run with two seeds and two windows."""
    folder: Path = tmp_path_factory.mktemp("rnn") / "run"
    options = ["--limit", "60", "--seeds", "0,1", "--windows", "1,5", "--out-dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as shown:
        patch.setattr(rnn_demo, "WEATHER_EPOCHS", 2)
        patch.setattr(rnn_demo, "HELLO_SEEDS", range(2))
        main(options)
    return Finished(folder, shown.getvalue())


def test_the_story_leaves_a_complete_run(finished: Finished) -> None:
    assert {path.stem for path in finished.folder.glob("*.png")} == {"hello", "weather", "windows"}
    summary = read_summary(finished.folder)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in report.CLAIMS]
    assert verdicts["2.9d"] == "not run"
    refuted = {name for name, verdict in verdicts.items() if verdict == "not reproduced"}
    assert refuted == {"2.9c", "2.11b"}
    assert summary["metrics"]["hello_share_embedding"] == 1
    found = numbers(finished.folder)
    gain = found["cell_accuracy_least"] - found["most_common_accuracy"]
    assert found["gain_over_most_common"] == gain
    assert found["cell_accuracy_least"] <= found["cell_accuracy"]


def test_the_story_ends_with_what_the_learner_came_for(finished: Finished) -> None:
    ending = " ".join(finished.out.split("The most accurate network")[-1].split())
    assert "always guessing the most common class (" in ending
    assert '"same as yesterday" (' in ending
    assert "Open windows.png. Next: python rnn_demo.py --cell lstm --windows 1,5" in ending
    assert "ohlol" in finished.out
    lines = [line for line in finished.out.splitlines() if str(finished.folder) not in line]
    assert max(map(len, lines)) <= 80


# The claims' settings, and what a user may get wrong


def not_judged(*arguments: str) -> set[str]:
    options: dict[str, Any] = vars(parse(arguments))
    metrics = {claim.metric: 1.0 for claim in report.CLAIMS}
    verdicts = judge(report.CLAIMS, metrics, options)
    return {verdict.claim.id for verdict in verdicts if verdict.verdict == "not run"}


def test_another_cell_tests_no_claim_about_the_document_s_cell() -> None:
    assert not_judged() == set()
    assert not_judged("--cell", "gru") == {"2.9b", "2.9c", "2.9d"}
    assert not_judged("--limit", "5") == {"2.9d"}
    assert parse(["--seed", "3"]).seeds == (3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cell", "elman"), "choose from"),
        (("--windows", "0"), "'0' is not a whole number of at least 1 and at most 365"),
        (("--windows", "3,400"), "'400' is not"),
        (("--windows", "3,3"), "names a number twice"),
        (("--seeds", "one"), "'one' is not"),
        (("--epochs", "3"), "unrecognized arguments"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(main, *arguments)


HEADER = "date,precipitation,temp_max,temp_min,wind,weather\n"


@pytest.mark.parametrize(
    "table",
    [
        None,
        "date,weather\n2012/01/01,sun\n",
        f"{HEADER}2012/01/01,0,1,2,3,hail\n",
        f"{HEADER}2012/01/01,0,1,2,3,sun\n",
        f"{HEADER}2012/01/01,0,1\n",
    ],
    ids=["missing", "no measurements", "unknown class", "one year only", "cut off"],
)
def test_a_missing_or_strange_table(
    table: str | None, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "data" / "weather"
    folder.mkdir(parents=True)
    if table is not None:
        (folder / "seattle-weather.csv").write_text(table)
    said = refused(main, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "run")
    assert "seattle-weather.csv cannot be read" in said
