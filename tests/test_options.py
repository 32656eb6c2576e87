"""Wrong values for every option of every script: one line, exit code 2, nothing left behind."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.cli import PROJECT, add_data_flag, add_run_flags
from common.config import as_json, write_json
from common.errors import UsageError
from common.parser import OneLineParser, all_seeds, make_parser
from common.restart import check_can_resume

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
    if action.dest == "weights":  # looked at only after what is to be recognised
        good = PROJECT / "docs" / "better_question.png"
        days = PROJECT / "data" / "weather" / "seattle-weather.csv"
        words += ["--predict", str(days if script == "recipes.weather" else good)]
    said = refused(importlib.import_module(script).main, *words)
    assert ": error: " in said


RESUMABLE = ("fashion_cnn", "fashion_cnn --compare --seeds 1,2", "line_regression --lr 0.01",
             "fmnist_hyperparams", "fmnist_hyperparams --all", "fmnist_hyperparams l1 --seeds 3,4",
             "fmnist_hyperparams --section 5.9", "mnist_cnn", "mnist_cnn --model basic --seed 3",
             "mnist_cnn --model all --seeds 1,2", "mnist_mlp", "mnist_mlp --widths 8,16",
             "recipes.digits_cnn", "recipes.digits_mlp --validate", "recipes.fashion --seeds 1,2",
             "recipes.fashion --ladder", "recipes.lines", "recipes.sprint --seeds 1,2",
             "recipes.weather", "recipes.weather --ladder")  # fmt: skip


@pytest.mark.parametrize("command", RESUMABLE)
def test_the_command_that_continues_a_run_has_its_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run prints it: `--out-dir DIR --resume`; the rest is in `config.json`."""
    script, *words = command.split()
    module = importlib.import_module(script)
    started: list[dict[str, object]] = []

    def stop(_: str, options: argparse.Namespace, *__: object, **___: object) -> None:
        started.append(as_json(vars(options)))
        raise Found

    monkeypatch.setattr(module, "start_run", stop)
    there = ["--out-dir", str(tmp_path)]
    for arguments in ([*words, *there], [*there, "--resume"]):
        with pytest.raises(Found):
            module.main(arguments)
        write_json(tmp_path / "config.json", {"options": started[0]})
    assert started[1] == {**started[0], "resume": True}


@pytest.mark.parametrize("option", [{"model": "bAsic"}, {"precision": "fp33"}])
def test_a_damaged_choice_of_a_run_is_refused(
    option: dict[str, str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "config.json", {"script": "mnist_cnn.py", "options": option})
    main = importlib.import_module("mnist_cnn").main
    said = refused(main, "--out-dir", tmp_path / "run", "--resume")
    name, value = next(iter(option.items()))
    assert f"argument --{name}: invalid choice: '{value}'" in said


def test_an_argument_that_is_none_is_one_line(refused: Callable[..., str]) -> None:
    main = importlib.import_module("mnist_cnn").main
    assert "unrecognized arguments: a b?[2J" in refused(main, "a\nb\x1b[2J")


def test_a_run_goes_on_where_its_data_have_moved(tmp_path: Path) -> None:
    """As with the whole project: the data are known by their checksums, not by their place."""
    (tmp_path / "data").mkdir()
    options = {"data_dir": str(tmp_path / "gone"), "seed": 0}
    write_json(tmp_path / "config.json", {"script": "mnist_cnn.py", "options": options})
    parser = make_parser(None)
    add_data_flag(parser)
    add_run_flags(parser, resumable=True)
    there = ["--out-dir", str(tmp_path), "--resume"]
    assert parser.parse_args(there).data_dir == PROJECT / "data"
    given = parser.parse_args([*there, "--data-dir", str(tmp_path / "data")])
    assert given.data_dir == tmp_path / "data"
    check_can_resume(tmp_path, {"data_dir": str(given.data_dir), "seed": 0}, torch.float32)


def test_the_first_of_several_seeds_is_the_run_s() -> None:
    options = argparse.Namespace(seed=0, seeds=(3, 4))
    assert all_seeds(options) == (3, 4)
    assert options.seed == 3
    assert all_seeds(argparse.Namespace(seed=7, seeds=None), 3) == (7, 8, 9)
    with pytest.raises(UsageError, match="--seed 9 is not the first of --seeds"):
        all_seeds(argparse.Namespace(seed=9, seeds=(0, 1)))


def test_a_folder_s_name_that_no_folder_can_have_is_one_line(refused: Callable[..., str]) -> None:
    main = importlib.import_module("mnist_cnn").main
    assert "File name too long" in refused(main, "--out-dir", "x" * 300)


def test_a_continued_run_reads_the_same_files(tmp_path: Path) -> None:
    parser = make_parser(None)
    parser.add_argument("--predict", type=Path, nargs="+")
    add_run_flags(parser, resumable=True)
    files = ["a.png", "b,c.png"]
    write_json(tmp_path / "config.json", {"options": {"predict": files}})
    options = parser.parse_args(["--out-dir", str(tmp_path), "--resume"])
    assert options.predict == [Path(name) for name in files]
