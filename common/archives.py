"""The official archives of MNIST and Fashion-MNIST: verified when they are read, or fetched."""

from __future__ import annotations

import errno
import gzip
import hashlib
import socket
import tempfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from common.errors import RunError
from common.files import check_can_write, lock_for

# MD5 checksums, as torchvision has them. It is imported only to fetch an archive: importing it
# takes as long as importing torch.
CHECKSUMS = {
    "MNIST": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # the second: a quota
STALL_SECONDS = 30.0  # a mirror that is silent for so long is left for the next one


def read_archive(name: str, file: str, data_dir: Path) -> bytes:
    """The unpacked content of one of the archives of `MNIST` or `FashionMNIST`.

    One that is missing or damaged is fetched from torchvision's mirrors; RunError names it where
    that fails.
    """
    path = data_dir / name / "raw" / file
    content = _read_verified(path, CHECKSUMS[name][file])
    if content is None:
        content = _fetch(name, path)
    return gzip.decompress(content)


def _read_verified(path: Path, md5: str) -> bytes | None:
    content = path.read_bytes() if path.is_file() else b""
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _fetch(name: str, path: Path) -> bytes:
    """Downloads an archive beside its place and moves it there whole, one process at a time."""
    from torchvision import datasets

    md5 = CHECKSUMS[name][path.name]
    wrong = "is damaged" if path.exists() else "is missing"
    made = [folder for folder in path.parents if not folder.exists()]
    print(f"{path} {wrong}; fetching it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_can_write(path)
        with lock_for(path), tempfile.TemporaryDirectory(dir=path.parent) as beside:
            content = _read_verified(path, md5)  # another process may have fetched it meanwhile
            for mirror in getattr(datasets, name).mirrors:
                if content is None:
                    content = _try_download(mirror + path.name, Path(beside), md5)
                    if content is not None:
                        (Path(beside) / path.name).replace(path)
    except OSError as error:
        raise RunError(
            f"{path} {wrong} and {path.parent} cannot be written ({error.strerror})"
        ) from None
    if content is None:
        with suppress(OSError):  # another process may have deleted it, or be writing there
            for folder in made:
                folder.rmdir()
        raise RunError(
            f"{path} {wrong} and no mirror gave it; "
            "put the official archive there (data/README.md)"
        )
    return content


def _try_download(url: str, folder: Path, md5: str) -> bytes | None:
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        download_url(url, folder, md5=md5)
    except (OSError, RuntimeError, HTTPException) as error:
        if getattr(error, "errno", None) in DISK_FULL:  # here, not there
            raise
        return None
    finally:
        socket.setdefaulttimeout(before)
    return _read_verified(folder / url.rsplit("/", 1)[1], md5)
