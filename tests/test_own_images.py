"""Your own images: files in figures and tables, folders of classes, and what is unlike the rest."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchvision.datasets import FashionMNIST

from common.checkpoint import newest_weights
from common.cli import PROJECT
from common.config import read_options
from common.data import LabelledImages, load_images
from common.errors import UsageError
from common.familiar import likeness, warnings_for
from common.figures import image_grid
from common.given_files import read_each
from common.image_files import OwnImage, own_image, read_image
from common.labels import drawable, font_families, shortened
from common.own_images import (
    as_network_sees,
    class_names,
    load_own_classes,
    read_own,
    save_names,
    saved_names,
)
from common.terminal import one_line, say
from reports import own_images as report
from reports.classification import confusion_figure
from tests.helpers import make_run


def write_classes(folder: Path, names: str, count: int, size: tuple[int, int] = (40, 30)) -> None:
    """A folder with `count` images in a subfolder for each letter of `names`, each of one grey."""
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            grey = 20 * place + number
            Image.new("RGB", size, (grey, grey, grey)).save(folder / name / f"{number}.png")


def load(train: Path, test: Path | None = None, limit: int | None = None) -> tuple[
    LabelledImages, LabelledImages, list[str]
]:  # fmt: skip
    loaded = load_own_classes(train, test, limit)
    return loaded.training, loaded.unseen, list(loaded.names)


def greys(images: LabelledImages) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def test_two_folders(tmp_path: Path) -> None:
    write_classes(tmp_path / "a", "xy", 5)
    write_classes(tmp_path / "b", "y", 3, size=(28, 28))
    (tmp_path / "b" / "x").mkdir()
    training, unseen, names = load(tmp_path / "a", tmp_path / "b")
    assert names == ["x", "y"]
    assert sorted(greys(training)) == [0, 1, 2, 3, 4, 20, 21, 22, 23, 24]
    assert unseen.labels.tolist() == [1, 1, 1]
    for part in (training, unseen):
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.images.dtype == torch.uint8
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            assert Path(file).parent.name == names[label]
    assert [grey >= 20 for grey in greys(training)] == [label == 1 for label in training.labels]
    assert training.labels.tolist() != sorted(training.labels.tolist()), "mixed"
    assert greys(load(tmp_path / "a")[0]) == greys(load(tmp_path / "a")[0]), "always alike"


def test_one_folder_is_split_class_by_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "a", "xyz", 11)
    training, unseen, _ = load(tmp_path / "a")
    assert torch.bincount(unseen.labels).tolist() == [3, 3, 3]
    assert torch.bincount(training.labels).tolist() == [8, 8, 8]
    assert not set(training.files) & set(unseen.files)
    limited = load(tmp_path / "a", limit=6)
    assert (len(limited[0]), len(limited[1])) == (6, 6)
    assert len(set(limited[0].labels.tolist())) > 1, "not all of one class"


def test_bad_files_are_named_and_the_others_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "a", "xy", 4)
    (tmp_path / "a" / "x" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "x" / ".hidden").write_text("no image")
    (tmp_path / "a" / "x" / ".thumbnails").mkdir()
    (tmp_path / "a" / "x" / ".thumbnails" / "hidden.png").write_text("no image")
    for number in range(12):
        (tmp_path / "a" / "y" / f"bad{number}.png").write_bytes(b"")
    training, unseen, _ = load(tmp_path / "a")
    assert len(training) + len(unseen) == 8
    words = "".join(capsys.readouterr().out.split())
    assert f"{tmp_path}/a/x/notes.txtisnotanimage".replace(" ", "") in words
    assert words.count("bad") - words.count("test_bad") == 9
    assert "Leftout:3morethatcannotbeused" in words
    assert "hidden" not in words


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ("nowhere", None, "--train-folder .*nowhere is no folder that can be read"),
        ("empty", None, "subfolders found: 0; one for each class is needed"),
        ("one", None, "subfolders found: 1; one for each class is needed"),
        ("two", "three", "three has classes that .*two lacks .z.; accepted: x, y"),
        ("two", "nowhere", "--test-folder .*nowhere is no folder that can be read"),
        ("x" * 300, None, "File name too long"),
        ("hollow", None, "there is no image that can be read"),
        ("single", None, "at least two are needed"),
    ],
)
def test_folders_that_cannot_be_used(
    train: str, test: str | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_classes(tmp_path / "one", "x", 2)
    write_classes(tmp_path / "two", "xy", 2)
    write_classes(tmp_path / "three", "xyz", 2)
    write_classes(tmp_path / "hollow", "xy", 0)
    write_classes(tmp_path / "single", "xy", 1)
    with pytest.raises(UsageError, match=words):
        load(tmp_path / train, None if test is None else tmp_path / test)


def test_class_names_are_the_folders_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b", "a", ".cache", "10"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("")
    assert class_names("--train-folder", tmp_path) == ["10", "a", "b"]


def test_an_image_of_28_pixels_stays_and_others_keep_their_proportions(tmp_path: Path) -> None:
    images = load_images("FashionMNIST", "test", PROJECT / "data", 3).images
    for image in images:
        Image.fromarray(image[0].numpy()).save(tmp_path / "image.png")
        assert torch.equal(as_network_sees(read_image(tmp_path / "image.png")), image)
    (own,) = read_own(tmp_path / "image.png")
    assert torch.equal(own.image, images[-1].float() / 255)
    wide = np.full((100, 200, 3), 0.2)
    wide[40:60, 80:120] = 1.0  # in the middle, on grey
    seen = as_network_sees(wide)[0]
    assert set(seen[0].tolist()) == {51}, "what is left over is like the border"
    lit = (seen > 153).nonzero()
    assert (lit.amin(0) + lit.amax(0)).tolist() == [27, 27], "the middle stays in the middle"
    extent = (lit.amax(0) - lit.amin(0) + 1).tolist()
    assert extent[1] == pytest.approx(2 * extent[0], abs=2)


def test_names_are_found_beside_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model.pt"
    assert saved_names(weights, 10) is None
    said = " ".join(capsys.readouterr().out.split())
    assert "classes.json is missing: the ten classes of model.pt are taken for Fashion" in said
    with pytest.raises(UsageError, match=r"classes.json is missing: it names the 2 classes"):
        saved_names(weights, 2)
    save_names(tmp_path / "classes.json", ["Äpfel", "pears"])
    assert saved_names(weights, 2) == ["Äpfel", "pears"]
    ten = [str(number) for number in range(10)]
    for names, answer in ((ten, ten), (FashionMNIST.classes, None)):
        save_names(tmp_path / "classes.json", names)
        assert saved_names(weights, 10) == answer
    assert capsys.readouterr().out == ""
    for damaged in ("", "{}", "[1]", '["a", "b", "c"]'):
        (tmp_path / "classes.json").write_text(damaged)
        with pytest.raises(UsageError, match=r"classes.json is damaged"):
            saved_names(weights, 2)


def test_the_newest_finished_run_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no finished run in runs/fashion_cnn"):
        newest_weights("fashion_cnn", "model.pt")
    for name in ("first", "second"):
        folder = tmp_path / "runs" / "fashion_cnn" / name
        folder.mkdir(parents=True)
        (folder / "model.pt").write_text("")
        if name == "first":
            (folder / "summary.json").write_text("{}")
    assert newest_weights("fashion_cnn", "model.pt") == Path("runs/fashion_cnn/first/model.pt")


def test_refused_files_are_left_out_or_end_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read(path: Path) -> list[OwnImage]:
        if path.suffix == ".bad":
            raise UsageError(f"{path} is bad")
        return [OwnImage(path.name, torch.zeros(2, 2, 3), torch.zeros(1, 28, 28))]

    found = read_each([Path("a.bad"), Path("b.png"), Path("c.bad")], read)
    assert [one.name for one in found] == ["b.png"]
    assert capsys.readouterr().out == "Left out: a.bad is bad.\nLeft out: c.bad is bad.\n"
    with pytest.raises(UsageError, match=r"^a.bad is bad \(and 1 more that cannot be used\)$"):
        read_each([Path("a.bad"), Path("c.bad")], read)
    with pytest.raises(UsageError, match=r"^a.bad is bad$"):
        read_each([Path("a.bad")], read)
    assert capsys.readouterr().out == ""


def test_a_pattern_stands_for_the_files_that_fit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, whose shell leaves it as it is; a file may have such a name too."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "c.jpg", "[1].png"):
        Path(name).touch()

    def found(pattern: str) -> list[Path]:
        return read_each([Path(pattern)], lambda path: [path])

    assert found("?.png") == [Path("a.png"), Path("b.png")]
    assert found("[1].png") == [Path("[1].png")]
    assert found("*.gif") == [Path("*.gif")], "what is not there is named as it was typed"
    assert found("x" * 5000) == [Path("x" * 5000)]


# What is unlike the training images


def test_likeness_by_hand() -> None:
    training = LabelledImages(torch.zeros(2, 1, 1, 4, dtype=torch.uint8), torch.zeros(2))
    training.images[0, 0, 0, 0] = 200
    training.images[1, 0, 0, 1:3] = 100
    images = torch.tensor([[9.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 5.0]]).view(3, 1, 1, 4)
    assert likeness(images, training).tolist() == pytest.approx([1, 0.5**0.5, 0])


@pytest.mark.parametrize(
    "data_set", ["MNIST", pytest.param("FashionMNIST", marks=pytest.mark.full)]
)
def test_few_test_images_are_strange_and_noise_always_is(data_set: str) -> None:
    """The limit comes from the first 1,000 test images; these are the next."""
    images = load_images(data_set, "test", PROJECT / "data", 1400).images[1000:].float() / 255
    noise = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    own = [
        OwnImage("a.png", torch.zeros(1, 1, 3), image)
        for image in (*images, *noise)
    ]
    strange = [bool(warning) for warning in warnings_for(own, data_set, PROJECT / "data")]
    assert sum(strange[:400]) <= 36, "about 5 in 100"
    if data_set == "MNIST":
        assert all(strange[400:])


# The report


def test_each_own_image_stands_beside_what_the_network_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four images: three pairs in the first row, one in the second; never 100% for less than 1."""
    drawn: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: drawn.append(figure))
    own = [
        OwnImage(f"{number}.jpg", torch.rand(40, 60, 3), torch.rand(1, 28, 28))
        for number in range(4)
    ]  # fmt: skip
    logits = torch.zeros(4, 2)
    logits[:, 1] = 20.0  # in float32 its softmax is 1
    with make_run(tmp_path / "run") as run:
        report.answers(run, own, logits, ["cat", "dog"], ["", "", "", "strange"])
        assert run.metrics["warnings"] == 1
    panels = drawn[0].axes
    assert len(panels) == 12
    for number, one in enumerate(own):
        left, right = panels[2 * number : 2 * number + 2]
        assert np.array_equal(left.images[0].get_array(), one.original.numpy())
        assert np.array_equal(right.images[0].get_array(), one.image[0].numpy())
        assert left.get_title() == f"{number}.jpg"
        assert right.get_title() == "read as dog, 99.99%"
        assert right.get_xlabel() == ("strange" if number == 3 else "")
    out = capsys.readouterr().out
    assert "Doubt the answer to 3.jpg: strange." in out
    assert out.count("Doubt") == 1


