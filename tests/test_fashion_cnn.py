"""Document 3: its arithmetic, the network, the chapter from end to end, wrong options."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from common.claims import judge
from common.cli import PROJECT
from common.data import CLOTHES, LabelledImages, load_images
from common.garments import read_garment
from common.layers import count_parameters, count_views, measured_sides
from fashion_cnn import (
    EXPERIMENTS,
    ClothesCNN,
    Experiment,
    block,
    folder_name,
    load_network,
    look_inside,
    main,
    parse,
    sides_by_formula,
)
from reports.classification import confused_pairs
from reports.fashion_cnn import CLAIMS, place, ratio_to_mean
from reports.fashion_cnn_compare import comparison, epochs_to_reach
from reports.fashion_cnn_layers import edge_mean, mosaic, padding
from tests.drawings import photographed
from tests.helpers import Call, make_run, numbers, read_summary, run_script

SMALL = ("--limit", 600, "--epochs", 2)
FIGURES = {
    "classes", "padding", "loss_and_accuracy", "kernels", "feature_maps", "misclassified",
    "confusion_matrix",
}  # fmt: skip


def test_parameters_by_hand() -> None:
    plain = (16 * 25 + 16) + (32 * 16 * 25 + 32) + (1568 * 10 + 10)
    small = (16 * 9 + 16) + (32 * 16 * 9 + 32) + (1568 * 10 + 10)
    norms = 2 * (16 + 32 + 10)
    unpadded = plain - 10 * 32 * (7 * 7 - 4 * 4)
    small_unpadded = small - 10 * 32 * (7 * 7 - 5 * 5)
    counts = [count_parameters(ClothesCNN(experiment)) for experiment in EXPERIMENTS.values()]
    assert counts == [plain, small, plain + norms, small + norms, unpadded, small_unpadded]


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_the_formulas_give_the_real_sizes(experiment: Experiment) -> None:
    """28→28→14→14→7, and 32·7·7 = 1568 numbers into the last layer; less without padding."""
    sides = [28, 14, 14, 7]
    if not experiment.padded:
        sides = {5: [24, 12, 8, 4], 3: [26, 13, 11, 5]}[experiment.kernel_size]
    model = ClothesCNN(experiment)
    assert sides_by_formula(experiment) == sides
    assert measured_sides([model.block1, model.block2]) == sides
    assert model.classify.in_features == 32 * sides[-1] ** 2
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_a_wrong_formula_would_be_noticed() -> None:
    model = ClothesCNN(Experiment())
    model.block1[0] = nn.Conv2d(1, 16, 5, padding=2, stride=2)
    assert measured_sides([model.block1, model.block2]) != sides_by_formula(Experiment())


def views_of(experiment: Experiment) -> tuple[Tensor, Tensor]:
    return count_views(block(1, 1, experiment), block(1, 1, experiment))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("padded", "starts"), [(True, range(-2, 26)), (False, range(24))])
def test_views_counted_by_hand(padded: bool, starts: range, batch_norm: bool) -> None:
    """Along one side a 5×5 window sees five pixels; the last layer's windows see 16, 4 apart."""
    first, last = views_of(Experiment(padded=padded, batch_norm=batch_norm))

    def seen(starts: range, length: int) -> Tensor:
        windows = [[start <= pixel < start + length for pixel in range(28)] for start in starts]
        along_a_side = torch.tensor(windows).sum(0)
        return along_a_side[:, None] * along_a_side

    assert torch.equal(first, seen(starts, 5))
    assert torch.equal(last, seen(range(-6, 22, 4) if padded else range(0, 16, 4), 16))


def test_padding_that_did_nothing_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.fashion_cnn_layers.padding_figure", lambda *_: None)
    padded, unpadded = views_of(Experiment()), views_of(Experiment(padded=False))
    assert edge_mean(padded[0]) == (4 * 9 + 8 * 12 + 4 * 24 * 15) / 108
    assert edge_mean(unpadded[0]) == (4 * 1 + 8 * (2 + 3 + 4) + 4 * 20 * 5) / 108
    (claim,) = [claim for claim in CLAIMS if claim.id == "3.1d"]
    for views, holds in (([padded, unpadded], True), ([unpadded, unpadded], False)):
        with make_run(tmp_path / str(holds)) as run:
            padding(run, views)
        ratio = run.metrics[claim.metric]
        assert isinstance(ratio, float)
        assert claim.bound.holds(ratio) == holds
    assert ratio == 1


