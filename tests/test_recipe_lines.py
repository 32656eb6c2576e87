"""The recipe for lines: the pictures, the read-out, the loss, the chapter from end to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.layers import count_parameters
from common.rows import read_rows
from line_regression import Experiment, LineNetwork, draw_lines, make_lines
from recipes import line_pictures, lines
from recipes.ladder import climb, without_each
from recipes.line_pictures import (
    COLUMNS,
    SIZE,
    as_clean,
    describe,
    distances,
    draw,
    left_first,
    read_out,
    share_within,
    views,
)
from recipes.lines import RECIPE, STEPS, EndFinder, Recipe, find_ends, loss_of, main, train
from recipes.training import load_weights, save_weights
from reports import recipe_lines as report
from reports.line_regression_scores import outermost_pixels
from tests.helpers import Call, make_run, numbers, read_summary

SMALL = replace(RECIPE, epochs=1, batch_size=16, lines=64, channels=8, bfloat16=False)


def a_line(**changes: float) -> Tensor:
    """The description (1×18) of a white line on black without blur or noise, but for `changes`."""
    values = dict.fromkeys(COLUMNS, 0.0) | {
        "x0": 20, "y0": 64, "x1": 100, "y1": 64, "thickness": 4, "blur": 0.01, "opacity": 1,
        "ink": 1, **changes,
    }  # fmt: skip
    length = math.hypot(values["x1"] - values["x0"], values["y1"] - values["y0"])
    values = {**values, "dash": changes.get("dash", length),
              "period": changes.get("period", length)}  # fmt: skip
    return torch.tensor([[values[name] for name in COLUMNS]])


# The pictures


def test_a_line_is_drawn_between_its_ends() -> None:
    """A bar of 80×5 pixels, without blur: covered pixels are white, all others black."""
    (picture,) = draw(a_line(x0=19.5, x1=99.5, thickness=5))[:, 0]
    expected = torch.zeros(SIZE, SIZE)
    expected[62:67, 20:100] = 1
    assert torch.allclose(picture, expected)


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 137])
def test_a_blurred_line_is_a_bar_that_was_blurred(degrees: float) -> None:
    """Against a bar painted on a grid of 8×8 times as many points, and SciPy's Gaussian filter."""
    angle, fine = math.radians(degrees), 8
    x1, y1 = 64 + 40 * math.cos(angle), 64 + 40 * math.sin(angle)
    (picture,) = draw(a_line(x0=64, y0=64, x1=x1, y1=y1, thickness=3, blur=1.2))[:, 0]
    places = (np.arange(fine * SIZE) + 0.5) / fine - 0.5 - 64
    x, y = places[None, :], places[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    bar = ((along >= 0) & (along <= 40) & (np.abs(across) <= 1.5)).astype(np.float64)
    blurred = ndimage.gaussian_filter(bar, 1.2 * fine)
    at_centres = blurred.reshape(SIZE, fine, SIZE, fine)[:, 3:5, :, 3:5].mean((1, 3))
    assert np.abs(picture.numpy() - at_centres).max() < 0.02


def test_dashes_begin_and_end_with_a_dash() -> None:
    (row,) = draw(a_line(x0=19.5, x1=99.5, thickness=5, dash=8, period=18))[:, 0, 64]
    expected = torch.zeros(SIZE)
    for start in range(20, 100, 18):
        expected[start : start + 8] = 1
    assert torch.allclose(row, expected)
    descriptions = describe(2000, seed=3)
    columns = dict(zip(COLUMNS, descriptions.unbind(1), strict=True))
    length = (descriptions[:, 2:4] - descriptions[:, :2]).norm(dim=1)
    gaps = (length - columns["dash"]) / columns["period"]
    assert torch.allclose(gaps, gaps.round(), atol=1e-3), "a whole number of gaps"
    dashed = gaps.round() > 0
    assert 0.25 < dashed.double().mean() < 0.35
    assert (columns["period"] - columns["dash"])[dashed].min() > 1, "a gap can be seen"


def test_descriptions_are_within_their_limits_and_repeat_with_their_seed() -> None:
    descriptions = describe(3000, seed=5)
    assert torch.equal(descriptions, describe(3000, seed=5))
    assert not torch.equal(descriptions, describe(3000, seed=6))
    columns = dict(zip(COLUMNS, descriptions.unbind(1), strict=True))
    ends = descriptions[:, :4]
    assert 0 <= ends.min() <= ends.max() <= SIZE - 1
    assert torch.equal(left_first(ends), ends)
    assert (ends[:, 2:] - ends[:, :2]).norm(dim=1).min() >= line_pictures.SHORTEST
    for name, limits in (("thickness", line_pictures.THICKNESS), ("blur", line_pictures.BLUR),
                         ("noise", line_pictures.NOISE), ("grey", line_pictures.GREY)):  # fmt: skip
        low, high = columns[name].min().item(), columns[name].max().item()
        assert limits[0] <= low < high <= limits[1]
        assert high - low > 0.98 * (limits[1] - limits[0]), "all of it is used"
    assert 0.4 < columns["ink"].mean() < 0.6, "light and dark lines"
    contrast = columns["opacity"] * (columns["ink"] - columns["grey"]).abs()
    assert contrast.min() > 0.2, "against the middle grey"


def test_pictures_that_are_scored_stay_and_those_to_train_on_have_new_noise() -> None:
    held_out, unseen = line_pictures.held_out_lines(8), line_pictures.unseen_lines(8)
    assert torch.equal(held_out.inputs, line_pictures.held_out_lines(8).inputs)
    assert torch.equal(held_out.inputs[:4], line_pictures.held_out_lines(200).inputs[:4])
    assert held_out.inputs.dtype == torch.uint8
    pictures, _ = held_out[0]
    assert 0 <= pictures.min() < pictures.max() <= 1
    training = line_pictures.training_lines(8, seed=0)
    one, other = training.__getitems__([0, 1]), training.__getitems__([0, 1])
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert (one[0] - other[0]).abs().mean() < 0.06, "only the noise differs"
    sets = [held_out.targets, unseen.targets, training.targets]
    assert len({tuple(row) for ends in sets for row in ends.tolist()}) == 24, "no line is in two"


def test_the_limit_keeps_the_first_lines() -> None:
    assert len(line_pictures.unseen_lines(5)) == 5
    assert torch.equal(line_pictures.describe_test_lines()[:5, :4],
                       line_pictures.unseen_lines(5).targets)  # fmt: skip


# Scores and answers


def test_distances_are_those_of_the_better_order() -> None:
    found, ends = 128 * torch.rand(2, 300, 4, generator=torch.Generator().manual_seed(0))
    for mine, one, other in zip(distances(found, ends), found, ends, strict=True):
        costs = (one.view(2, 1, 2) - other.view(1, 2, 2)).norm(dim=2)
        best = min(max(costs[0, 0], costs[1, 1]), max(costs[0, 1], costs[1, 0]))
        assert mine.max() == pytest.approx(best.item())


def test_share_within_by_hand() -> None:
    ends = torch.tensor([[10.0, 10, 20, 20]] * 4)
    found = torch.tensor([[10.0, 12, 20, 20], [10, 12.1, 20, 20], [20, 21, 11, 10], [10, 10, 0, 0]])
    assert share_within(found, ends, 2) == 2 / 4
    assert share_within(found, ends, 3) == 3 / 4
    assert share_within(torch.full((4, 4), torch.nan), ends, 3) == 0


def hills(ends: Tensor, size: int = SIZE) -> Tensor:
    """Scores (N×1×S×S) with a Gaussian hill at each end (N×4)."""
    places = torch.arange(size, dtype=torch.float32)
    scores = torch.full((len(ends), size, size), -40.0)
    for x, y in (ends[:, :2].unbind(1), ends[:, 2:].unbind(1)):
        square = (places - x[:, None, None]) ** 2 + (places[:, None] - y[:, None, None]) ** 2
        scores = torch.maximum(scores, 10 - square / 2)
    return scores[:, None]


def test_the_read_out_finds_fractions_of_a_pixel_also_at_the_border() -> None:
    ends = left_first(describe(200, seed=1)[:, :4])
    found, sure, rival = read_out(hills(ends))
    inside = ((ends > 3) & (ends < SIZE - 4)).all(1)
    assert (found - ends)[inside].abs().max() < 0.05
    assert (found - ends).abs().max() < 0.9, "a hill cut off by the border leans inwards"
    assert sure.min() > 0.99
    assert rival.max() < 1e-6
    _, unsure, _ = read_out(torch.zeros(1, 1, SIZE, SIZE))
    assert unsure.item() == pytest.approx(65 / SIZE**2, abs=0.01), "two windows of all pixels"


def test_the_read_out_takes_two_maxima_apart_from_each_other() -> None:
    """The second highest pixel stands beside the highest: it is the same end."""
    scores = torch.zeros(1, 1, 64, 64)
    scores[0, 0, 10, 50], scores[0, 0, 10, 51], scores[0, 0, 30, 12] = 60, 59, 40
    found, _, rival = read_out(scores)
    assert found[0, :2].tolist() == pytest.approx([12, 30], abs=1e-3)
    assert found[0, 2:].tolist() == pytest.approx([50.269, 10], abs=1e-3)
    assert rival.item() == pytest.approx(math.exp(-60))
    scores[0, 0, 50, 50] = 39
    _, _, rival = read_out(scores)
    assert rival.item() == pytest.approx(math.exp(39 - 60)), "a third place"


def test_the_loss_is_cross_entropy_with_two_hills() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 1, SIZE, SIZE, generator=generator)
    ends = describe(3, seed=2)[:, :4]
    recipe = Recipe(each_pixel=True, spread=1.5)
    places = torch.arange(SIZE)
    target = torch.zeros(3, SIZE, SIZE)
    for row, points in zip(target, ends.view(3, 2, 2), strict=True):
        for x, y in points:
            hill = (-((places - x) ** 2 + (places[:, None] - y) ** 2) / (2 * 1.5**2)).exp()
            row += hill / hill.sum() / 2
    expected = cross_entropy(scores.flatten(1), target.flatten(1))
    assert loss_of(recipe, scores, ends).item() == pytest.approx(expected.item(), rel=1e-5)
    sharp = loss_of(replace(recipe, spread=0.01), scores, ends.round())
    assert sharp.item() == pytest.approx(
        loss_of(replace(recipe, spread=0.0), scores, ends).item(), rel=1e-5
    )


