"""Wrong values for every option of every script: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.parser import OneLineParser

SCRIPTS = ("fashion_cnn", "fmnist_hyperparams", "gradient_demo", "line_regression", "mnist_cnn",
           "mnist_mlp", "rnn_demo", "recipes.digits_cnn", "recipes.digits_mlp", "recipes.fashion",
           "recipes.lines", "recipes.sprint", "recipes.weather")  # fmt: skip
# What is no number for any option, and no name of anything.
NO_NUMBER = st.one_of(
    st.sampled_from(["", " ", "nan", "inf", "-inf", "-1", "-0.5", "1e400", "0x10", "1,,2", "1,a",
                     "--", "½", "9" * 400, "\x00", "\ud800", "ten", "1 2", "None", "[]"]),
    st.text(alphabet="abcxyz%$#äß数字 ,;\n", min_size=1, max_size=20),
)  # fmt: skip
NO_FILE = st.sampled_from(["", "nowhere/at/all.pth", "x" * 300, "a\nb", "数字.png", "a$b^c.png"])


class Found(Exception):
    """Ends the script as soon as its parser is known."""


def options_of(script: str) -> list[argparse.Action]:
    """The options of a script that take a value."""
    main = importlib.import_module(script).main.__wrapped__
    found: list[argparse.Action] = []

    def stop(parser: OneLineParser, *_: Any) -> None:
        found.extend(parser._actions)
        raise Found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneLineParser, "parse_args", stop)
        with pytest.raises(Found):
            main([])
    return [action for action in found if action.option_strings and action.nargs != 0]


OPTIONS = [(script, action) for script in SCRIPTS for action in options_of(script)]


def wrong_value(action: argparse.Action) -> st.SearchStrategy[str]:
    if action.type is not None and action.dest not in ("out_dir", "predict", "weights"):
        return NO_NUMBER if action.dest != "data_dir" else NO_FILE
    if action.choices is not None or action.dest == "device":
        return NO_NUMBER
    return NO_FILE


@settings(max_examples=150, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(option=st.sampled_from(OPTIONS), data=st.data())
def test_a_wrong_value_is_one_line(
    option: tuple[str, argparse.Action],
    data: st.DataObject,
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    script, action = option
    if action.dest == "out_dir":
        value = "a file"
        Path(tmp_path / value).write_text("mine")
    else:
        value = data.draw(wrong_value(action))
    name = action.option_strings[0]
    words = [f"{name}={value}"] if action.nargs is None else [name, value]
    if action.dest == "weights":
        words += ["--predict", "nowhere.png"]
    said = refused(importlib.import_module(script).main, *words)
    assert ": error: " in said
