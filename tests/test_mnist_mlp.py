"""Document 4: its arithmetic, the story from either source, the user's own pictures, and what a user may get wrong."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import mnist_mlp
from common.cli import PROJECT
from common.data import InMemoryDataset, load_images, make_loader
from common.metrics import accuracy
from common.pictures import as_mnist_digit
from common.training import predict, train_one_epoch
from mnist_mlp import CLAIMS, Network, main, read_archives, read_folder
from tests.conftest import Call, numbers, read_summary
from tests.drawings import FONTS, font_digit, pen_digit, photographs

SMALL = ("--source", "tensor", "--limit", 700, "--epochs", 2, "--batch-size", 5)
FIGURES = {"first_batch", "loss", "errors"}


def test_the_network_by_hand() -> None:
    """784→256→10 with ReLU between, computed by NumPy; 784·256 + 256 + 256·10 + 10 parameters."""
    torch.manual_seed(0)
    network = Network().double()
    assert sum(p.numel() for p in network.parameters()) == 784 * 256 + 256 + 256 * 10 + 10 == 203_530
    images = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    w1, b1, w2, b2 = (p.detach().numpy() for p in network.parameters())
    expected = np.maximum(images.numpy().reshape(5, 784) @ w1.T + b1, 0) @ w2.T + b2
    assert np.allclose(network(images).detach().numpy(), expected, rtol=1e-12)


def test_938_batches_of_which_the_last_has_32() -> None:
    loader = make_loader(InMemoryDataset(torch.zeros(60_000, 1), torch.zeros(60_000)), 64)
    sizes = [len(labels) for _, labels in loader]
    assert (len(loader), len(sizes), set(sizes[:-1]), sizes[-1]) == (938, 938, {64}, 32)


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST cut to 300 and 100 pictures, so that an export takes no time."""

    def load_few(name: str, split: str, data_dir: Path, limit: int | None = None) -> tuple[Tensor, Tensor]:
        few = {"train": 300, "test": 100}[split]
        return load_images(name, split, PROJECT / "data", min(few, limit or few))

    monkeypatch.setattr(mnist_mlp, "load_images", load_few)


@pytest.mark.parametrize("limit", [None, 40])
@pytest.mark.usefixtures("small_mnist")
def test_folder_and_archives_hold_the_same_digits(limit: int | None, tmp_path: Path) -> None:
    folder, dataset = read_folder(tmp_path, limit)
    archives = read_archives(tmp_path, limit)
    for split in ("train", "test"):
        assert torch.equal(folder[split].images, archives[split].images)
        assert torch.equal(folder[split].labels, archives[split].labels)
        assert all(Path(place).is_file() for place in folder[split].places)
        numbers_in_names = [int(Path(place).stem) for place in folder[split].places]
        assert numbers_in_names == [int(place.split()[-1]) for place in archives[split].places]
    assert len(dataset) == (limit or 300)


