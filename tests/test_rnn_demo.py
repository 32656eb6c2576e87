"""Document 2's sequences: cells and shapes by hand, windows without a look ahead, the story."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

import rnn_demo
from common.claims import judge
from common.cli import PROJECT
from common.data import make_loader
from common.layers import count_parameters
from common.rows import Row
from common.training import accuracy_on
from common.weather import WORDS, Weather, load_weather
from reports import rnn_demo as report
from reports import rnn_pictures
from reports import rnn_weather as weather_report
from rnn_demo import (
    LETTERS,
    READERS,
    SIZES,
    Experiment,
    StepByStep,
    baselines,
    compare_unrolled,
    count_both,
    encode,
    learn_hello,
    main,
    make_model,
    make_windows,
    modules_and_shapes,
    one_layer,
    parse,
    products_by_hand,
    spell,
    train,
    unroll,
)
from tests.helpers import make_run, numbers, read_summary, run_command

CPU = torch.device("cpu")


def four_years(first_day: int = 2012) -> Weather:
    """Forty days of each year; every third is wet, and the last measurement is a day's number."""
    count = torch.arange(160)
    generator = torch.Generator().manual_seed(0)
    measurements = torch.randn(160, 4, generator=generator)
    measurements[:, 0] = (count % 3 == 0).float()
    measurements[:, 3] = count
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


