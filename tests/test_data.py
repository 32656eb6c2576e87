"""The archives: official, verified at every call, repaired where that can be; and batches."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST, FashionMNIST
from torchvision.transforms.functional import to_tensor

from common.archives import CHECKSUMS
from common.cli import PROJECT
from common.data import CLOTHES, InMemoryDataset, load_images, make_loader
from common.errors import RunError, UsageError
from common.start import check_writable

RAW = PROJECT / "data" / "MNIST" / "raw"
LABELS = "t10k-labels-idx1-ubyte.gz"
REQUESTS_PER_FETCH = 2  # torchvision looks for redirections first


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A data folder of the test's own, with MNIST's test archives."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for archive in RAW.glob("t10k-*.gz"):
        shutil.copy(archive, folder)
    return tmp_path / "data"


class _Server(http.server.ThreadingHTTPServer):
    requests = 0


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.requests += 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """A mirror on this machine that serves the official archives and counts the requests."""
    with _Server(("127.0.0.1", 0), functools.partial(_Handler, directory=RAW)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
        yield server
        server.shutdown()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrors that refuse the connection at once."""
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_the_data_are_torchvision_s(name: str, tmp_path: Path) -> None:
    """torchvision itself accepts the archives, without a network, and reads the same numbers."""
    shutil.copytree(
        PROJECT / "data" / name, tmp_path / name, ignore=shutil.ignore_patterns("*-ubyte", "png")
    )
    for split, count in (("train", 60_000), ("test", 10_000)):
        loaded = load_images(name, split, PROJECT / "data")
        images, labels = loaded.images, loaded.labels
        source = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}[name]
        expected = source(tmp_path, train=split == "train", download=True)
        assert images.shape == (count, 1, 28, 28)
        assert images.dtype == torch.uint8
        assert torch.equal(images[:, 0], expected.data)
        assert torch.equal(labels, expected.targets)


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_checksums_are_torchvision_s(source: type[MNIST]) -> None:
    assert CHECKSUMS[source.__name__] == dict(source.resources)


def test_classes_are_torchvision_s() -> None:
    assert list(CLOTHES) == FashionMNIST.classes


def test_checksums_in_the_readme_are_those_of_the_files() -> None:
    text = (PROJECT / "data" / "README.md").read_text(encoding="utf-8")
    files = sorted((PROJECT / "data").glob("*/raw/*.gz")) + sorted(
        (PROJECT / "data").glob("weather/*.csv")
    )
    assert len(files) == 9
    for file in files:
        name = file.relative_to(PROJECT / "data").as_posix()
        assert f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" in text


def test_a_limit_keeps_the_first_examples(copy: Path) -> None:
    few = load_images("MNIST", "test", copy, limit=7)
    everything = load_images("MNIST", "test", copy)
    for part in (few, everything.first(7)):
        assert torch.equal(part.images, everything.images[:7])
        assert torch.equal(part.labels, everything.labels[:7])
    assert (len(few), len(everything)) == (7, 10_000)
    assert few.images.untyped_storage().nbytes() == 7 * 28 * 28, "no more is held in memory"


def test_batches_of_images_are_what_to_tensor_makes(copy: Path) -> None:
    few = load_images("MNIST", "test", copy, limit=7)
    (images, labels), (last, _) = few.batches(4)
    expected = torch.stack([to_tensor(image.numpy()) for image in few.images[:4, 0]])
    assert torch.equal(images, expected)
    assert torch.equal(labels, few.labels[:4])
    assert last.shape == (3, 1, 28, 28)


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "one bit":
        path.write_bytes(bytes([*content[:2000], content[2000] ^ 1, *content[2001:]]))
    elif kind == "another split":
        path.write_bytes((RAW / LABELS.replace("t10k", "train")).read_bytes())
    elif kind == "a page":  # of a hotel's network, for example
        path.write_text("<!doctype html><title>Please log in</title>")
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:  # a whole archive of something else
        path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\1\7"))


KINDS = ("missing", "truncated", "empty", "one bit", "another archive", "another split", "a page")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_fetched_anew(copy: Path, mirror: _Server, kind: str) -> None:
    path = copy / "MNIST" / "raw" / LABELS
    original = path.read_bytes()
    damage(path, kind)
    assert len(load_images("MNIST", "test", copy)) == 10_000
    assert path.read_bytes() == original
    assert mirror.requests == REQUESTS_PER_FETCH
    load_images("MNIST", "test", copy)
    assert mirror.requests == REQUESTS_PER_FETCH, "a repaired archive was fetched again"