def test_the_command_for_own_images_names_the_network_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with make_run(Path("runs") / "script" / "20260101-120000-seed0") as run:
        command = report.predict_command(run, "my_digit.jpg", run.file("mnist.pth"))
    assert command == f"python {run.command} --predict my_digit.jpg"
    with make_run(Path("my runs") / "first") as run:
        command = report.predict_command(run, "my_digit.jpg", run.file("mnist.pth"))
    words = shlex.split(command)
    assert words[2:] == ["--predict", "my_digit.jpg", "--weights", "my runs/first/mnist.pth"]


def test_a_command_is_printed_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = "python mnist_mlp.py --predict my_digit.jpg --weights " + "'a long way'/" * 20
    say(f"{'word ' * 30}\n{command}\nThe end.")
    lines = capsys.readouterr().out.splitlines()
    assert command in lines
    assert lines[-1] == "The end."
    assert max(len(line) for line in lines if line != command) <= 80


# Names that a learner chose


def test_names_in_figures_and_tables() -> None:
    assert drawable("plain name.png") == "plain name.png"
    assert drawable("$x^2$") == r"\$x^2\$"
    assert drawable("a\nb\udcff\tc\x1b") == "a?b??c?"
    assert one_line("数字\n.png") == "数字?.png"
    assert shortened("x" * 300, 28) == "x" * 13 + "…" + "x" * 14
    assert len(drawable("n" * 245)) == 28
    assert len(drawable("N" * 245)) == 21, "capitals are broader"
    if font_families() == ["DejaVu Sans"]:  # a machine without a Chinese font
        assert drawable("数字 3") == "?? 3"