def test_step_by_step_reads_a_sequence_of_three_dimensions() -> None:
    torch.manual_seed(0)
    cell, rnn = nn.RNNCell(3, 6), nn.RNN(3, 6)
    for mine, theirs in zip(cell.parameters(), rnn.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    sequence = torch.randn(9, 4, 3)
    states = StepByStep(cell)(sequence, torch.zeros(4, 6))
    assert torch.allclose(states, rnn(sequence)[0], atol=1e-6)
    with pytest.raises(ValueError, match="1D or 2D, got 3D"):
        cell(sequence)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_unrolled_by_hand_equals_rnn(layers: int) -> None:
    torch.manual_seed(layers)
    rnn, inputs = nn.RNN(3, 6, num_layers=layers), torch.randn(9, 4, 3)
    states = unroll(rnn, inputs)
    outputs, hidden = rnn(inputs)
    assert states.shape == (9, layers, 4, 6)
    assert torch.allclose(states[:, -1], outputs, atol=1e-6)
    assert torch.allclose(states[-1], hidden, atol=1e-6)


def test_shapes_are_named_and_the_errors_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    report.shapes(run, SIZES, modules_and_shapes())
    assert run.metrics == {"rnn_other_shapes": 0,
                           "cell_hidden_dimensions": 2, "cell_sequence_dimensions": 3}  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    assert "seq_len 7, batch 2, input_size 4, hidden_size 5, num_layers 3" in shown
    assert "RNNCell, step by step 7×2×4 2×5 7×2×5" in shown
    assert "RNNCell, all steps at once 7×2×4 2×5 error" in shown
    assert "RNNCell, hidden of 3 layers 2×4 3×2×5 error" in shown
    assert 'cannot work, as expected. PyTorch says: RNNCell: Expected input to be 1D or 2D' in shown
    assert 'RNNCell: Expected hidden to be 1D or 2D, got 3D' in shown


class WrongOutputs(nn.Module):
    """Answers as an RNN does, but with the batch first."""

    def forward(self, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.zeros(2, 7, 5), torch.zeros(3, 2, 5)


def test_another_shape_is_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sequence, states = "seq_len batch input_size", "num_layers batch hidden_size"
    title = "RNN, as in the document"
    report.shapes(run, SIZES, [(title, WrongOutputs(), sequence, states)])
    assert run.metrics["rnn_other_shapes"] == 1
    refusing = nn.RNN(4, 5, 3, batch_first=True)
    cell = nn.RNNCell(4, 5)
    modules = [
        (title, refusing, sequence, states),
        ("RNNCell, step by step", cell, sequence, "batch hidden_size"),
        ("RNNCell, one step", cell, "input_size", "hidden_size"),
    ]
    report.shapes(run, SIZES, modules)
    assert run.metrics["rnn_other_shapes"] == 2, "an error gives neither of the two shapes"
    assert run.metrics["cell_sequence_dimensions"] == 0, "a cell alone reads no sequence"
    assert run.metrics["cell_hidden_dimensions"] == 1


def test_the_pictures_show_each_state_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The squares' values in the order of drawing, and the words beside them."""
    drawn, said = [], []

    def squares(panel: Axes, values: torch.Tensor, *_: object) -> None:
        drawn.append(values.tolist())

    def keep(figure: Figure, path: Path) -> None:
        said.append([text.get_text() for text in figure.axes[0].texts])

    monkeypatch.setattr(rnn_pictures, "squares", squares)
    monkeypatch.setattr(rnn_pictures, "save_figure", keep)
    run = make_run(tmp_path)
    inputs, states, _ = compare_unrolled()
    rnn_pictures.three_layers(run, inputs, states)
    assert drawn[:4] == [inputs[0, 0].tolist(), *states[0, :, 0].tolist()]
    assert drawn[-1] == states[-1, -1, 0].tolist()
    assert len(drawn) == 7 * (1 + 3)
    assert "$h_7^{(3)}$" in said[0]
    assert any("7×2×5 (seq_len, batch, hidden_size)" in text for text in said[0])
    assert any("3×2×5 (num_layers, batch, hidden_size)" in text for text in said[0])
    drawn.clear()
    hidden = torch.rand(5, 4)
    rnn_pictures.over_time(run, hidden, "ehlo", read="hello", expected="ohlll", right="ohlol")
    assert drawn[0] == [0] * 4
    assert drawn[1:3] == [[0, 1, 0, 0], hidden[0].tolist()], "h, and the state after it"
    assert "$h_4$ → “l” (not “o”)" in said[1]
    assert "$h_5$ → “l”" in said[1]


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
    assert history[-1].shape == (5, 4)


def test_networks_that_coincide_are_named() -> None:
    one, other = [torch.zeros(5, 4)], [torch.ones(5, 4)]
    histories = {"a": one, "b": other, "c": [one[0] + 1e-6]}
    assert [report.same_as(name, histories) for name in histories] == [None, None, "a"]


# 4: the weather


def test_the_table_of_days() -> None:
    weather = load_weather(PROJECT / "data")
    assert weather.measurements.shape == (1461, 4)
    counts = dict(zip(WORDS, weather.words.bincount().tolist(), strict=True))
    assert counts == {"drizzle": 54, "fog": 411, "rain": 259, "snow": 23, "sun": 714}
    assert weather.years.bincount()[2012:].tolist() == [366, 365, 365, 365]
    assert weather.measurements[0].tolist() == pytest.approx([0.0, 12.8, 5.0, 4.7])
    assert weather.years.equal(weather.years.sort().values)
    lines = (PROJECT / "data/weather/seattle-weather.csv").read_text().splitlines()[1:]
    rained = [float(line.split(",")[1]) > 0 for line in lines]
    assert weather.wet.tolist() == rained
    assert weather.wet[weather.years == 2015].sum() == 144


def test_a_window_is_the_days_before_its_target_and_never_later() -> None:
    weather = four_years()
    parts = make_windows(weather, 3, first=7)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 80 - 7, "validation": 40, "test": 40}
    mean, deviation = 39.5, statistics.stdev(range(80))
    for name, first in (("train", 7), ("validation", 80), ("test", 120)):
        examples = zip(parts[name].inputs, parts[name].targets, strict=True)
        for target, (days, label) in enumerate(examples, first):
            numbers = (days[:, 3] * deviation + mean).tolist()
            assert numbers == pytest.approx([target - 3, target - 2, target - 1], abs=1e-3)
            assert label == (target % 3 == 0)


def test_a_limit_keeps_the_first_of_each_part() -> None:
    weather = four_years()
    whole, few = make_windows(weather, 2, 2), make_windows(weather, 2, 2, limit=5)
    for name, part in few.items():
        assert part.inputs.equal(whole[name].inputs[:5])


def test_inputs_are_scaled_by_the_training_years_alone() -> None:
    weather = four_years()
    inputs = make_windows(weather, 1, 1)["train"].inputs[:, 0]
    trained = weather.measurements[:80].double().numpy()
    by_hand = (trained - trained.mean(0)) / trained.std(0, ddof=1)
    assert torch.allclose(inputs.double(), torch.from_numpy(by_hand)[:-1], atol=1e-5)
    weather.measurements[80:] = 1e6
    assert make_windows(weather, 1, 1)["train"].inputs[:, 0].equal(inputs)


def test_baselines() -> None:
    weather = load_weather(PROJECT / "data")
    labels, guesses = baselines(weather, None)
    trained = weather.wet[: 366 + 365].numpy()
    oracle = DummyClassifier(strategy="most_frequent").fit(trained[:, None], trained)
    assert guesses["always dry"].tolist() == oracle.predict(labels[:, None]).tolist()
    assert guesses["same as yesterday"][1:].equal(labels[:-1])
    assert guesses["same as yesterday"][0] == weather.wet[-366]


def test_the_linear_layer_is_logistic_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weight decay, trained to the end on all examples at once, it finds the answer of
    scikit-learn's solver."""
    parts = make_windows(load_weather(PROJECT / "data"), 3, 3)
    parts["validation"] = parts["train"]
    settings = {"LR": 0.05, "BATCH": len(parts["train"]), "EPOCHS": 400}
    for name, value in settings.items():
        monkeypatch.setattr(rnn_demo, f"WEATHER_{name}", value)
    monkeypatch.setattr(rnn_demo, "WEIGHT_DECAY", 0)
    model = train(Experiment("linear", 3), parts, 0, CPU)
    inputs, labels = parts["train"].inputs.flatten(1).numpy(), parts["train"].targets.numpy()
    oracle = LogisticRegression(C=1e8, tol=1e-8, max_iter=1000).fit(inputs, labels)
    days = parts["test"].inputs
    with torch.inference_mode():
        probabilities = model(days).softmax(1).numpy()
    expected = oracle.predict_proba(days.flatten(1).numpy())
    assert abs(probabilities - expected).max() < 0.005


def test_parameters_by_hand() -> None:
    cell, last = 4 * 16 + 16 * 16 + 2 * 16, 16 * 2 + 2
    for name, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        for days in (1, 3, 30):
            stacked = 4 * days * 16 + 16 + last
            assert count_both(name, days, 4) == (stacked, gates * cell + last)
    assert count_both("rnn", 3, 9) == (3 * 9 * 16 + 16 + last, 9 * 16 + 16 * 16 + 2 * 16 + last)
    assert count_parameters(make_model(Experiment("linear", 3))) == 12 * 2 + 2


def test_the_shared_cell_is_smaller_from_where_on() -> None:
    """Three days: 3·F·16 against F·16 + 16² + 16 weights and biases that differ, so 2·F > 17."""
    by_features = {features: count_both("rnn", 3, features) for features in range(1, 20)}
    assert weather_report.fewer_from(by_features) == 9
    assert weather_report.fewer_from({1: (5, 5), 2: (6, 7)}) is None


@pytest.mark.parametrize("network", ["rnn", "gru", "lstm", "mlp", "linear"])
def test_the_order_of_the_days_matters(network: str) -> None:
    torch.manual_seed(0)
    model, days = make_model(Experiment(network, 3)), torch.randn(2, 3, 4)
    assert model(days).shape == (2, 2)
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
    parts = make_windows(weather, 3, 3)
    kept = weights_of(train(Experiment("rnn", 3), parts, 0, CPU))
    assert kept.equal(weights[1])
    assert not kept.equal(weights[3])


@pytest.mark.parametrize("network", ["rnn", "mlp"])
def test_what_the_days_before_tell_is_learned(network: str) -> None:
    """Every third day is wet: both networks find that three days tell the next."""
    weather = four_years()
    weather.measurements[:, 3] = 0  # a day's number goes on growing after the years of training
    weather.measurements[0, 3] = 1e-3  # not constant, so that it can be scaled
    parts = make_windows(weather, 3, 3)
    model = train(Experiment(network, 3), parts, 0, CPU)
    assert accuracy_on(model, make_loader(parts["test"], 40)) > 0.9


@pytest.mark.parametrize("network", ["rnn", "mlp"])
def test_the_same_seed_gives_the_same_network(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rnn_demo, "WEATHER_EPOCHS", 2)
    weather = four_years()
    parts = make_windows(weather, 3, 3)
    models = [train(Experiment(network, 3), parts, seed, CPU) for seed in (0, 0, 1)]
    first, again, other = (weights_of(model) for model in models)
    assert first.equal(again)
    assert not first.equal(other)


# The report


def test_the_ending_has_the_mean_of_each_network_and_both_rules() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    right, wrong, half = labels, 1 - labels, torch.tensor([0, 0, 1, 1])
    predicted = {
        Experiment("rnn", 3): [right, half],
        Experiment("mlp", 3): [wrong],
        Experiment("linear", 3): [half],
    }
    said = weather_report.means_in_words(predicted, labels)
    assert said == "the RNN is right on 75.0%, the MLP on 0.0% and logistic regression on 50.0%"
    by_days = {Experiment("rnn", 3): [half], Experiment("rnn", 7): [right],
               Experiment("linear", 7): [half]}  # fmt: skip
    said = weather_report.means_in_words(by_days, labels)
    assert said == "the RNN is right on 50.0% to 100.0% and logistic regression on 50.0%"
    guesses = {"always dry": torch.tensor([1, 0, 0, 0]), "same as yesterday": half}
    said = weather_report.rules_in_words(labels, guesses)
    assert said == '"Always dry" is right on 25.0%, "same as yesterday" on 50.0%.'


def test_days_found_and_spread_by_hand() -> None:
    labels = torch.tensor([1, 1, 1, 0])
    answers = [torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 1, 0])]
    assert weather_report.days_found(answers, labels).tolist() == [[0, 2], [1, 2]]
    assert weather_report.spread(answers, labels) == ["62.5%", "17.7", "50.0%", "75.0%"]
    assert weather_report.spread(answers[:1], labels) == ["50.0%", "", "50.0%", "50.0%"]