@pytest.mark.parametrize("kind", [*KINDS, "a folder"])
@pytest.mark.usefixtures("no_network")
def test_a_damaged_archive_without_a_network_is_named_in_one_line(copy: Path, kind: str) -> None:
    path = copy / "MNIST" / "raw" / LABELS
    damage(path, kind)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(RunError) as caught:
        load_images("MNIST", "test", copy)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_mirror_that_serves_a_page_is_left_for_the_next(
    copy: Path, mirror: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / LABELS).write_text("<!doctype html><title>Please log in</title>")
    handler = functools.partial(_Handler, directory=tmp_path / "page")
    with _Server(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{other.server_address[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [address, *MNIST.mirrors])
        damage(copy / "MNIST" / "raw" / LABELS, "missing")
        assert len(load_images("MNIST", "test", copy)) == 10_000
        other.shutdown()
    assert (other.requests, mirror.requests) == (REQUESTS_PER_FETCH, REQUESTS_PER_FETCH)


def test_loading_writes_nothing_and_ignores_what_others_unpacked(copy: Path) -> None:
    """A read-only folder works, and so does one in which another program left half a file."""
    (copy / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"half a fi")
    before = sorted(path.name for path in copy.rglob("*"))
    assert len(load_images("MNIST", "test", copy)) == 10_000
    assert sorted(path.name for path in copy.rglob("*")) == before


@pytest.mark.usefixtures("mirror")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MNIST").write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"is missing and .* cannot be written"):
        load_images("MNIST", "test", tmp_path / "data")


@pytest.mark.usefixtures("mirror")
def test_a_disk_that_is_full_while_fetching_is_no_missing_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
        load_images("MNIST", "test", tmp_path)


@pytest.mark.usefixtures("mirror")
def test_a_folder_that_refuses_is_not_asked_by_tempfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows `tempfile` takes the refusal for a name that is taken, and tries for hours."""

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)"):
        load_images("MNIST", "test", tmp_path)
    with pytest.raises(UsageError, match=r"cannot be written \(Permission denied\)"):
        check_writable(tmp_path)


def test_runs_that_start_together_fetch_an_archive_once(copy: Path, mirror: _Server) -> None:
    damage(copy / "MNIST" / "raw" / LABELS, "truncated")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: load_images("MNIST", "test", copy).labels, range(4)))
    assert all(torch.equal(labels, results[0]) for labels in results)
    assert mirror.requests == REQUESTS_PER_FETCH


def numbered(count: int) -> InMemoryDataset:
    return InMemoryDataset(
        torch.arange(count).view(-1, 1), torch.arange(count) * 10, transform=double
    )


def double(inputs: torch.Tensor) -> torch.Tensor:
    return inputs * 2


def test_batches_equal_those_of_the_ordinary_loader() -> None:
    """The same order and numbers as `DataLoader` with per-example access and that generator."""
    data = numbered(23)

    class PerExample(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return data[index]

    ordinary = DataLoader(PerExample(), 5, shuffle=True, generator=torch.Generator().manual_seed(4))
    for (inputs, targets), (expected_inputs, expected_targets) in zip(
        make_loader(data, 5, shuffle=True, seed=4), ordinary, strict=True
    ):
        assert torch.equal(inputs, expected_inputs)
        assert torch.equal(targets, expected_targets)


def test_every_example_comes_once_and_the_last_batch_may_be_smaller() -> None:
    batches = list(make_loader(numbered(23), 5, shuffle=True, seed=1))
    assert [len(inputs) for inputs, _ in batches] == [5, 5, 5, 5, 3]
    assert torch.equal(
        torch.cat([targets for _, targets in batches]).sort().values, torch.arange(23) * 10
    )
    order = torch.cat([targets for _, targets in make_loader(numbered(23), 5)])
    assert torch.equal(order, torch.arange(23) * 10)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 inputs but 2 targets"):
        InMemoryDataset(torch.zeros(3), torch.zeros(2))


@pytest.mark.parametrize(("count", "size", "sizes"), [
    (9, 4, [4, 4]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3])])  # fmt: skip
def test_a_last_batch_of_one_can_be_left_out(count: int, size: int, sizes: list[int]) -> None:
    loader = make_loader(numbered(count), size, no_single=True)
    assert [len(inputs) for inputs, _ in loader] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize(("count", "size"), [(1, 4), (9, 1)])
def test_batches_of_one_alone_are_refused(count: int, size: int) -> None:
    with pytest.raises(UsageError, match="batch norm needs two examples in a batch"):
        make_loader(numbered(count), size, no_single=True)