@pytest.mark.usefixtures("small_mnist")
def test_both_sources_give_the_same_numbers(tmp_path: Path, call: Call) -> None:
    options = ("--epochs", 2, "--batch-size", 2, "--data-dir", tmp_path / "data")
    (tmp_path / "data" / "MNIST").mkdir(parents=True)
    outputs = {}
    for source in ("folder", "tensor"):
        code, outputs[source], _ = call(main, "--source", source, *options, "--out-dir", tmp_path / source)
        assert code == 0
    assert numbers(tmp_path / "folder") == numbers(tmp_path / "tensor")
    batches = [[line for line in out.splitlines() if line.startswith("batch ")] for out in outputs.values()]
    assert len(batches[0]) == 3
    assert batches[0] == batches[1], "the first batches come in the same order"
    errors = []
    for source in ("folder", "tensor"):
        with (tmp_path / source / "errors.csv").open() as file:
            errors.append([(row["prediction"], row["truth"], row["confidence"]) for row in csv.DictReader(file)])
    assert errors[0]
    assert errors[0] == errors[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs; tests work on copies."""
    folder: Path = tmp_path_factory.mktemp("mlp") / "run"
    main([*map(str, SMALL), "--out-dir", str(folder)])
    return folder


def test_the_story_leaves_a_complete_run(finished: Path) -> None:
    assert {path.stem for path in finished.glob("*.png")} == FIGURES
    summary = read_summary(finished)
    assert (summary["script"], summary["document"]) == ("mnist_mlp.py", 4)
    assert [claim["id"] for claim in summary["claims"]] == [claim.id for claim in CLAIMS]
    assert {claim["verdict"] for claim in summary["claims"]} == {"not run"}, "these are not the document's settings"
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert set(rows[0]) == {"epoch", "seconds", "lr", "train_loss", "loss_at_batch_100"}
    assert summary["metrics"]["test_accuracy"] > 0.6, "chance is 0.1"


def test_the_errors_are_those_of_the_saved_network(finished: Path) -> None:
    network = Network()
    network.load_state_dict(torch.load(finished / "mnist.pth", weights_only=True))
    images, labels = load_images("MNIST", "test", PROJECT / "data", 700)
    with torch.inference_mode():
        predictions = network(images.float() / 255).argmax(1)
    with (finished / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = {int(row["path"].split()[-1]): (int(row["prediction"]), int(row["truth"])) for row in rows}
    expected = {n: (p, t) for n, (p, t) in enumerate(zip(predictions.tolist(), labels.tolist(), strict=True)) if p != t}
    assert wrong == expected
    found = read_summary(finished)["metrics"]
    assert found["test_errors"] == len(expected)
    assert found["test_accuracy"] == 1 - len(expected) / 700
    confidences = [float(row["confidence"]) for row in rows]
    assert confidences == sorted(confidences, reverse=True)


def test_a_resumed_run_equals_one_that_was_not(finished: Path, tmp_path: Path, call: Call) -> None:
    whole, parts = tmp_path / "whole", shutil.copytree(finished, tmp_path / "parts")
    longer = ("--epochs", 3)
    call(main, *SMALL, *longer, "--out-dir", whole)
    code, _, err = call(main, *SMALL, *longer, "--out-dir", parts, "--resume")
    assert (code, err) == (0, "")
    assert numbers(parts) == numbers(whole)


def test_widths(tmp_path: Path, call: Call) -> None:
    code, out, _ = call(main, *SMALL, "--widths", "8,64", "--seeds", "1,2", "--out-dir", tmp_path)
    assert code == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "width-8-seed1", "width-8-seed2", "width-64-seed1", "width-64-seed2"
    }  # fmt: skip
    assert (tmp_path / "widths.png").exists()
    state = torch.load(tmp_path / "width-8-seed2" / "mnist.pth", weights_only=True)
    assert state["layer1.weight"].shape == (8, 784)
    assert numbers(tmp_path)["width_spread"] > 0
    assert f"{784 * 8 + 8 + 8 * 10 + 10}" in out


def test_explain_answers_with_numbers(tmp_path: Path, call: Call) -> None:
    code, out, _ = call(main, "--explain", "--limit", 700, "--out-dir", tmp_path)
    assert code == 0
    found = numbers(tmp_path)
    assert found["two_layers_less_one"] < 1e-5
    assert found["accuracy_relu_nowhere"] == found["accuracy_relu_before_the_first_layer"], "no pixel is negative"
    assert found["softmax_sum_error"] < 1e-6
    verdicts = {claim["id"]: claim["verdict"] for claim in read_summary(tmp_path)["claims"]}
    assert [verdicts[claim] for claim in ("4.7a", "4.7b", "4.7c")] == ["reproduced", "reproduced", "not reproduced"]
    assert "weight.grad is None" in out
    # By hand: −log(e⁸ / (e⁸ + 2)) and its slope p − 1; −log(1/3) and −2/3; −log(1 / (e⁸ + 2)) and −1.
    assert "0.0007" in out
    assert "1.0986         -0.6667" in out
    assert "8.0007         -0.9997" in out


# The user's own pictures


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained for two epochs on all of MNIST (seconds), in a file."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)
    images, labels = load_images("MNIST", "train", PROJECT / "data")
    loader = make_loader(InMemoryDataset(images, labels, lambda images: images.float() / 255), 128, shuffle=True)
    for _ in range(3):
        train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer)
    path: Path = tmp_path_factory.mktemp("weights") / "mnist.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.full
def test_digits_drawn_by_other_means_are_read(weights: Path) -> None:
    """After ten epochs all pen drawings are read in each kind of photograph, and 89 to 94% of the printed digits."""
    random = np.random.default_rng(0)
    network = Network()
    network.load_state_dict(torch.load(weights, weights_only=True))
    pens = [(d, pen_digit(d, random, pen=pen)) for pen in (5, 25) for d in range(10)]
    printed = [(d, font_digit(d, font)) for font in FONTS[::2] for d in range(10)]
    for drawings, floor in ((pens, 0.85), (printed, 0.75)):
        truth = torch.tensor([digit for digit, _ in drawings])
        taken = [photographs(picture, random) for _, picture in drawings]
        for name in taken[0]:
            digits = torch.stack([as_mnist_digit(photos[name]) for photos in taken])
            logits, labels = predict(network, [(digits, truth)])
            assert accuracy(logits, labels) >= floor, name


def test_predict_prints_three_digits_and_saves_what_it_saw(
    weights: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs") / "mnist_mlp" / "earlier"
    run.mkdir(parents=True)
    shutil.copy(weights, run / "mnist.pth")
    random = np.random.default_rng(0)
    for digit in (0, 3):
        pen_digit(digit, random).convert("RGB").save(f"{digit}.jpg")
    code, _, err = call(main, "--predict", "0.jpg", "3.jpg")
    assert code == 2
    assert "no finished run in runs/mnist_mlp" in err, "that run was never finished"
    (run / "summary.json").write_text("{}")
    code, out, err = call(main, "--predict", "0.jpg", "3.jpg", "--out-dir", "seen")
    assert (code, err) == (0, "")
    assert numbers(Path("seen")) == {"prediction_1": 0, "prediction_2": 3}
    line = next(line for line in out.splitlines() if line.startswith("3.jpg"))
    assert line.split()[1] == "3"
    assert line.count("%") == 3
    with Image.open("seen/seen-1-0.png") as seen:
        assert seen.size == (28, 28)


def test_predict_refuses_in_one_line(weights: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    font_digit(1, "DejaVuSans").save(tmp_path / "good.png")
    Image.new("L", (90, 90), 255).save(tmp_path / "blank.png")
    (tmp_path / "text.png").write_text("text")
    for files, extra, words in (
        (("good.png", "missing.png"), (), "missing.png: there is no such file"),
        (("blank.png",), (), "blank.png shows no digit: it is blank"),
        (("text.png",), (), "text.png is not a picture that can be read"),
        (("good.png",), ("--weights", "nowhere.pth"), "nowhere.pth cannot be read (No such file or directory)"),
        (("good.png",), ("--weights", "text.png"), "text.png holds no network of this script"),
        (("good.png",), ("--explain",), "not allowed with argument"),
    ):
        assert words in refused(main, "--weights", weights, *extra, "--predict", *files)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "web"), "choose from"),
        (("--widths", "0"), "'0' is not a whole number of at least 1"),
        (("--widths", "128,128"), "names a number twice"),
        (("--predict",), "expected at least one argument"),
        (("--weights", "mnist.pth"), "--weights names the network for --predict FILE"),
    ],
)
def test_a_value_that_cannot_work_ends_in_one_line(
    arguments: tuple[object, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)


@pytest.mark.full
def test_the_document_s_run_and_its_export(tmp_path: Path, call: Call) -> None:
    shutil.copytree(PROJECT / "data" / "MNIST" / "raw", tmp_path / "data" / "MNIST" / "raw")
    code, _, _ = call(main, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "run")
    assert code == 0
    found = numbers(tmp_path / "run")
    assert (found["train_pictures"], found["test_pictures"], found["batches"]) == (60_000, 10_000, 938)
    assert found["test_accuracy"] > 0.97
