"""What document 5 shows: images as numbers, features, distributions, the scheduler's lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from common.data import LabelledImages
from common.figures import new_figure
from common.rows import Row
from fmnist_hyperparams import EXPERIMENTS, make_network
from hyperparams import distributions, features, figures, schedule
from hyperparams.results import Result
from tests.helpers import make_run

# Images as numbers, and features


def test_channels_and_their_order() -> None:
    colours = features.astronaut()
    assert (colours.shape, colours.dtype) == ((200, 200, 3), np.uint8)
    red, green, blue = colours[-1, -1]
    assert features.as_opencv_reads(colours)[-1, -1].tolist() == [blue, green, red]
    alone = [features.only_channel(colours, channel) for channel in range(3)]
    assert np.array_equal(np.add.reduce(alone), colours), "together they are the image"
    assert [image.any(axis=(0, 1)).tolist() for image in alone] == np.eye(3, dtype=bool).tolist()
    by_hand = 0.2125 * colours[..., 0] + 0.7154 * colours[..., 1] + 0.0721 * colours[..., 2]
    assert np.abs(features.to_grey(colours) - by_hand).max() < 0.51, "rounded, not cut off"


def test_gradients_point_to_the_brighter_side() -> None:
    dark_left = np.zeros((5, 6))
    dark_left[:, 3:] = 1
    overall, along_y, along_x = features.gradients(dark_left)
    assert (along_x[1:-1, 2:4] > 0).all(), "brighter to the right"
    assert not along_y[1:-1].any()
    turned_overall, turned_y, turned_x = features.gradients(dark_left.T)
    assert np.allclose(turned_y, along_x.T), "brighter below"
    assert np.allclose(turned_x, along_y.T)
    diagonal = np.add.outer(np.arange(6.0), np.arange(6.0))
    steep, *parts = (part[2, 2] for part in features.gradients(diagonal))
    assert steep == pytest.approx(np.sqrt(parts[0] ** 2 + parts[1] ** 2))
    assert np.allclose(turned_overall, overall.T)


def test_every_number_of_the_25_by_25_pixels_is_drawn_on_its_pixel() -> None:
    small = features.to_25_by_25(features.to_grey(features.astronaut()))
    assert (small.shape, small.dtype) == ((25, 25), np.uint8)
    _, (axes,) = new_figure("numbers")
    features.draw_numbers(axes, small)
    drawn = np.zeros((25, 25), dtype=int)
    for text in axes.texts:
        column, row = map(int, text.get_position())
        drawn[row, column] = int(text.get_text())
        assert text.get_color() == ("black" if drawn[row, column] > 117 else "white")
    assert np.array_equal(drawn, small)


def test_arrays_are_printed_in_both_orders(capsys: pytest.CaptureFixture[str]) -> None:
    colours = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    features.print_arrays(colours, np.full((25, 25), 255, dtype=np.uint8))
    out = capsys.readouterr().out
    assert "5×5×3" in out
    assert out.count("255") == 1 + 4 * 25, "once in the sentence, then four rows"
    assert "( 66,  67,  68)  ( 69,  70,  71)  ( 72,  73,  74)\n" in out
    assert "( 68,  67,  66)  ( 71,  70,  69)  ( 74,  73,  72)\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_shapes_and_classes_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
    images[2, 0, 3, 3] = 200
    features.print_classes(LabelledImages(images, torch.tensor([9, 0, 9, 9])))
    out = capsys.readouterr().out
    assert "4×1×28×28" in out
    assert "from 0 to 200" in out
    assert "which of 2 classes" in out
    rows = [line.split() for line in out.splitlines() if line.strip()[:1] in ("0", "9")]
    assert rows == [["0", "T-shirt/top", "1"], ["9", "Ankle", "boot", "3"]]


# Distributions


def make_result(name: str, network: nn.Module | None = None, rates: Sequence[float] = ()) -> Result:
    """A result that was not trained, with a hidden layer's values for four images."""
    torch.manual_seed(0)
    network = (network or make_network(EXPERIMENTS[name])).eval()
    hidden = torch.randn(4, 1000).relu()
    rows: list[Row] = []
    for epoch, rate in enumerate(rates or [1e-3], 1):
        rows.append({"epoch": epoch, "lr": rate})
    number = list(EXPERIMENTS).index(name)
    return Result(name, EXPERIMENTS[name].section, "", number, rows, network, hidden)


NAMES = ("tiny-input", "tiny-input-batchnorm", "tiny-input-batchnorm-no-bias", "no-annealing-100")


@pytest.fixture
def results() -> dict[str, Result]:
    return {name: make_result(name) for name in NAMES}


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Figures by their file's name, kept instead of being saved."""
    kept: dict[str, Figure] = {}

    def keep(figure: Figure, path: Path) -> None:
        kept[path.name] = figure

    monkeypatch.setattr(distributions, "save_figure", keep)
    return kept