def test_maps_side_by_side() -> None:
    whole = mosaic(torch.arange(12.0).view(3, 2, 2), columns=2)
    nan = math.nan
    expected = [[0, 1, nan, 4, 5], [2, 3, nan, 6, 7], [nan] * 5,
                [8, 9, nan, nan, nan], [10, 11, nan, nan, nan]]  # fmt: skip
    assert torch.equal(whole.nan_to_num(-1), torch.tensor(expected).nan_to_num(-1))


def test_a_pair_against_the_mean_of_all() -> None:
    """Of three pairs the mistakes are 4 + 1, 1 and 0: two on average."""
    pairs = confused_pairs(torch.tensor([[9, 4, 1], [1, 9, 0], [0, 0, 9]]))
    assert (place(pairs, 1, 0), place(pairs, 2, 0), place(pairs, 1, 2)) == (1, 2, 3)
    ratios = [ratio_to_mean(pairs, *pair) for pair in ((0, 1), (0, 2), (2, 1))]
    assert ratios == [2.5, 0.5, 0]
    assert math.isnan(ratio_to_mean(confused_pairs(torch.eye(3).long()), 0, 1))


def test_relu_after_pooling_computes_what_the_document_s_order_computes() -> None:
    torch.manual_seed(0)
    model = ClothesCNN(Experiment()).double()
    images = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    labels = torch.arange(8)

    def in_the_document_s_order(images: Tensor) -> Tensor:
        hidden = images
        for convolution, _, pool, relu in (model.block1, model.block2):
            hidden = pool(relu(convolution(hidden)))
        logits: Tensor = model.classify(hidden.flatten(1))
        return logits

    gradients = []
    for forward in (model, in_the_document_s_order):
        loss = nn.functional.cross_entropy(forward(images), labels)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    assert torch.equal(model(images), in_the_document_s_order(images))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_epochs_to_reach_a_goal() -> None:
    history = [
        {"epoch": epoch, "val_accuracy": share} for epoch, share in enumerate((0.5, 0.7, 0.6), 1)
    ]
    assert [epochs_to_reach(goal, history) for goal in (0.4, 0.6, 0.7, 0.71)] == [1, 2, 2, 4]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs; tests work on copies."""
    return run_script(tmp_path_factory.mktemp("fashion"), "fashion_cnn.py", *SMALL)[1]


def test_the_chapter_leaves_a_complete_run(finished: Path) -> None:
    assert {path.stem for path in finished.glob("*.png")} == FIGURES
    summary = read_summary(finished)
    assert (summary["script"], summary["document"], summary["seed"]) == ("fashion_cnn.py", 3, 0)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert list(verdicts) == [claim.id for claim in CLAIMS]
    for name, verdict in verdicts.items():
        assert verdict == ("reproduced" if name.startswith("3.1") else "not run"), name
    assert (summary["metrics"]["sizes_off"], summary["metrics"]["pool_stride"]) == (0, 2)
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[1]["val_accuracy"]) > 0.25, "chance is 0.1"
    fall = float(rows[1]["train_loss"]) - float(rows[0]["train_loss"])
    assert summary["metrics"]["cost_change"] == fall
    gaps = [float(row["train_accuracy"]) - float(row["val_accuracy"]) for row in rows]
    assert summary["metrics"]["generalisation_gap"] == max(gaps)
    assert {"train_accuracy", "val_loss"} <= set(rows[0])
    weights = torch.load(finished / "model.pt", weights_only=True)
    ClothesCNN(Experiment()).load_state_dict(weights)


def test_a_run_ends_with_what_the_learner_came_for(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for figure in ("image_grid", "learning_curves", "mistakes_figure", "confusion_figure"):
        monkeypatch.setattr(f"reports.fashion_cnn.{figure}", lambda *_, **__: "Open it.")
    monkeypatch.setattr("reports.fashion_cnn_layers.save_figure", lambda *_: None)
    options = ("--limit", 200, "--epochs", 1, "--no-padding", "--out-dir", tmp_path)
    code, out, _ = call(main, *options)
    assert code == 0
    assert numbers(tmp_path)["flat_features"] == 32 * 4 * 4
    table, ending = out.split("What the document states")[1].split("Your network classified")
    assert "3.2" in table
    assert "of 200 unseen images correctly" in " ".join(ending.split())
    assert "Open it." in " ".join(ending.split())
    changes = {"cost_change", "accuracy_change"}
    assert not changes & set(numbers(tmp_path)), "one epoch shows no change"


# Your own images


def write_clothes(folder: Path, split: str, count: int) -> None:
    """The first images of Fashion-MNIST in two folders, enlarged and in colour: Hosen, shoes."""
    images = load_images("FashionMNIST", split, PROJECT / "data", 1200)
    for label, name in ((1, "Hosen"), (7, "shoes")):
        (folder / name).mkdir(parents=True)
        for number in (images.labels == label).nonzero().flatten().tolist()[:count]:
            image = Image.fromarray(images.images[number, 0].numpy()).convert("RGB")
            image.resize((56, 56)).save(folder / name / f"{number}.png")


def test_your_own_folders(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes are trained and tested, with their names; then --predict knows them too."""
    monkeypatch.chdir(tmp_path)
    write_clothes(tmp_path / "mine", "train", 60)
    write_clothes(tmp_path / "theirs", "test", 20)
    (tmp_path / "mine" / "shoes" / "list.txt").write_text("no image")
    shown: dict[str, list[str]] = {}
    monkeypatch.setattr(
        "reports.fashion_cnn.confusion_figure",
        lambda counts, names, path: shown.update(confusion=list(names)),
    )
    monkeypatch.setattr(
        "reports.fashion_cnn.image_grid",
        lambda *_, captions, **__: shown.update(classes=list(captions)),
    )
    options = ("--train-folder", "mine", "--test-folder", "theirs", "--batch-size", 10)
    code, out, err = call(main, *options, "--epochs", 8, "--out-dir", "run")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert shown == {"confusion": ["Hosen", "shoes"], "classes": ["Hosen", "shoes"]}
    assert "120 images to train on, 40 for validation; 2 classes: Hosen, shoes." in words
    assert "list.txt is not an image" in words
    assert numbers(Path("run"))["val_accuracy"] > 0.9, "chance is 0.5"
    assert "sandal_sneaker_ratio" not in numbers(Path("run"))
    assert read_summary(Path("run"))["claims"] == []
    command = f"python {PROJECT / 'fashion_cnn.py'} --predict my_image.jpg --weights run/model.pt"
    assert command in out.splitlines(), "in one line, to be copied"
    files = sorted((tmp_path / "theirs").rglob("*.png"))[18:22]
    code, out, err = call(main, "--weights", "run/model.pt", "--out-dir", "seen", "--predict",
                          *files)  # fmt: skip
    assert (code, err) == (0, "")
    found = numbers(Path("seen"))
    assert [found[f"prediction_{number}"] for number in range(1, 5)] == [0, 0, 1, 1]
    assert "Hosen" in out


