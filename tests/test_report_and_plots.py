"""Tables, claims, layer tables and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.plots import (
    confusion_figure,
    draw_curves,
    draw_histogram,
    error_gallery,
    image_grid,
    new_figure,
    save_figure,
)
from common.report import Claim, judge, layer_table, print_claims, print_table

CLAIMS = (
    Claim("9.1", "high", "above 0.9", "score", lambda score: score > 0.9, "{:.0%}"),
    Claim("9.2", "low", "below 0.5", "score", lambda score: score < 0.5),
    Claim("9.3", "missing", "any", "other", lambda score: True),
    Claim("9.4", "on other settings", "above 0.9", "score", lambda score: score > 0.9),
)


def test_verdicts_follow_from_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = judge(CLAIMS, {"score": 0.95}, not_run={"9.4"})
    assert [v.verdict for v in verdicts] == ["reproduced", "not reproduced", "not run", "not run"]
    assert [v.measured for v in verdicts] == [0.95, 0.95, None, 0.95]
    assert verdicts[0].as_dict() == {
        "id": "9.1", "text": "high", "claimed": "above 0.9", "measured": 0.95, "verdict": "reproduced"
    }  # fmt: skip
    print_claims(CLAIMS, verdicts)
    assert "95%" in capsys.readouterr().out


def test_over_seeds_the_mean_must_hold_or_with_every_seed_each(capsys: pytest.CaptureFixture[str]) -> None:
    claims = [Claim("9.1", "mean", "above 0", "gain", lambda gain: gain > 0, "{:+.1%}"),
              Claim("9.2", "each", "above 0", "gain", lambda gain: gain > 0, "{:+.1%}", every_seed=True),
              Claim("9.3", "one seed", "above 0", "single", lambda gain: gain > 0, every_seed=True),
              Claim("9.4", "none", "above 0", "none", lambda gain: gain > 0)]
    verdicts = judge(claims, {"gain": [0.04, -0.01, 0.03], "single": [0.5], "none": []})
    assert [v.verdict for v in verdicts] == ["reproduced", "not reproduced", "reproduced", "not run"]
    assert (verdicts[0].measured, verdicts[0].spread) == (pytest.approx(0.02), pytest.approx(0.0264575, abs=1e-6))
    assert (verdicts[2].spread, verdicts[3].measured) == (None, None)
    assert verdicts[0].as_dict()["spread"] == verdicts[0].spread
    print_claims(claims, verdicts)
    assert "+2.0% ± 2.6%" in capsys.readouterr().out


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ["name", "number"], [["a", 1.5], ["longer", 12345.678]])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Title",
        "name       number",
        "------  ---------",
        "a             1.5",
        "longer  1.235e+04",
        "",
    ]


def test_a_layer_table_shows_shapes_and_parameters_and_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.Flatten()), nn.Linear(8, 3)).train()
    rows = layer_table(model, torch.zeros(1, 1, 4, 4))
    assert [(shape, parameters) for _, shape, parameters in rows] == [
        ("1×2×2×2", 20), ("1×2×2×2", 4), ("1×8", 0), ("1×3", 27)
    ]  # fmt: skip
    assert model.training
    assert model[1][0].num_batches_tracked == 0
    assert not model[0]._forward_hooks


def test_figures_are_saved(tmp_path: Path) -> None:
    history = [{"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 2 / epoch, "share": 0.5} for epoch in (1, 2, 3)]
    figure, (curves, share, bars) = new_figure(1, 3)
    draw_curves(curves, history, {"train_loss": "training", "test_loss": "test"}, y_label="loss", log=True)
    draw_curves(share, history[:1], {"share": "share"}, y_label="%", percent=True)
    draw_histogram(bars, {"values": torch.tensor([0.1, 0.5, 9.0])}, bins=4, limits=(0, 1))
    training, test = curves.get_lines()
    assert training.get_linestyle() == ":"
    assert training.get_color() == test.get_color()
    assert share.get_ylim() == (0, 100)
    assert list(share.get_lines()[0].get_ydata()) == [50]
    x, y = bars.patches[0].get_path().vertices.T  # the outline; its area by the shoelace formula
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(100 * 0.25), "what lies outside is counted too"
    save_figure(figure, tmp_path / "curves.png")
    image_grid(torch.rand(3, 1, 5, 5), tmp_path / "grid.png", columns=2, titles=["a", "b", "c"], heading="three")
    confusion_figure(torch.tensor([[5, 0], [0, 0]]), ["yes", "no"], tmp_path / "confusion.png")
    labels = torch.tensor([0, 1, 0])
    for name, errors in (("gallery", [2]), ("none", [])):
        wrong = torch.tensor(errors, dtype=torch.int64)
        found = wrong, 1 - labels[wrong], torch.ones(len(errors))
        error_gallery(torch.rand(3, 1, 5, 5), labels, found, ["no", "yes"], tmp_path / f"{name}.png")
    assert not (tmp_path / "none.png").exists()
    for name in ("curves", "grid", "gallery", "confusion"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