def test_names_that_are_hard_to_draw(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formulas, ends of lines, bytes that are no text, 245 letters and Chinese: no warning."""
    names = ["$\\frac{1}{$.png", "a\nb.png", "\udce4.png", "x" * 241 + ".png", "数字.png",
             "a$b.png"]  # fmt: skip
    own = [own_image(name, np.ones((5, 5, 3)), torch.zeros(1, 28, 28)) for name in names]
    with make_run(tmp_path / "run", predict=[Path(name) for name in names]) as run:
        report.answers(run, own, torch.zeros(6, 3), ["$_{$", "b" * 245, "类\n"])
        image_grid(torch.rand(3, 28, 28), run.file("grid.png"), title="t", columns=3,
                   captions=[drawable(name) for name in names[:3]])  # fmt: skip
    assert not [str(warning.message) for warning in recwarn]
    assert sorted(path.name for path in (tmp_path / "run").glob("seen-*.png"))[-1] == "seen-6.png"
    before = read_options(tmp_path / "run")
    assert before is not None
    assert before["predict"] == names, "config.json holds them as they are"
    assert "a?b.png" in capsys.readouterr().out


def test_of_many_images_the_first_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with 700, of which 30 are drawn."""
    monkeypatch.setattr(report, "SHOWN", 4)
    drawn: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: drawn.append(figure))
    own = [own_image(f"{number}.png", np.ones((5, 5, 3)), torch.zeros(1, 28, 28))
           for number in range(9)]  # fmt: skip
    with make_run(tmp_path / "run") as run:
        ending = report.answers(run, own, torch.zeros(9, 3), ["a", "b", "c"])
        assert run.metrics["prediction_9"] == 0
    assert len(drawn[0].axes) == 12, "three pairs in the first row, one in the second"
    assert "the first 4 of your images" in ending
    assert "up to seen-9.png" in ending
    assert "8.png" in capsys.readouterr().out


def test_a_matrix_of_many_classes_shows_those_most_often_mistaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = "reports.classification.save_figure"
    monkeypatch.setattr(save, lambda figure, _: drawn.append(figure))
    counts = 5 * torch.eye(40, dtype=torch.long)
    counts[7, 38] = 3
    for label in range(28):
        counts[label, label + 1] += 1
    names = [f"class {label}" for label in range(40)]
    confusion_figure(counts, names, tmp_path / "x.png")
    (axes, _) = drawn[0].axes
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert len(shown) == 30
    assert shown == [*names[:29], "class 38"]
    assert axes.images[0].get_array()[7, 29] == 3 / 9, "the share is that of all its images"
