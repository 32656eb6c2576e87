"""Tables, sentences, layers and figures: what they show; no notebook is disturbed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Transform
from torch import nn

from common.cli import PROJECT
from common.figures import (
    TRAINING,
    UNSEEN,
    draw_curves,
    draw_histogram,
    image_grid,
    new_figure,
    save_figure,
)
from common.layers import count_multiplications, count_parameters, layer_table
from common.terminal import print_table, say, track
from reports.classification import (
    comparison_figure,
    confidence,
    confused_pairs,
    confusion_figure,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)


def test_numbers_stand_to_the_right_and_text_to_the_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(
        "Title", ["name", "number", "share"], [["a", 1.5, "9.0%"], ["longer", 12345, "10.0%"]]
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line.split() for line in lines[:2]] == [["Title"], ["name", "number", "share"]]
    assert lines[3:] == ["a           1.5    9.0%", "longer   12,345   10.0%"]


def test_tables_and_sentences_break_between_words_at_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "several words that go on and on " * 4
    print_table(words, ["one", "other"], [[words, words], ["[b]", 1]])
    say(words)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert set(shown.split()) - {"│"} >= set(words.split())
    assert "[b]" in shown, "no markup is read out of what is printed"


def test_progress_in_a_file_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.terminal.QUIET_SECONDS", -1)
    assert list(track([3, 1, 2], "steps")) == [3, 1, 2]
    assert capsys.readouterr().out.splitlines() == [f"steps: {n} of 3 done" for n in range(3)]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_beside_a_bar_on_the_terminal_a_redirected_output_keeps_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for step in track([1, 2], "steps"):
        print(f"line {step}")
    assert capsys.readouterr().out == "line 1\nline 2\n"
    assert "steps" in terminal.getvalue()


def test_a_layer_table_shows_shapes_and_parameters_and_leaves_the_model_alone() -> None:
    inner = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten())
    model = nn.Sequential(nn.Conv2d(1, 2, 3), inner, nn.Linear(8, 3)).train()
    rows = layer_table(model, torch.zeros(1, 1, 4, 4))
    assert [(shape, parameters) for _, shape, parameters in rows] == [
        ("1×2×2×2", 20), ("1×2×2×2", 4), ("1×8", 0), ("1×3", 27)
    ]  # fmt: skip
    assert model.training
    assert model[1][0].num_batches_tracked == 0
    assert not model[0]._forward_hooks
    assert count_parameters(model) == 20 + 4 + 27


def test_multiplications_by_hand() -> None:
    direct = nn.Conv2d(192, 32, 5, padding=2)
    assert count_multiplications(direct, torch.zeros(1, 192, 28, 28)) == 120_422_400
    grouped = nn.Conv2d(4, 8, 3, groups=2)
    assert count_multiplications(grouped, torch.zeros(1, 4, 5, 5)) == 8 * 3 * 3 * (2 * 9)
    linear = nn.Sequential(nn.Linear(320, 10), nn.BatchNorm1d(10))
    assert count_multiplications(linear, torch.zeros(1, 320)) == 3200
    assert linear.training, "counted as in use, where batch norm takes a single example"


IMPORTS = """
import sys
import fmnist_hyperparams
print([name for name in ("matplotlib", "skimage") if name in sys.modules])
import line_regression, gradient_demo, mnist_cnn, rnn_demo, fashion_cnn
import recipes.lines, recipes.digits_mlp, recipes.digits_cnn, recipes.sprint, recipes.weather
slow = ("matplotlib.pyplot", "torchvision", "scipy.stats")
print([name for name in slow if name in sys.modules])
"""


def test_what_imports_bring_along() -> None:
    """A worker process, which imports document 5's chapter, gets nothing that draws.

    A notebook's figures are left alone: no import brings pyplot, which chooses a backend. And no
    script but document 4's waits for torchvision, which takes as long to import as torch, and none
    for scipy.stats.
    """
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 2000


def test_curves_and_histograms(tmp_path: Path) -> None:
    history = [
        {"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 2 / epoch, "share": 0.5}
        for epoch in (1, 2, 3)
    ]
    figure, (curves, share, bars) = new_figure("what to see", 1, 3)
    draw_curves(curves, history, {"train_loss": "training", "test_loss": "test"}, y_label="loss")
    draw_curves(share, history[:1], {"share": "share"}, y_label="%", percent=True)
    groups = {"values": torch.cat([torch.linspace(0.1, 0.5, 9), torch.full((3,), 9.0)]),
              "few": torch.tensor([0.2, 0.3])}  # fmt: skip
    draw_histogram(bars, groups, bins=4, limits=(0, 1))
    training, test = curves.get_lines()
    assert (training.get_linestyle(), training.get_color()) == (":", TRAINING)
    assert (test.get_linestyle(), test.get_color()) == ("-", UNSEEN)
    assert list(share.get_lines()[0].get_ydata()) == [50]
    x, y = bars.patches[0].get_path().vertices.T  # the outline; its area by the shoelace formula
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(100 * 0.25), "what lies outside is counted too"
    (dots,) = bars.get_lines()
    assert list(dots.get_xdata()) == pytest.approx([0.2, 0.3]), "two values are dots, not bars"
    save_figure(figure, tmp_path / "curves.png")
    assert is_png(tmp_path / "curves.png")


def test_figures_of_classifiers(tmp_path: Path) -> None:
    row = {
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_loss": 1.0,
        "test_accuracy": 0.4,
        "seconds": 1.0,
    }
    history = [{"epoch": epoch, **row} for epoch in (1, 2)]
    learning_curves(history, tmp_path / "curves.png", title="t", unseen="test")
    comparison_figure(
        {"a": [history, history], "b": [history, history]},
        tmp_path / "compare.png",
        title="t",
        column="test_accuracy",
        label="l",
        sizes={"a": "1", "b": "2"},
    )
    image_grid(
        torch.rand(3, 1, 5, 5),
        tmp_path / "grid.png",
        columns=2,
        captions=["a", "b", "c"],
        title="3",
    )
    confusion_figure(torch.tensor([[5, 0], [0, 0]]), ["yes", "no"], tmp_path / "confusion.png")
    for name in ("curves", "compare", "grid", "confusion"):
        assert is_png(tmp_path / f"{name}.png")
    images, labels = torch.rand(3, 1, 5, 5), torch.tensor([0, 1, 0])
    logits = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    path = tmp_path / "mistakes.png"
    assert mistakes_figure(images, labels, logits, ["no", "yes"], path) == "Open mistakes.png."
    assert is_png(path)
    nothing = torch.zeros(3, dtype=torch.int64)
    said = mistakes_figure(images, nothing, logits, ["no", "yes"], path)
    assert said == "There are no mistakes to show."
    assert not path.exists(), "no mistakes, no figure, not even an earlier one"


def test_a_mark_on_an_image_of_a_grid_stands_on_its_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of seven images, higher than wide, has one white pixel; a mark is to stand there."""
    images = torch.zeros(7, 6, 4)
    images[:, 1, 3] = 1  # x is 3, y is 1
    drawn: list[Figure] = []
    places: list[Transform] = []
    monkeypatch.setattr("common.figures.save_figure", lambda figure, path: drawn.append(figure))
    image_grid(images, Path("grid.png"), title="t", columns=3, captions=["two\nlines"] * 7,
               annotate=lambda axes, index, place: places.append(place))  # fmt: skip
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    canvas.draw()  # the layout of the first changes what stands where
    shown = np.asarray(canvas.buffer_rgba())[::-1, :, 0]  # from the bottom
    for place, frame in zip(places, drawn[0].axes[0].patches, strict=True):
        corners = place.transform([(-0.5, 5.5), (3.5, -0.5)])
        assert frame.get_window_extent().get_points() == pytest.approx(corners)
        for x, y, grey in ((3, 1, 255), (0, 0, 0), (3, 5, 0), (2, 1, 0), (3, 2, 0)):
            column, row = place.transform((x, y))
            assert shown[int(row), int(column)] == grey