def test_the_loss_of_four_numbers_is_the_document_s() -> None:
    outputs, ends = torch.zeros(2, 4), torch.full((2, 4), 64.0)
    assert loss_of(Recipe(), outputs, ends) == 8 * 0.25


def test_otsu_finds_clean_lines_whatever_their_colour() -> None:
    clean = make_lines(50, SIZE, seed=0)
    for pictures in (255 * clean.images, 255 - 100 * clean.images):
        assert torch.equal(as_clean(pictures), clean.images)
    assert as_clean(torch.full((1, 1, 16, 16), 7, dtype=torch.uint8)).any(), "one grey"


def test_the_rule_fails_on_the_camera_s_pictures() -> None:
    held_out = line_pictures.held_out_lines(200)
    found = outermost_pixels(as_clean(held_out.inputs))
    assert share_within(found, held_out.targets, 2) < 0.3


# The ladder and the network


def test_every_step_changes_something() -> None:
    assert list(climb(Recipe(), STEPS).values())[-1] == RECIPE
    for recipe in without_each(Recipe(), STEPS).values():
        outputs = EndFinder(recipe)(torch.rand(2, 1, SIZE, SIZE))
        pixels = recipe.each_pixel
        assert outputs.shape == ((2, 1, SIZE, SIZE) if pixels else (2, 4))
        assert loss_of(recipe, outputs, torch.full((2, 4), 50.0)).isfinite()


