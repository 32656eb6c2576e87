"""The recipe for clothes: its ladder, its network and augmentation, the chapter from end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import fashion_cnn
from common.augment import random_flip
from common.cli import PROJECT
from common.data import CLOTHES, LabelledImages, load_images
from common.layers import count_parameters
from common.own_images import ClassImages
from common.rows import Row, read_rows
from common.runs import Run
from recipes import fashion
from recipes.fashion import INSTEAD, RECIPE, STEPS, ClothesNet, Recipe, main, train, varied
from recipes.ladder import Steps, climb, without_each
from recipes.sprint import RACES
from recipes.training import load_weights, save_weights
from tests.helpers import Call, make_run, numbers, read_summary

DATA = PROJECT / "data"
SMALL = replace(  # all steps, in a few seconds
    RECIPE, epochs=2, batch_size=50, channels=(8, 12), residual_blocks=(0, 1), averaging=0.8,
    bfloat16=False,
)


@pytest.fixture(scope="module")
def clothes() -> LabelledImages:
    return load_images("FashionMNIST", "train", DATA, 600)


def test_every_step_changes_something() -> None:
    assert list(climb(Recipe(), STEPS).values())[-1] == RECIPE
    assert len(set(climb(Recipe(), STEPS).values())) == len(STEPS) + 1
    lacking = without_each(Recipe(), STEPS, INSTEAD)
    for recipe in lacking.values():
        ClothesNet(recipe)
    assert not lacking["without flips"].mirrored_looks, "it has never seen a mirror image"
    updates = RECIPE.epochs * (1 - RECIPE.easy * RECIPE.skipped)
    for step in ("shuffled", "easy skipped"):
        assert lacking[f"without {step}"].epochs == round(updates), "as many updates, none skipped"


def test_the_recipe_has_a_million_parameters_at_most() -> None:
    assert count_parameters(ClothesNet(RECIPE)) <= 1_000_000


def test_the_ladder_s_foot_is_the_document_s_network_and_training(
    clothes: LabelledImages, tmp_path: Path
) -> None:
    """The same weights at the start, and after a training the same to the last bit."""
    ours = make_run(tmp_path / "ours", seed=3)
    network = train(ours, replace(Recipe(), epochs=1), clothes.first(300))
    theirs = make_run(tmp_path / "theirs", seed=3)
    theirs.options.__dict__ |= {"lr": 0.1, "batch_size": 100, "shuffle": False}
    shown = ClassImages(clothes.first(300), clothes.first(10), CLOTHES)
    experiment = fashion_cnn.Experiment()
    document = fashion_cnn.train(theirs, theirs.options, experiment, shown, epochs=1)
    assert ours.history[0]["train_loss"] == theirs.history[0]["train_loss"]
    for one, other in zip(network.parameters(), document.parameters(), strict=True):
        assert torch.equal(one, other)
    options = fashion_cnn.parse([])
    foot = Recipe()
    assert (foot.epochs, foot.batch_size, foot.lr) == (
        options.epochs, options.batch_size, options.lr)  # fmt: skip


def test_the_network_by_hand() -> None:
    """Four 3×3 convolutions; norms with a weight and a bias a channel; one linear layer."""
    recipe = replace(RECIPE, channels=(64, 128), residual_blocks=(0, 1))
    convolutions = (9 * 64 + 64) + (9 * 64 * 128 + 128) + 2 * (9 * 128 * 128 + 128)
    norms = 2 * (64 + 3 * 128)
    assert count_parameters(ClothesNet(recipe)) == convolutions + norms + 128 * 49 * 10 + 10
    three_stages = replace(RECIPE, channels=(8, 16, 24), residual_blocks=(1, 0, 2))
    assert ClothesNet(three_stages)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_residual_block_adds() -> None:
    network = ClothesNet(SMALL).eval()
    block = list(network.stages)[2]
    hidden = torch.rand(2, 12, 7, 7)
    for parameter in list(block.parameters())[-2:]:  # of the second convolution's norm
        torch.nn.init.zeros_(parameter)
    assert torch.equal(block(hidden), hidden), "nothing is added"


@pytest.mark.parametrize(("data_set", "recipe"), [
    ("FashionMNIST", RECIPE),
    *((race.dataset, race.recipe) for race in RACES.values() if race.recipe.normalised),
])  # fmt: skip
def test_pixels_are_normalised_with_the_training_images_mean(
    data_set: str, recipe: Recipe
) -> None:
    """The recipe's, and those of sprint's races that normalise."""
    images = load_images(data_set, "train", DATA).images.float() / 255
    mean, deviation = recipe.pixels
    assert images.mean().item() == pytest.approx(mean, abs=5e-4)
    assert images.std().item() == pytest.approx(deviation, abs=5e-4)
    seen: list[Tensor] = []
    network = ClothesNet(recipe).eval()
    network.stages.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 1, 28, 28), mean + deviation))
    assert torch.allclose(seen[0], torch.ones(1))


def test_an_image_and_its_mirror_image_get_one_answer_only_after_training() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 28, 28)
    for mirrored in (True, False):
        network = ClothesNet(replace(SMALL, mirrored_looks=mirrored, batch_norm=False))
        for training in (True, False):
            network.train(training)
            same = torch.allclose(network(images), network(images.flip(3)), atol=1e-6)
            assert same == (mirrored and not training)


def test_the_answer_is_the_mean_of_all_looks() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 28, 28)
    one = replace(SMALL, mirrored_looks=False, moved_looks=False)
    network = ClothesNet(one).eval()
    alone = network(images)
    assert torch.equal(alone, network.look(images))
    network.recipe = replace(one, mirrored_looks=True)
    mirrored = network.look(images.flip(3))
    assert torch.allclose(network(images), (alone + mirrored) / 2, atol=1e-6)
    network.recipe = replace(one, moved_looks=True)
    moved = [alone]
    for shift, dimension in ((1, 3), (-1, 3), (1, 2), (-1, 2)):
        copy = images.roll(shift, dimension)
        copy.select(dimension, 0 if shift > 0 else -1).zero_()
        moved.append(network.look(copy))
    assert torch.allclose(network(images), torch.stack(moved).mean(0), atol=1e-6)


def test_cells_are_channels_of_half_the_side() -> None:
    network = ClothesNet(replace(SMALL, cells=True)).eval()
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    cells = network.stages[0](image)
    assert cells[0, :, 0, 0].tolist() == [0, 1, 4, 5], "the upper left cell, row by row"


def test_images_are_varied_only_as_the_recipe_says(clothes: LabelledImages) -> None:
    images = clothes.images[:200]
    assert torch.equal(varied(Recipe(), images), images.float() / 255)
    torch.manual_seed(1)
    flipped = varied(replace(Recipe(), flips=True), images)
    by_hand = random_flip(images, torch.Generator().manual_seed(1)).float() / 255
    assert torch.equal(flipped, by_hand)
    moved = varied(replace(Recipe(), crop=2), images)
    assert 0.85 < (moved != images / 255).flatten(1).any(1).float().mean() < 1, "24 of 25 places"


def test_the_learning_rate_rises_and_falls_and_the_weights_are_averaged(
    clothes: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    weights: list[Tensor] = []
    step = torch.optim.SGD.step

    def note(optimizer: torch.optim.SGD) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        step(optimizer)
        weights.append(optimizer.param_groups[0]["params"][0].detach().clone())

    monkeypatch.setattr(torch.optim.SGD, "step", note)
    recipe = replace(SMALL, epochs=4, lr=0.2, warm_up=0.25, skipped=0.0)
    network = train(make_run(tmp_path), recipe, clothes.first(150))
    assert len(rates) == 12
    assert rates.index(max(rates)) in (2, 3)
    assert max(rates) == pytest.approx(0.2, rel=0.01)
    assert rates[0] < 0.02 > rates[-1]
    mean = weights[0]  # 0.8 of it stay at each step, at first less
    for step, one in enumerate(weights[1:], 1):
        kept = min(0.8, (1 + step) / (10 + step))
        mean = kept * mean + (1 - kept) * one
    assert torch.allclose(network.state_dict()["classify.weight"], mean, atol=1e-6)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The chapter's recipe, made small."""
    monkeypatch.setattr(fashion, "RECIPE", SMALL)
    return SMALL