def test_a_probability_that_is_no_number_is_not_certain() -> None:
    assert [confidence(share) for share in (float("nan"), 0.0, 1.0)] == ["NaN", "0%", "100%"]


def test_confused_pairs_against_numpy() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (10, 10))
    pairs = confused_pairs(torch.from_numpy(counts))
    assert len(pairs) == 45
    assert [count for count, _, _ in pairs] == sorted(
        (count for count, _, _ in pairs), reverse=True
    )
    assert all(count == counts[a, b] + counts[b, a] for count, a, b in pairs)


def test_what_the_learner_came_for_in_a_sentence() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    said = right_and_confused(labels, torch.eye(3)[[0, 1, 2, 1]], ["a", "b", "c"])
    assert said == ("Your network classified 3 of 4 unseen images correctly (75.0%). "
                    "Most often confused: b and c.")  # fmt: skip
    said = right_and_confused(labels, torch.eye(3)[labels], ["a", "b", "c"])
    assert said.endswith("(100.0%)."), "nothing was confused, so nothing is said of it"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.994, "99%"),
        (0.9971, "99.71%"), (0.99999, "99.99%"), (1.0, "100%"),
    ],
)
def test_only_certainty_is_100_percent(share: float, shown: str) -> None:
    assert confidence(share) == shown