def test_your_own_photographs(
    finished: Path, tmp_path: Path, call: Call
) -> None:
    """The answers are those of the network to what `read_garment` makes of the files."""
    random = np.random.default_rng(0)
    images = load_images("FashionMNIST", "test", PROJECT / "data", 2).images[:, 0] / 255
    files = []
    for number, (image, name) in enumerate(zip(images, ("white", "wood"), strict=True)):
        photograph = photographed(image.double().numpy(), name, random)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray((photograph * 255).astype(np.uint8)).save(files[-1])
    (tmp_path / "text.jpg").write_text("text")
    code, out, err = call(main, "--weights", finished / "model.pt", "--out-dir", tmp_path / "run",
                          "--predict", *files, tmp_path / "text.jpg")  # fmt: skip
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "text.jpg is not an image that can be read" in words
    model = ClothesCNN(Experiment())
    model.load_state_dict(torch.load(finished / "model.pt", weights_only=True))
    seen = torch.stack([read_garment(file)[0].image for file in files])
    with torch.inference_mode():
        expected = model(seen).argmax(1).tolist()
    found = numbers(tmp_path / "run")
    assert [found["prediction_1"], found["prediction_2"]] == expected
    assert CLOTHES[expected[0]] in words
    assert (tmp_path / "run" / "seen.png").exists()


@pytest.mark.parametrize("experiment", [*EXPERIMENTS.values(), Experiment(7), Experiment(3, True)],
                         ids=str)  # fmt: skip
