"""Images written as files and read back: whole, complete, and as torchvision reads them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Grayscale, ToTensor

import common.image_folder
from common.data import LabelledImages
from common.errors import RunError, UsageError
from common.image_folder import check_images, decode_images, export_image_folder

Splits = dict[str, LabelledImages]


@pytest.fixture
def splits() -> Splits:
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for split, count in (("train", 12), ("test", 5)):
        images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
        splits[split] = LabelledImages(images, torch.arange(count) % 3)
    return splits


def as_document(folder: Path) -> ImageFolder:
    return ImageFolder(str(folder), transform=Compose([Grayscale(), ToTensor()]))


def test_the_folder_holds_the_data_set(tmp_path: Path, splits: Splits) -> None:
    folder = tmp_path / "png"
    export_image_folder(folder, splits)
    assert [path.name for path in tmp_path.iterdir()] == ["png"], "no lock beside it"
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    for split, part in splits.items():
        dataset = as_document(folder / split)
        order = part.labels.argsort(stable=True)
        assert dataset.targets == part.labels[order].tolist()
        assert [int(Path(path).stem) for path, _ in dataset.samples] == order.tolist()
        decoded = decode_images(dataset)
        assert torch.equal(decoded, part.images[order])
        for index in range(len(dataset)):
            as_torchvision_reads_it = dataset[index][0]
            assert torch.equal(as_torchvision_reads_it, decoded[index].float() / 255)


def test_a_finished_export_is_not_written_again(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_image_folder(tmp_path / "png", splits)
    monkeypatch.setattr(common.image_folder, "_write_png", None)
    export_image_folder(tmp_path / "png", splits)


@pytest.mark.parametrize("written", [0, 1, 7, 16])
def test_an_interrupted_export_is_completed(
    written: int, tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0
    write = common.image_folder._write_png

    def write_some(path: Path, image: Tensor) -> None:
        nonlocal done
        if done == written:
            path.with_name(f"{path.name}.123").write_bytes(b"half an image")
            raise KeyboardInterrupt
        write(path, image)
        done += 1

    monkeypatch.setattr(common.image_folder, "_write_png", write_some)
    with pytest.raises(KeyboardInterrupt):
        export_image_folder(tmp_path / "png", splits)
    monkeypatch.undo()
    export_image_folder(tmp_path / "png", splits)
    for split, part in splits.items():
        decoded = decode_images(as_document(tmp_path / "png" / split))
        assert torch.equal(decoded, part.images[part.labels.argsort(stable=True)])


def test_another_file_among_the_images_is_named_and_left_alone(
    tmp_path: Path, splits: Splits
) -> None:
    export_image_folder(tmp_path / "png", splits)
    mine = tmp_path / "png" / "test" / "1" / "mine.png"
    mine.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"mine\.png is not an image of this data set"):
        export_image_folder(tmp_path / "png", splits)
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("damage", ["cut off", "empty", "text", "short header", "another size"])
def test_a_damaged_image_is_named(damage: str, tmp_path: Path, splits: Splits) -> None:
    export_image_folder(tmp_path / "png", splits)
    victim = tmp_path / "png" / "train" / "1" / "00004.png"
    if damage == "another size":
        Image.new("L", (20, 20)).save(victim)
    else:
        content = victim.read_bytes()
        cut_off = content[: len(content) // 2]
        # Pillow raises ValueError for a PNG whose first part is too short.
        short = content[:8] + b"\0\0\0\x05" + content[12:]
        victim.write_bytes(
            {"cut off": cut_off, "empty": b"", "text": b"text", "short header": short}[damage]
        )
    with pytest.raises(RunError, match=r"00004\.png is damaged; delete it and run again"):
        decode_images(as_document(tmp_path / "png" / "train"))
    victim.unlink()
    export_image_folder(tmp_path / "png", splits)
    decode_images(as_document(tmp_path / "png" / "train"))


def test_many_damaged_images_are_one_message(tmp_path: Path, splits: Splits) -> None:
    """As after a power cut: they were not synced."""
    export_image_folder(tmp_path / "png", splits)
    train = tmp_path / "png" / "train"
    (train / "1" / "00004.png").write_bytes(b"")
    (train / "2" / "00005.png").write_bytes(bytes(100))
    with pytest.raises(RunError, match=r"00004\.png and 1 more are damaged; delete the folder .*t"):
        decode_images(as_document(train))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, splits: Splits) -> None:
    (tmp_path / "png").write_text("a file")
    with pytest.raises(RunError, match=r"png cannot be written .*; --source tensor needs no"):
        export_image_folder(tmp_path / "png", splits)


def test_two_images_that_changed_places_are_found(tmp_path: Path, splits: Splits) -> None:
    export_image_folder(tmp_path / "png", splits)
    dataset = as_document(tmp_path / "png" / "train")
    first, second = (Path(dataset.samples[place][0]) for place in (0, -1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    files, labels = zip(*dataset.samples, strict=True)
    decoded = LabelledImages(decode_images(dataset), torch.tensor(labels), files)
    with pytest.raises(RunError, match=rf"{first.name} is another image; delete it"):
        check_images(decoded, splits["train"])


@pytest.mark.parametrize("name", ["1/mine.PNG", "1/mine.jpg", "10/00000.png", "1/more/00000.png"])
def test_what_image_folder_would_read_too_is_named(
    name: str, tmp_path: Path, splits: Splits
) -> None:
    export_image_folder(tmp_path / "png", splits)
    mine = tmp_path / "png" / "test" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"mine")
    with pytest.raises(UsageError, match=mine.parent.name):
        export_image_folder(tmp_path / "png", splits)
    assert mine.exists()


def test_what_a_killed_export_left_is_deleted(tmp_path: Path, splits: Splits) -> None:
    export_image_folder(tmp_path / "png", splits)
    left = tmp_path / "png" / "test" / "1" / "00004.png.123"
    left.write_bytes(b"half an image")
    export_image_folder(tmp_path / "png", splits)
    assert left.exists()  # another machine may be writing it
    a_minute_ago = time.time() - 61
    os.utime(left, (a_minute_ago, a_minute_ago))
    export_image_folder(tmp_path / "png", splits)
    assert not left.exists()


def test_a_folder_in_the_place_of_an_image_is_named(tmp_path: Path, splits: Splits) -> None:
    """`ImageFolder` would train without the image, and say nothing."""
    export_image_folder(tmp_path / "png", splits)
    place = tmp_path / "png" / "test" / "1" / "00004.png"
    place.unlink()
    place.mkdir()
    with pytest.raises(UsageError, match=r"00004\.png is a folder; move it out of"):
        export_image_folder(tmp_path / "png", splits)
