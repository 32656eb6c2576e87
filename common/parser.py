"""A parser of command lines: errors in one line, and the options of a run that is continued."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.config import read_options

# Options that a continued run does not take over: how it is started, not what it computes.
NOT_CONTINUED = ("help", "out_dir", "overwrite", "resume", "jobs")


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
            if before is None or action.dest not in before or action.dest in NOT_CONTINUED:
                continue
            value = before[action.dest]
            if action.type is not None and value is not None:  # a text is checked like a flag's
                parts = value if isinstance(value, list) else [value]
                value = ",".join(map(str, parts))
            options[action.dest] = value
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}{self._suggestion(message)} (see --help)\n")

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