def test_a_network_of_any_kind_is_loaded(experiment: Experiment, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ClothesCNN(experiment, classes=3).eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(load_network(tmp_path / "model.pt")(images), model(images))


def test_images_that_cannot_be_read_leave_the_run_that_is_to_be_replaced(
    finished: Path, tmp_path: Path, call: Call
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, _, err = call(main, "--out-dir", folder, "--overwrite", "--train-folder", tmp_path / "no")
    assert code == 2
    assert "no is no folder that can be read" in err
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert left == {name: content for name, content in before.items() if name != ".lock"}


@pytest.mark.full
def test_a_resumed_run_equals_one_that_was_not(finished: Path, tmp_path: Path, call: Call) -> None:
    whole, parts = tmp_path / "whole", shutil.copytree(finished, tmp_path / "parts")
    longer = (*SMALL[:-1], 3)
    call(main, *longer, "--out-dir", whole)
    code, _, err = call(main, *longer, "--out-dir", parts, "--resume")
    assert (code, err) == (0, "")
    assert numbers(parts) == numbers(whole)
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (whole, parts)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_comparison(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for figure in ("report.classes", "fashion_cnn_layers.padding_figure"):  # of every run
        monkeypatch.setattr(f"fashion_cnn.{figure}", lambda *_: None)
    options = ("--compare", "--limit", 100, "--epochs", 1, "--seeds", "3,5", "--out-dir", tmp_path)
    code, _, _ = call(main, *options)
    assert code == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    names = [folder_name(experiment) for experiment in EXPERIMENTS.values()]
    assert names == ["5x5", "3x3", "5x5-batch-norm", "3x3-batch-norm", "5x5-unpadded",
                     "3x3-unpadded"]  # fmt: skip
    assert folders == {f"{name}-seed{seed}" for name in names for seed in (3, 5)}
    for figure in ("comparison", "longer_and_unpadded"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 2000

    def gain(name: str, other: str, epoch: int = 1, other_epoch: int = 1) -> float:
        """The mean over the seeds, from the files."""
        total = 0.0
        for seed in (3, 5):
            for sign, folder, number in ((1, name, epoch), (-1, other, other_epoch)):
                with (tmp_path / f"{folder}-seed{seed}" / "metrics.csv").open() as file:
                    total += sign * float(list(csv.DictReader(file))[number - 1]["val_accuracy"])
        return total / 2

    found = numbers(tmp_path)
    for metric, by_hand in {
        "small_kernel_gain": gain("3x3", "5x5"),
        "small_kernel_gain_trained_longer": gain("3x3", "5x5", 2, 1),
        "small_kernel_gain_both_longer": gain("3x3", "5x5", 2, 2),
        "small_kernel_gain_unpadded": gain("3x3-unpadded", "5x5-unpadded"),
        "small_kernel_gain_normed": gain("3x3-batch-norm", "5x5-batch-norm"),
        "batch_norm_gain": gain("5x5-batch-norm", "5x5"),
        "padding_gain": gain("5x5", "5x5-unpadded"),
        "padding_gain_small": gain("3x3", "3x3-unpadded"),
        "longer_gain": gain("5x5", "5x5", 2, 1),
    }.items():
        assert found[metric] == pytest.approx(by_hand, abs=1e-12), metric
    assert 1 <= found["batch_norm_epochs"] <= 2
    assert 1 <= found["small_kernel_epochs"] <= 3

    monkeypatch.setattr("fashion_cnn.train_one_epoch", None)  # nothing is trained a second time
    monkeypatch.setattr("reports.fashion_cnn_compare.figures", lambda *_: None)
    code, _, err = call(main, *options, "--resume")
    assert (code, err) == (0, "")
    assert numbers(tmp_path) == found


def test_a_gain_must_be_there_with_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the gains is above 0 for all, but seed 1 loses with 3×3 kernels."""
    for draw in ("comparison_figure", "figures"):
        monkeypatch.setattr(f"reports.fashion_cnn_compare.{draw}", lambda *_, **__: None)

    def history(*shares: float) -> list[dict[str, float]]:
        return [
            {"epoch": epoch, "seconds": 1.0, "train_accuracy": share, "val_accuracy": share}
            for epoch, share in enumerate(shares, 1)
        ]

    plain = [history(0.5, 0.6), history(0.5, 0.6)]
    small = [history(0.7, 0.9), history(0.45, 0.59)]
    others = [[history(0.8), history(0.8)], [history(0.8), history(0.8)],
              [history(0.5), history(0.5)], [history(0.6), history(0.5)]]  # fmt: skip
    histories = dict(zip(EXPERIMENTS, [plain, small, *others], strict=True))
    models = {name: ClothesCNN(experiment) for name, experiment in EXPERIMENTS.items()}
    with make_run(tmp_path) as run:
        comparison(run, histories, models)
    proposals = [claim for claim in CLAIMS if claim.every_seed]
    settings = {name: value for claim in proposals for name, value in claim.settings.items()}
    verdicts = {v.claim.id: v.verdict for v in judge(proposals, run.metrics, settings)}
    assert verdicts == {
        "3.6a": "not reproduced", "3.6c": "reproduced", "3.6d": "reproduced",
        "3.6e": "reproduced",
    }  # fmt: skip
    assert run.metrics["small_kernel_time"] == 1
    assert run.metrics["small_kernel_time_trained_longer"] == 2
    assert run.metrics["small_kernel_epochs"] == [1, 2]
    assert run.metrics["gap_trained_longer"] == [0, 0]


def test_the_kernels_before_training_are_those_it_started_with(tmp_path: Path) -> None:
    validation = LabelledImages(torch.full((2, 1, 28, 28), 255, dtype=torch.uint8), torch.arange(2))
    torch.manual_seed(7)
    model = ClothesCNN(Experiment())
    start = next(model.block1.parameters()).detach().clone()
    nn.init.zeros_(next(model.block1.parameters()))
    with make_run(tmp_path, seed=7) as run:
        (before, after), (image, first, second) = look_inside(
            run, Experiment(), model, validation
        )
    assert torch.equal(before, start)
    assert not after.any()
    assert (image.max(), image.shape) == (1, (1, 1, 28, 28))
    assert (first.shape, second.shape) == ((1, 16, 14, 14), (1, 32, 7, 7))


def test_the_maps_are_those_of_the_network_in_use(tmp_path: Path) -> None:
    """With batch norm, one image's own mean and variance would show something else."""
    validation = LabelledImages(torch.full((2, 1, 28, 28), 9, dtype=torch.uint8), torch.arange(2))
    experiment = Experiment(batch_norm=True)
    model = ClothesCNN(experiment).train()
    with make_run(tmp_path) as run:
        _, (image, first, _) = look_inside(run, experiment, model, validation)
    with torch.inference_mode():
        assert torch.equal(first, model.eval().block1(image))


def test_seeds_of_the_comparison() -> None:
    assert parse(["--compare"]).seeds == (0, 1, 2, 3, 4)
    assert parse(["--compare", "--seed", "7"]).seeds == (7, 8, 9, 10, 11)
    assert parse([]).seeds is None


def test_another_kernel_size_is_refused_and_the_sizes_are_named(
    refused: Callable[..., str],
) -> None:
    message = refused(main, "--kernel-size", 4)
    assert "choose from 3, 5, 7" in message.replace("'", ""), "Python 3.14 writes them in quotes"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seeds", "0,x"), "'x' is not a whole number"),
        (("--seeds", "0,1,1"), "'0,1,1' names a number twice"),
        (("--seeds", "7"), "--seeds belongs to --compare; one training takes --seed N"),
        (("--compare", "--batch-norm"), "--compare trains all six"),
        (("--compare", "--no-padding"), "--compare trains all six"),
        (("--batchnorm",), "did you mean --batch-norm?"),
        (("--data-dir", "dta"), "'dta' is no folder"),
        (("--weights", "model.pt"), "--weights names the network for --predict FILE"),
        (("--test-folder", "mine"), "--test-folder belongs to --train-folder DIR"),
        (("--train-folder", "nowhere"), "--train-folder nowhere is no folder that can be read"),
        (("--train-folder", "a", "--predict", "b"), "trained already: no --train-folder"),
        (("--predict", "b", "--kernel-size", "3"), "trained already: no --kernel-size"),
        (("--train-folder", "a", "--compare"), "--compare trains all six on Fashion-MNIST"),
        (("--predict", "b.jpg"), "no finished run in runs/fashion_cnn"),
        (("--predict", "b.jpg", "--weights", "c.pt"), "c.pt cannot be read"),
    ],
)
def test_a_value_that_cannot_work_ends_in_one_line(
    arguments: tuple[object, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_document_s_run(seed: int, tmp_path: Path, call: Call) -> None:
    """After six epochs seeds 0 to 4 had 89.3 to 89.8% of the validation images right."""
    code, _, _ = call(main, "--seed", seed, "--out-dir", tmp_path)
    assert code == 0
    assert numbers(tmp_path)["val_accuracy"] > 0.88