def test_one_scale_where_all_can_be_read_on_it() -> None:
    wide, narrow = torch.tensor([-3.0, 1]), torch.tensor([0.2, 0.3])
    shared = {"wide": (-3.0, 3.0), "narrow": (-3.0, 3.0), "none": (-3.0, 3.0)}
    values = {"wide": wide, "narrow": narrow, "none": torch.empty(0)}
    assert distributions.axis_limits(values) == shared, "ten times as far: still one scale"
    own = distributions.axis_limits({"wide": 1.1 * wide, "narrow": -narrow})
    assert own["wide"] == pytest.approx((-3.3, 3.3))
    assert own["narrow"] == pytest.approx((-0.3, 0.3))
    none_negative = {"values": torch.tensor([0.0, 2]), "zeros": torch.zeros(3)}
    positive = distributions.axis_limits(none_negative)
    assert positive == {"values": (0, 2), "zeros": (0, 1)}, "nothing negative: from 0"


def test_ranges_in_words() -> None:
    assert distributions.value_range(torch.tensor([-1.2345, 0.5])) == "−1.23 to 0.5"
    half = torch.tensor([0.0, 0.0004, 0, 3])
    assert distributions.value_range(half) == "0 to 3, 50% are 0"


def test_weights_and_biases_start_between_the_lines(results: dict[str, Result]) -> None:
    for group, values in distributions.signed_values(results, hidden=True).items():
        for name, tensor in values.items():
            if group == distributions.HIDDEN:
                assert tensor.equal(results[name].hidden_values.flatten()), "zeros included"
            elif len(tensor):
                limit = distributions.start_limit(results[name], group)
                assert 0.7 * limit < tensor.abs().max() <= limit


def heights(outline: Tensor) -> set[int]:
    return {round(float(y)) for y in outline if y >= 1}


def test_signed_histograms_show_all_values_of_each_group(
    results: dict[str, Result], saved: dict[str, Figure], tmp_path: Path
) -> None:
    network = results["tiny-input"].network
    with torch.no_grad():
        network.get_submodule("output").weight.mul_(5)  # type: ignore[union-attr, operator]
        network.get_submodule("output").bias.mul_(50)  # type: ignore[union-attr, operator]
    distributions.signed(make_run(tmp_path), "5.14", results, hidden=True)
    panels = saved["signed_5.14.png"].axes
    assert len(panels) == 4 * 5
    headings = [panel.get_title().split("\n")[0] for panel in panels[:5]]
    assert headings == ["hidden weights", "hidden biases", "output weights",
                        "output biases (each on its own scale)", "hidden values"]  # fmt: skip
    assert panels[2].get_xlim() == panels[7].get_xlim(), "five times as far: one scale"
    assert panels[3].get_xlim() != panels[8].get_xlim(), "fifty times as far: two"
    assert panels[11].get_title() == "none", "without hidden biases"
    assert not panels[11].axison
    assert len(panels[3].get_lines()[0].get_xdata()) == 10, "a dot for each output bias"
    values = results["no-annealing-100"].parameters()["output.weight"].numpy()
    low, high = distributions.axis_limits(
        {name: one.parameters()["output.weight"].flatten() for name, one in results.items()}
    )["tiny-input"]
    counts, _ = np.histogram(values, distributions.BINS, (low, high))
    outline = torch.tensor(panels[17].patches[0].get_path().vertices[:, 1])
    assert heights(outline) == set(counts.tolist()) - {0}
    assert panels[17].get_yscale() == "log"
    ticks = panels[5].get_ylabel().split("\n")
    assert ticks == ["tiny-input-", "batchnorm", "1 epochs", "values per bar"]


def test_gamma_and_beta_against_their_start(
    results: dict[str, Result],
    saved: dict[str, Figure],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(tmp_path)
    layer = results["tiny-input-batchnorm"].network.get_submodule("batch_norm1")
    assert isinstance(layer, nn.BatchNorm1d)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(1.5, 2.5, 1000))
        layer.bias.copy_(torch.linspace(-0.5, -0.25, 1000))
    capsys.readouterr()
    distributions.batch_norm(run, "5.14", results)
    gamma, beta = saved["gamma_beta_5.14.png"].axes
    assert [panel.get_title() for panel in (gamma, beta)] == ["γ: start 1", "β: start 0"]
    assert [panel.get_lines()[0].get_xdata()[0] for panel in (gamma, beta)] == [1, 0]
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("tiny-input")]
    normed, without_bias = "tiny-input-batchnorm", "tiny-input-batchnorm-no-bias"
    assert rows == [
        [normed, "γ", "1", "2.000", "1.500", "2.500"],
        [without_bias, "γ", "1", "1.000", "1.000", "1.000"],
        [normed, "β", "0", "-0.375", "-0.500", "-0.250"],
        [without_bias, "β", "0", "0.000", "0.000", "0.000"],
    ]
    saved.clear()
    distributions.batch_norm(run, "5.16", {"tiny-input": results["tiny-input"]})
    assert (saved, capsys.readouterr().out) == ({}, ""), "nothing without batch norm"


