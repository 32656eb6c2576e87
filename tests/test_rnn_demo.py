"""Document 2's sequences: cells and shapes by hand, windows of days without a look ahead, the story, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.dummy import DummyClassifier
from torch import nn

import rnn_demo
from common.cli import PROJECT
from common.training import Row
from rnn_demo import (
    CLASSES,
    READERS,
    Weather,
    baselines,
    count_parameters,
    learn_hello,
    load_weather,
    main,
    make_inputs,
    make_network,
    make_windows,
    one_layer,
    read,
    show_shapes,
    spell,
    train_forecaster,
    unroll,
)
from tests.conftest import Call, make_run, read_summary


def four_years(first_day: int = 2012) -> Weather:
    """Forty days of each year; a day's first measurement is its number from 0 on."""
    count = torch.arange(160)
    generator = torch.Generator().manual_seed(0)
    measurements = torch.randn(160, 4, generator=generator)
    measurements[:, 0] = count
    return Weather(measurements, count % 5, first_day + count // 40)


def test_the_table_of_days() -> None:
    weather = load_weather(PROJECT / "data")
    assert weather.measurements.shape == (1461, 4)
    assert dict(zip(CLASSES, weather.classes.bincount().tolist(), strict=True)) == {
        "drizzle": 54, "fog": 411, "rain": 259, "snow": 23, "sun": 714
    }  # fmt: skip
    assert weather.years.bincount()[2012:].tolist() == [366, 365, 365, 365]
    assert weather.measurements[0].tolist() == pytest.approx([0.0, 12.8, 5.0, 4.7])
    assert weather.years.equal(weather.years.sort().values)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_unrolled_by_hand_equals_rnn(layers: int) -> None:
    torch.manual_seed(layers)
    rnn, inputs = nn.RNN(3, 6, num_layers=layers), torch.randn(9, 4, 3)
    for mine, theirs in zip(unroll(rnn, inputs), rnn(inputs), strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_one_layer_has_the_hidden_weights_first() -> None:
    weight, bias = one_layer(torch.ones(2, 2), torch.zeros(2, 3), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    assert weight.tolist() == [[1, 1, 0, 0, 0]] * 2
    assert bias.tolist() == [4, 6]


def test_shapes_are_named_and_the_refusal_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_shapes() == {"rnn_other_shapes": 0, "cell_dimensions": 2}
    shown = capsys.readouterr().out
    assert "7×2×4 (seq_len, batch, input_size)" in shown
    assert "refused: RNNCell: Expected input to be 1D or 2D" in shown


def test_rnn_is_the_cell_over_all_letters() -> None:
    torch.manual_seed(0)
    cell, rnn = READERS["RNNCell"](), READERS["RNN"]()
    for mine, theirs in zip(cell.parameters(), rnn.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    assert torch.allclose(cell(read("hello")), rnn(read("hello")), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_hello_is_learned_with_an_embedding(seed: int) -> None:
    seen = learn_hello("embedding, RNN, linear", seed)
    assert len(seen) == rnn_demo.HELLO_EPOCHS + 1
    assert spell(seen[-1].argmax(1)) == "ohlol"
    assert torch.allclose(seen[-1].sum(1), torch.ones(5))


def test_a_window_is_the_days_before_its_target_and_never_later() -> None:
    weather = four_years()
    parts = make_windows(weather, weather.measurements, 3, first=7)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80 - 7, "validation": 40, "test": 40}
    for name, first in (("train", 7), ("validation", 80), ("test", 120)):
        for place, (days, label) in enumerate(zip(parts[name].inputs, parts[name].targets, strict=True)):
            target = first + place
            assert days[:, 0].tolist() == [target - 3, target - 2, target - 1]
            assert label == target % 5


def test_a_limit_keeps_the_first_of_each_part() -> None:
    weather = four_years()
    whole, few = (make_windows(weather, weather.measurements, 2, 2, limit) for limit in (None, 5))
    for name, part in few.items():
        assert part.inputs.equal(whole[name].inputs[:5])


def test_inputs_are_scaled_by_the_training_years_alone() -> None:
    weather = four_years()
    inputs = make_inputs(weather, sees_classes=True)
    trained = weather.measurements[:80].double().numpy()
    by_hand = (weather.measurements.double().numpy() - trained.mean(0)) / trained.std(0, ddof=1)
    assert torch.allclose(inputs[:, :4].double(), torch.from_numpy(by_hand), atol=1e-5)
    assert inputs[:, 4:].argmax(1).equal(weather.classes)
    weather.measurements[80:] = 1e6
    assert make_inputs(weather, sees_classes=True)[:80].equal(inputs[:80])


def test_baselines() -> None:
    weather = load_weather(PROJECT / "data")
    truth, simple = baselines(weather, None)
    trained = weather.classes[: 366 + 365].numpy()
    oracle = DummyClassifier(strategy="most_frequent").fit(trained[:, None], trained)
    assert simple["most common"].tolist() == oracle.predict(truth.numpy()[:, None]).tolist()
    assert simple["same as yesterday"][1:].equal(truth[:-1])
    assert simple["same as yesterday"][0] == weather.classes[-366]


def test_parameters_by_hand() -> None:
    cell, last = 4 * 16 + 16 * 16 + 2 * 16, 16 * 5 + 5
    for kind, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        assert count_parameters(make_network(kind, 30, 4)) == gates * cell + last
    for days in (1, 3, 30):
        assert count_parameters(make_network("mlp", days, 4)) == 4 * days * 16 + 16 + last


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm", "mlp"])
def test_the_order_of_the_days_matters(kind: str) -> None:
    torch.manual_seed(0)
    network, days = make_network(kind, 3, 4), torch.randn(2, 3, 4)
    assert network(days).shape == (2, 5)
    assert not torch.allclose(network(days), network(days.flip(1)))


def test_the_epoch_of_lowest_validation_loss_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter((3.0, 1.0, 2.0, 2.5))
    weights: list[torch.Tensor] = []

    def scripted(network: nn.Module, *_: object) -> Row:
        weights.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
        return {"loss": next(losses)}

    kept: list[torch.Tensor] = []

    def predict(network: nn.Module, batches: object) -> tuple[torch.Tensor, torch.Tensor]:
        kept.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
        return torch.zeros(40, 5), torch.zeros(40)

    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 4)
    monkeypatch.setattr(rnn_demo, "evaluate", scripted)
    monkeypatch.setattr(rnn_demo, "predict", predict)
    weather = four_years()
    train_forecaster(make_run(tmp_path), "rnn", make_windows(weather, make_inputs(weather, False), 3, 3), seed=0)
    assert kept[0].equal(weights[1])
    assert not weights[1].equal(weights[3])


def test_a_class_that_shows_the_day_before_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tomorrow's class is today's and one more: told the classes, both networks find it."""
    monkeypatch.setattr(rnn_demo, "WEATHER_LR", 0.03)
    weather = four_years()
    weather.measurements[:, 0] = 0  # a day's number goes on growing after the years of training
    inputs = make_inputs(weather, sees_classes=True).nan_to_num()
    parts = make_windows(weather, inputs, 3, 3)
    for kind in ("rnn", "mlp"):
        predicted = train_forecaster(make_run(tmp_path), kind, parts, seed=0)
        assert (predicted == parts["test"].targets).float().mean() > 0.9


def test_the_story_leaves_a_complete_run(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 2)
    monkeypatch.setattr(rnn_demo, "HELLO_SEEDS", range(2))
    code, out, err = call(main, "--limit", 60, "--seeds", "0,1", "--windows", "1,5", "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert {path.stem for path in tmp_path.glob("*.png")} == {"hello", "weather", "windows"}
    verdicts = {claim["id"]: claim["verdict"] for claim in read_summary(tmp_path)["claims"]}
    assert [*verdicts] == [claim.id for claim in rnn_demo.CLAIMS]
    assert verdicts["2.9d"] == "not run"
    assert {name for name, verdict in verdicts.items() if verdict == "not reproduced"} == {"2.9c", "2.11b"}
    assert "ohlol" in out


@pytest.mark.parametrize("kind", ["rnn", "mlp"])
def test_the_same_seed_gives_the_same_network(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 2)
    weather = four_years()
    parts = make_windows(weather, make_inputs(weather, False), 3, 3)
    first, again, other = (train_forecaster(make_run(tmp_path), kind, parts, seed) for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_another_cell_tests_no_claim_about_the_notes_cell() -> None:
    assert rnn_demo.not_tested(rnn_demo.parse(["--cell", "gru"])) == {"2.9b", "2.9c", "2.9d"}
    assert rnn_demo.not_tested(rnn_demo.parse([])) == set()
    assert rnn_demo.parse(["--seed", "3"]).seeds == (3, 4, 5, 6, 7)


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


@pytest.mark.parametrize(
    "table", [None, "date,weather\n2012/01/01,sun\n",
              "date,precipitation,temp_max,temp_min,wind,weather\n2012/01/01,0,1,2,3,hail\n",
              "date,precipitation,temp_max,temp_min,wind,weather\n2012/01/01,0,1,2,3,sun\n"]
)  # fmt: skip
def test_a_missing_or_strange_table(table: str | None, tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "data" / "weather"
    folder.mkdir(parents=True)
    if table is not None:
        (folder / "seattle-weather.csv").write_text(table)
    said = refused(main, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "run")
    assert "seattle-weather.csv cannot be read" in said
