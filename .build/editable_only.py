"""Builds editable installs only.

The scripts read `data/` beside them, and `common` is no name for a package among all others.
"""

from typing import Any, NoReturn

from setuptools import build_meta

build_editable = build_meta.build_editable
get_requires_for_build_editable = build_meta.get_requires_for_build_editable
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def build_wheel(*_: Any, **__: Any) -> NoReturn:
    """Refuses; pip shows the reason."""
    raise SystemExit("first-networks runs from its folder: clone it and use `pip install -e .`")


build_sdist = build_wheel