def test_figures_are_saved(results: dict[str, Result], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    some = {name: results[name] for name in NAMES[1:3]}
    distributions.signed(run, "5.16", some, hidden=False, part="0.01")
    distributions.batch_norm(run, "5.14", some)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "signed_5.16_lr-0.01.png", "gamma_beta_5.14.png"
    }  # fmt: skip


# Which experiments share a figure, and their colours


def test_no_two_experiments_of_a_figure_have_the_same_colour(results: dict[str, Result]) -> None:
    one = results["tiny-input"]
    places = [18, 19, 18, 18 + len(figures.CURVES), 4]
    same = {str(place): Result(**{**vars(one), "number": number})
            for place, number in enumerate(places)}  # fmt: skip
    chosen = figures.colours_of(same)
    assert len(set(chosen.values())) == len(places)
    assert chosen["0"] == figures.CURVES[18 % len(figures.CURVES)]
    many = {str(number): Result(**{**vars(one), "number": number}) for number in range(10)}
    assert set(figures.colours_of(many).values()) == set(figures.CURVES)


def test_a_section_with_two_learning_rates_has_two_figures() -> None:
    network = make_network(EXPERIMENTS["hidden-0"])
    rates = {"l1": [1e-3], "l2-norm": [1e-2, 5e-3], "no-dropout": [1e-3]}
    results = {name: make_result(name, network, values) for name, values in rates.items()}
    parts = figures.parts("5.16", results)
    assert {part: [*found] for part, found in parts.items()} == {
        "": ["l1", "no-dropout"], "0.01": ["l2-norm"]
    }  # fmt: skip
    assert [*figures.parts("5.9", results)] == [""]
    assert figures.heading("5.16", "0.01") == "5.16, learning rate 0.01"
    assert figures.file_name("curves", "5.16", "0.01") == "curves_5.16_lr-0.01.png"
    assert figures.file_name("curves", "5.16", "") == "curves_5.16.png"


# The scheduler's lines


def annealed(losses: Sequence[float]) -> tuple[Result, list[str]]:
    """A history with these validation losses under PyTorch's scheduler, and the lines it means."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=0, threshold=0.001, threshold_mode="abs", min_lr=1e-5)
    rows: list[Row] = []
    lines = []
    for epoch, loss in enumerate(losses, 1):
        rate, best = optimizer.param_groups[0]["lr"], scheduler.best
        rows.append({"epoch": epoch, "lr": rate, "validation_loss": loss})
        scheduler.step(loss)
        after = optimizer.param_groups[0]["lr"]
        if after < rate and epoch < len(losses):
            lines.append(f"epoch {epoch}: learning rate {after:.4g} (validation loss {loss:.4f}, "
                         f"best before {best:.4f})")  # fmt: skip
    network = make_network(EXPERIMENTS["hidden-0"])
    empty = torch.empty(0)
    return Result("lr-annealing", "5.12", "", 12, rows, network, empty), lines


def test_the_lines_are_those_of_pytorch_s_scheduler() -> None:
    by_hand, lines = annealed([0.5, 0.4, 0.3995, 0.41, 0.3985, 0.3])
    assert lines == [
        "epoch 3: learning rate 0.0005 (validation loss 0.3995, best before 0.4000)",
        "epoch 4: learning rate 0.00025 (validation loss 0.4100, best before 0.4000)",
    ]
    assert schedule.rate_lines(by_hand) == lines
    random = np.random.default_rng(0)
    losses = 0.3 + 0.3 * 0.8 ** np.arange(40) + random.normal(0, 0.002, 40)
    result, expected = annealed(losses.tolist())
    assert len(expected) == 7, "from 0.001 to 0.00001"
    assert schedule.rate_lines(result) == expected


def test_the_same_lines_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    first, lines = annealed([0.5, 0.6, 0.4])
    constant, none = annealed([0.5, 0.4, 0.3])
    assert none == []
    schedule.print_rates("5.12", {"one": first, "constant": constant, "two": first})
    out = capsys.readouterr().out
    assert out.count(lines[0]) == 1
    assert f"one, 3 epochs, from learning rate 0.001:\n  {lines[0]}\n" in out
    assert "two, 3 epochs, from learning rate 0.001:\n  the same as one\n" in out
    assert "constant" not in out
    assert max(map(len, out.splitlines())) <= 80
    schedule.print_rates("5.9", {"constant": constant})
    assert capsys.readouterr().out == ""
