"""A parser of command lines: errors in one line, the options of a continued run, checks of some."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.config import HOW_STARTED, read_options
from common.errors import UsageError
from common.terminal import one_line


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest flag where one was mistyped.

    With `--resume` and `--out-dir` the options of the run there are the defaults.
    """

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        for argument in arguments:
            if re.fullmatch("--[a-z-]+=--", argument):  # argparse would take it for no value
                self.error(f"argument {argument[:-3]}: '--' is no value")
        self.set_defaults(**self._options_of_the_run(arguments))
        return super().parse_args(arguments, namespace)

    def _options_of_the_run(self, arguments: Sequence[str]) -> dict[str, Any]:
        """What `config.json` says of the run that is to be continued; nothing without one."""
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        finder.add_argument("--resume", action="store_true")
        finder.add_argument("--out-dir", type=Path)
        try:
            found, _ = finder.parse_known_args(arguments)
        except argparse.ArgumentError:
            return {}
        before = read_options(found.out_dir) if found.resume and found.out_dir else None
        options: dict[str, Any] = {}
        for action in self._actions:
            value = None if before is None else before.get(action.dest)
            if value is None or action.dest in HOW_STARTED:
                continue
            parts = [str(part) for part in (value if isinstance(value, list) else [value])]
            if action.nargs == "+":  # the files of --predict
                value = [Path(part) for part in parts]
            elif action.type or action.choices:  # one value, or numbers with commas between them
                value = self._checked(action, ",".join(parts))
            options[action.dest] = value
        return options

    def _checked(self, action: argparse.Action, text: str) -> Any:
        """The value of a text, which is checked as if it stood on the command line."""
        try:
            value = self._get_value(action, text)
            self._check_value(action, value)
            return value
        except argparse.ArgumentError as error:
            self.error(str(error))

    def error(self, message: str) -> NoReturn:
        line = f"{self.prog}: error: {message}{self._suggestion(message)} (see --help)"
        self.exit(2, one_line(" ".join(line.splitlines())) + "\n")

    def _suggestion(self, message: str) -> str:
        if not message.startswith("unrecognized arguments: -"):
            return ""
        typo = message.split()[2].split("=")[0]
        near = difflib.get_close_matches(typo, self._option_string_actions, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def make_parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` opens with the script's docstring; flags cannot be shortened."""
    return OneLineParser(
        description=docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse_own(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """The options of a command line, with the flags for a learner's own folders and files.

    Raises UsageError where one of these flags lacks another that it belongs to.
    """
    add = parser.add_argument_group("your own images").add_argument
    add("--train-folder", type=Path, metavar="DIR",
        help="train on your own images: a folder with a subfolder for each class")
    add("--test-folder", type=Path, metavar="DIR",
        help="test on these (default: every fifth image of --train-folder)")
    add("--predict", type=Path, nargs="+", metavar="FILE", help="classify your own images")
    add("--weights", type=Path, metavar="FILE",
        help="the network for --predict (default: model.pt of the newest finished run)")
    options = parser.parse_args(argv)
    check_predict(options, parser)
    if options.test_folder and not options.train_folder:
        raise UsageError("--test-folder belongs to --train-folder DIR")
    return options


# What --predict uses; every other option is about training.
USED_BY_PREDICT = ("predict", "weights", "data_dir", "device", "out_dir", "overwrite", "resume")


def check_predict(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises UsageError for --weights without --predict, and for options that it would ignore."""
    if not options.predict:
        if options.weights != parser.get_default("weights"):
            raise UsageError("--weights names the network for --predict FILE")
        return
    for name, value in vars(options).items():
        if name not in USED_BY_PREDICT and value != parser.get_default(name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"--predict uses a network that is trained already: no {flag}")


def study_seeds(options: argparse.Namespace, study: str) -> tuple[int, ...] | None:
    """The seeds of a study: those of --seeds, or five from --seed on; None without the study.

    `study` is the name of its option. Raises UsageError for --seeds without it.
    """
    if not getattr(options, study):
        if options.seeds:
            raise UsageError(f"--seeds belongs to --{study}; one training takes --seed N")
        return None
    return all_seeds(options, 5)


def all_seeds(options: argparse.Namespace, count: int = 1) -> tuple[int, ...]:
    """The seeds of --seeds, or so many from --seed on; the first is then the run's own seed.

    Raises UsageError where --seed is neither 0, its default, nor the first of --seeds.
    """
    seeds: tuple[int, ...] = options.seeds or tuple(range(options.seed, options.seed + count))
    if options.seed not in (0, seeds[0]):
        raise UsageError(f"--seed {options.seed} is not the first of --seeds; give one of them")
    options.seed = seeds[0]
    return seeds