def test_three_days_predict_the_next_only_if_every_seed_beats_always_dry(tmp_path: Path) -> None:
    run = make_run(tmp_path, cell="rnn")
    labels = torch.tensor([0, 0, 1, 1])
    guesses = {"always dry": torch.zeros(4).long(), "same as yesterday": torch.ones(4).long()}
    good, dry = torch.tensor([0, 0, 1, 0]), torch.zeros(4).long()
    predicted = {Experiment("rnn", 3): [good, dry], Experiment("mlp", 3): [good, good]}
    weather_report.forecast_metrics(run, predicted, labels, guesses)
    assert run.metrics["cell_gain_over_always_dry"] == [0.25, 0]
    assert run.metrics["mlp_accuracy"] == [0.75, 0.75]
    verdicts = judge(report.CLAIMS, run.metrics, {"limit": None, "cell": "rnn"})
    judged = {verdict.claim.id: verdict.verdict for verdict in verdicts}
    assert (judged["2.9d"], judged["2.9e"]) == ("not reproduced", "reproduced")


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
    figures = {path.stem for path in finished.folder.glob("*.png")}
    assert figures == {"hello", "unrolled", "three_layers", "parameters", "weather", "windows"}
    summary = read_summary(finished.folder)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in report.CLAIMS]
    assert verdicts["2.9d"] == verdicts["2.9e"] == "not run"
    refuted = {name for name, verdict in verdicts.items() if verdict == "not reproduced"}
    assert refuted == {"2.11d"}
    assert summary["metrics"]["hello_share_embedding"] == 1
    found = numbers(finished.folder)
    gain = found["cell_accuracy"] - found["always_dry_accuracy"]
    assert found["cell_gain_over_always_dry"] == pytest.approx(gain)
    assert found["shared_size_many"] == 2370 / 6194
    assert {"linear_accuracy_1_days", "cell_accuracy_5_days"} <= found.keys()