def test_the_foot_of_the_ladder_is_the_document_s_network() -> None:
    torch.manual_seed(0)
    foot = EndFinder(Recipe())
    torch.manual_seed(0)
    document = LineNetwork(SIZE, Experiment())
    pictures = torch.rand(2, 1, SIZE, SIZE)
    assert torch.equal(foot(pictures), document(pictures))
    assert count_parameters(EndFinder(replace(RECIPE, wide_view=False))) == 89


def test_the_wide_view_is_as_wide_as_a_gap_and_more() -> None:
    """A pixel's score depends on pixels 40 away, and the network takes any sides of 16."""
    torch.manual_seed(0)
    network = EndFinder(replace(RECIPE, normalised=False)).eval()
    picture = torch.rand(1, 1, SIZE, SIZE, requires_grad=True)
    network(picture)[0, 0, 64, 64].backward()
    gradient = picture.grad
    assert gradient is not None
    seen = gradient[0, 0].abs() > 0
    assert seen[64, 64 - 40] or seen[64, 64 - 44]
    assert seen[64].sum() > 80
    assert network(torch.rand(1, 1, 48, 96)).shape == (1, 1, 48, 96)


def test_normalised_pictures_do_not_depend_on_brightness_and_contrast() -> None:
    torch.manual_seed(0)
    network = EndFinder(RECIPE).eval()
    picture = torch.rand(1, 1, SIZE, SIZE)
    assert torch.allclose(network(picture), network(0.3 + 0.5 * picture), atol=1e-4)
    assert network(torch.full((1, 1, SIZE, SIZE), 0.4)).isfinite().all(), "a blank one"