def test_the_chapter_trains_and_scores_the_test_images_once(
    small: Recipe, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    def note(name: str, split: str, *rest: object) -> LabelledImages:
        read.append(split)
        return load_images(name, split, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fashion, "load_images", note)
    options = ("--limit", 600, "--seeds", "3,5", "--out-dir", tmp_path)
    code, out, err = call(main, *options)
    assert (code, err) == (0, "")
    assert read == ["train", "test"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"seed3", "seed5"}
    rows = read_rows(tmp_path / "seed5" / "metrics.csv")
    assert len(rows) == 2
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert "val_accuracy" not in rows[0]
    summary = read_summary(tmp_path)
    assert [one["verdict"] for one in summary["claims"]] == [*["not run"] * 3, "reproduced"]
    found = summary["metrics"]
    assert found["test_score"] > 0.2, "chance is 0.1"
    assert found["parameters"] == count_parameters(ClothesNet(SMALL))
    assert "Open misclassified.png" in " ".join(out.split())

    # What is shipped answers as the network did: its weights alone, from the file.
    network = ClothesNet(SMALL)
    load_weights(tmp_path / "seed3" / "model.safetensors", network)
    test = load_images("FashionMNIST", "test", DATA, 600)
    right = (network.eval()(test.images / 255).argmax(1) == test.labels).float().mean().item()
    lines = [line.split()[:2] for line in out.splitlines()]  # the third column: seconds
    assert ["3", f"{100 * right:.2f}"] in lines

    monkeypatch.setattr(fashion, "train_one_epoch", None)  # nothing is trained a second time
    code, _, err = call(main, *options, "--resume")
    assert (code, err) == (0, "")
    assert numbers(tmp_path) == {name: found[name] for name in numbers(tmp_path)}


def test_an_interrupted_training_ends_as_one_that_was_not(
    clothes: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order, what is easy, moves, momentum, schedule and mean weights continue where they were."""
    monkeypatch.setattr("common.epochs.CHECKPOINT_SECONDS", 0.0)
    # Of four epochs the last skips at random; the third, the first resumed one, by the losses.
    recipe = replace(SMALL, epochs=4, batch_norm=True)
    whole = train(make_run(tmp_path / "whole"), recipe, clothes.first(150))
    epochs = Run.epochs

    class Interrupted(Exception):
        pass

    def stop_after_two(run: Run, *arguments: object, **named: object) -> object:
        for epoch in epochs(run, *arguments, **named):  # type: ignore[arg-type]
            if epoch.number == 3:
                raise Interrupted
            yield epoch

    monkeypatch.setattr(Run, "epochs", stop_after_two)
    with make_run(tmp_path / "parts") as run, pytest.raises(Interrupted):
        train(run, recipe, clothes.first(150))
    monkeypatch.undo()
    resumed = train(make_run(tmp_path / "parts", resume=True), recipe, clothes.first(150))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_own_photographs(
    small: Recipe, clothes: LabelledImages, tmp_path: Path, call: Call
) -> None:
    """Untrained weights give some answer; a file of weights that is none is refused."""
    with make_run(tmp_path / "trained") as run:
        save_weights(run, ClothesNet(small))
    Image.fromarray(255 - clothes.images[0, 0].numpy()).save(tmp_path / "shoe.png")
    weights = tmp_path / "trained" / "model.safetensors"
    options = ("--predict", tmp_path / "shoe.png", "--out-dir", tmp_path / "seen", "--weights")
    code, _, err = call(main, *options, weights)
    assert (code, err) == (0, "")
    assert 0 <= read_summary(tmp_path / "seen")["metrics"]["prediction_1"] <= 9
    weights.write_bytes(weights.read_bytes()[:500])
    code, _, err = call(main, *options, weights)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("unpainted")
def test_choosing_reads_no_test_image(
    small: Recipe, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion.parts.cache_clear()
    monkeypatch.setattr(fashion, "score_once", None)
    code, out, err = call(
        main, "--validate", "--limit", 300, "--epochs", 1, "--seeds", 4, "--out-dir", tmp_path
    )
    assert (code, err) == (0, "")
    row = read_rows(tmp_path / "metrics.csv")[0]
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= set(row)
    summary = read_summary(tmp_path)
    assert (summary["seed"], summary["claims"]) == (4, [])
    assert summary["metrics"]["val_accuracy"] == row["val_accuracy"]
    assert (tmp_path / "loss_and_accuracy.png").exists()
    assert not (tmp_path / "model.safetensors").exists()
    assert "of the images held out are classified correctly" in " ".join(out.split())


@pytest.mark.usefixtures("unpainted")
def test_the_ladder_trains_each_step_and_without_each(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chapter's side of it; `test_ladder.py` trains (in workers: `test_kills.py`)."""
    def stand_in(
        run: Run, options: object, train_one: Callable[..., None], base: Recipe, *steps: Steps
    ) -> dict[str, dict[int, Sequence[Row]]]:
        assert (train_one, base, *steps) == (fashion.train_one, Recipe(), STEPS, INSTEAD)
        row = {"epoch": 1, "seconds": 2.0, "val_accuracy": 0.9}
        return {name: {0: [row]} for name in climb(base, steps[0]) | without_each(base, *steps)}

    monkeypatch.setattr("recipes.ladder.run_ladder", stand_in)
    code, out, err = call(main, "--ladder", "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert (tmp_path / "ladder.png").exists()
    assert "What the document states" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ladder", "--validate"), "no --validate"),
        (("--ladder", "--lr", "0.3"), "no --batch-size, no --lr"),
        (("--jobs", "0"), "'0' is not a whole number"),
        (("--ladr",), "did you mean --ladder?"),
        (("--epochs", "0"), "'0' is not a whole number"),
    ],
)
def test_a_value_that_cannot_work_ends_in_one_line(
    arguments: tuple[str, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)


@pytest.mark.full
def test_the_whole_recipe(tmp_path: Path, call: Call) -> None:
    """A first floor, before five seeds are measured."""
    code, _, _ = call(main, "--out-dir", tmp_path)
    assert code == 0
    assert numbers(tmp_path)["test_score"] > 0.94