def test_as_a_command(tmp_path: Path) -> None:
    run_command(tmp_path, "rnn_demo.py", "--limit", 20, "--seeds", 0)


def test_the_story_ends_with_what_the_learner_came_for(finished: Finished) -> None:
    ending = " ".join(finished.out.split("Wet or dry?")[-1].split())
    assert "From 1, 5 days before, the RNN is right on" in ending
    assert '"same as yesterday" on' in ending
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
    assert not_judged("--limit", "5") == {"2.9d", "2.9e"}
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


TABLE = PROJECT / "data/weather/seattle-weather.csv"


@pytest.mark.parametrize(
    ("old", "new"), [(",0.0,", "\n,"), ("0.0", "nan"), ("sun", "fog"), ("", "")],
    ids=["a short row", "NaN", "another word", "missing"],
)  # fmt: skip
def test_a_missing_or_strange_table(
    old: str, new: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "data" / "weather"
    folder.mkdir(parents=True)
    if old:
        content = TABLE.read_text()
        assert old in content
        (folder / TABLE.name).write_text(content.replace(old, new, 1))
    said = refused(main, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "run")
    assert ("is not the table of this project" if old else "cannot be read") in said


def test_a_table_with_the_line_ends_of_windows_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "weather").mkdir()
    content = TABLE.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "weather" / TABLE.name).write_bytes(content)
    assert load_weather(tmp_path).words.equal(load_weather(PROJECT / "data").words)