def test_a_little_training_points_to_the_ends(tmp_path: Path) -> None:
    """Beyond chance (two places of 128×128), and again the same with the same seed."""
    recipe = replace(SMALL, lines=480, batch_size=24, lr=0.02)
    with make_run(tmp_path / "a") as run:
        network = train(run, recipe)
    held_out = line_pictures.held_out_lines(40)
    found = find_ends(network, recipe, held_out, torch.float32)
    assert not found.equal(find_ends(network, recipe, held_out, torch.bfloat16)), "of --precision"
    away = distances(found, held_out.targets)
    assert away.median() < 25, "guessing has about 55"
    with make_run(tmp_path / "b") as again:
        same = train(again, recipe)
    assert run.history[0]["train_loss"] == again.history[0]["train_loss"]
    assert all(map(torch.equal, network.parameters(), same.parameters()))


# The chapter


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of seconds."""
    monkeypatch.setattr(lines, "RECIPE", SMALL)
    monkeypatch.setattr(line_pictures, "END_UPDATES", 2)


@pytest.mark.usefixtures("small")
def test_the_chapter_trains_and_scores_once(tmp_path: Path, call: Call) -> None:
    pytest.importorskip("safetensors")
    options = ("--limit", 48, "--out-dir", tmp_path / "run", "--seeds", "0,1")
    code, out, err = call(main, *options)
    assert (code, err) == (0, "")
    measured = numbers(tmp_path / "run")
    assert {"test_score", "seconds_of_training", "clean_within_2", "cleaned_within_2",
            "rule_within_2", "recipe_within_1", "parameters"} <= set(measured)  # fmt: skip
    assert 0 <= measured["test_score"] <= 1
    assert measured["test_score"] == measured["recipe_within_2"]
    ids = [claim["id"] for claim in read_summary(tmp_path / "run")["claims"]]
    assert ids == [f"lines.{number}" for number in range(1, 6)]
    assert {claim["verdict"] for claim in read_summary(tmp_path / "run")["claims"]} == {"not run"}
    for name in ("lines.png", "mistakes.png", "distances.png"):
        assert (tmp_path / "run" / name).stat().st_size > 2000
    assert (tmp_path / "run" / "seed1" / "model.safetensors").exists()
    assert "outermost pixels, Otsu" in out


@pytest.mark.usefixtures("small", "unpainted")
def test_choosing_draws_no_test_line(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_pictures, "unseen_lines", None)
    code, out, err = call(main, "--validate", "--limit", 32, "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert "of the lines held out" in out
    row = read_rows(tmp_path / "metrics.csv")[-1]
    assert 0 <= row["val_accuracy"] <= 1
    assert read_summary(tmp_path)["claims"] == []


class Bright(nn.Module):
    """Scores the brightest pixels: enough for pictures of two dots."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(40.0))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.factor * pictures


@pytest.mark.parametrize("sides", [(60, 90), (400, 100), (1200, 900)])
def test_ends_come_back_in_pixels_of_the_picture(sides: tuple[int, int]) -> None:
    """Two bright spots, in a picture of any shape; in the end in its own pixels."""
    height, width = sides
    colours = np.zeros((height, width, 3))
    spot = max(sides) // 40
    expected = torch.tensor([[0.2 * width, 0.7 * height], [0.8 * width, 0.3 * height]])
    for x, y in expected.round().int().tolist():
        colours[y - spot : y + spot + 1, x - spot : x + spot + 1] = 1
    ends, sure, _ = line_pictures.look(Bright(), colours)
    assert (ends - expected).abs().max() < 0.02 * max(sides)
    assert 0.2 < sure <= 1


def test_a_line_of_another_colour_is_seen_in_one_of_the_views() -> None:
    """Red on green of the same brightness: nothing to see in the first view, much in another."""
    colours = np.tile([0.0, 0.299 / 0.587, 0.0], (64, 64, 1))
    colours[30:33, 10:50] = [1.0, 0.0, 0.0]
    brightness, red, _ = views(colours)[:, 0]
    assert brightness.max() - brightness.min() < 0.01
    assert red.max() - red.min() > 0.6
    assert views(np.zeros((31, 100, 3))).shape == (3, 1, 32, 128)


def test_own_pictures(tmp_path: Path, call: Call) -> None:
    """One bad file is named and the others are read; untrained weights give some answer."""
    pytest.importorskip("safetensors")
    with make_run(tmp_path / "trained") as run:
        save_weights(run, EndFinder(RECIPE))
    weights = tmp_path / "trained" / "model.safetensors"
    image = 255 - 255 * draw_lines(torch.tensor([[10, 20, 90, 70]]), 100)[0, 0]
    Image.fromarray(image.numpy()).save(tmp_path / "line.png")
    (tmp_path / "bad.png").write_text("no picture")
    files = (tmp_path / "line.png", tmp_path / "bad.png")
    code, out, err = call(main, "--predict", *files, "--weights", weights,
                          "--out-dir", tmp_path / "seen")  # fmt: skip
    assert (code, err) == (0, "")
    assert "bad.png is not an image" in " ".join(out.split())
    assert (tmp_path / "seen" / "seen.png").exists()
    assert 0 <= numbers(tmp_path / "seen")["sure_1"] <= 1
    load_weights(weights, EndFinder(RECIPE))


def test_two_lines_in_a_picture_are_said(tmp_path: Path, call: Call) -> None:
    """With the weights that come with the project; one line comes without that warning."""
    pytest.importorskip("safetensors")
    one, two = np.full((2, 200, 300, 3), 255, np.uint8)
    one[60:65, 40:250] = two[60:65, 40:250] = two[140:145, 40:250] = 0
    Image.fromarray(one).save(tmp_path / "one.png")
    Image.fromarray(two).save(tmp_path / "two.png")
    code, out, err = call(main, "--predict", tmp_path / "one.png", tmp_path / "two.png",
                          "--out-dir", tmp_path / "seen")  # fmt: skip
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "More than one line? A third place looks like an end too: two.png." in said


def test_names_that_are_hard_to_draw_and_many_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A formula, bytes that are no text, a terminal's colours, the end of a line."""
    monkeypatch.setattr(report, "DRAWN", 4)
    names = ["$\\frac{1}{$.png", "\udce4.png", "\x1b[31mred\nnew.png", "a$b$c.png", "last.png"]
    picture = np.zeros((20, 20, 3), np.uint8)
    answers = [report.Answer(name, picture, torch.ones(2, 2), 0.9, 1.0) for name in names]
    with make_run(tmp_path) as run:
        ending = report.own_pictures(run, answers)
    assert "the first 4 of your pictures" in ending
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "?[31mred?new.png" in said


def test_what_cannot_work_ends_in_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "choose" in refused(main, "--precision", "fp64")
    assert "--ladder" in refused(main, "--ladder", "--validate")
    assert "cannot be read" in refused(main, "--predict", "x.png", "--weights", "none.safetensors")
