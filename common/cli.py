"""The command line: flags that mean the same in every script, their checks, one-line errors."""

from __future__ import annotations

from common.begin import PROJECT as PROJECT
from common.begin import interruptible
import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.errors import RunError, Terminated, UsageError, failure_of_the_machine
from common.parser import make_parser as make_parser
from common.terminal import one_line, patient_output


def _number(kind: type, accepts: Callable[[Any], bool], accepted: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {accepted}")
        return value

    return parse


def whole_number(at_least: int, at_most: int = 2**63 - 1) -> Callable[[str], int]:
    """An argparse type: a whole number from `at_least` to `at_most`."""
    upper = f" and at most {at_most}" if at_most < 2**63 - 1 else ""
    accepted = f"a whole number of at least {at_least}{upper}"
    return _number(int, lambda value: at_least <= value <= at_most, accepted)


def whole_numbers(at_least: int, at_most: int = 2**63 - 1) -> Callable[[str], tuple[int, ...]]:
    """An argparse type: different whole numbers with commas between them, such as `0,1,2`."""
    one = whole_number(at_least, at_most)

    def parse(text: str) -> tuple[int, ...]:
        numbers = tuple(one(part) for part in text.split(","))
        if len(set(numbers)) < len(numbers):
            raise argparse.ArgumentTypeError(f"{text!r} names a number twice")
        return numbers

    return parse


def existing_folder(text: str) -> Path:
    """An argparse type: a folder that is there; none is made for a mistyped name."""
    try:
        is_folder = bool(text) and Path(text).is_dir()
    except (OSError, ValueError):  # too long a name, a character that no name can have
        is_folder = False
    if not is_folder:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no folder; name one that holds the data sets"
        )
    return Path(text)


def folder_name(text: str) -> Path:
    """An argparse type: the name of a folder, which need not be there."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no folder's name")
    return Path(text)


# Up to the largest float32, which is what weights are.
positive_number = _number(
    float, lambda value: 0 < value < 3.4e38, "a finite number above 0 and below 3.4e38"
)


def add_shared_flags(
    parser: argparse.ArgumentParser, *, epochs: int, batch_size: int, lr: float,
    device: str = "auto",
) -> None:  # fmt: skip
    """Adds the flags that mean the same in every script, with this script's defaults.

    The flags speak of the script's main run; the small studies around it keep their own settings.
    """
    add = parser.add_argument_group("flags of every script with one main training").add_argument
    add("--epochs", type=whole_number(1), default=epochs, metavar="N",
        help="epochs of the main run (default %(default)s)")
    add("--batch-size", type=whole_number(1), default=batch_size, metavar="N",
        help="examples in a batch (default %(default)s)")
    add("--lr", type=positive_number, default=lr, metavar="RATE",
        help="learning rate of the main run (default %(default)s)")
    add("--precision", choices=("fp32", "bf16", "auto"), default="fp32",
        help="number format of training (default %(default)s)")
    add_run_flags(parser, resumable=True, device=device)


def add_run_flags(
    parser: argparse.ArgumentParser, *, resumable: bool = False, device: str = "auto"
) -> None:
    """Adds the flags of every script, also of one without one main training; computes in fp32.

    `resumable` adds --resume; without it `options.resume` is None. `device` is a script's default:
    `cpu` where its networks are so small that a GPU gains little.
    """
    small = "" if device == "auto" else ": so small a network gains little by a GPU"
    add = parser.add_argument_group("flags of every script").add_argument
    add("--seed", type=whole_number(0), default=0, metavar="N",
        help="random seed (default %(default)s)")
    add("--device", default=device, metavar="NAME",
        help="cpu, cuda, cuda:1, mps …, or auto: a GPU if there is one (default "
             f"%(default)s{small})")
    add("--limit", type=whole_number(1), metavar="N",
        help="train and test on at most N examples (default: all)")
    add("--out-dir", type=folder_name, metavar="DIR",
        help="the run's folder (default: a new runs/<script>/<time>-seed<seed>)")
    add("--overwrite", action="store_true", help="replace the run that --out-dir holds")
    if resumable:
        add("--resume", action="store_true",
            help="continue the run that --out-dir holds, from where it stopped")
    else:
        parser.set_defaults(resume=None)
    parser.set_defaults(precision="fp32")


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--data-dir`, for scripts that read data sets from disk."""
    parser.add_argument("--data-dir", type=existing_folder, default=PROJECT / "data", metavar="DIR",
                        help="folder of the data sets (default: data/ of this project)")


def guarded(main: Callable[[Sequence[str] | None], None]) -> Callable[..., None]:
    """Turns what `main` raises into one line on standard error and an exit code.

    2: something the user gave cannot work. 1: the world failed (a full disk, a vanished folder, a
    GPU after sleep) or a training diverged. 130: interrupted, 143: asked to stop. A defect of the
    program itself keeps its traceback.
    """

    @functools.wraps(main)
    def guard(argv: Sequence[str] | None = None) -> None:
        script = Path(main.__globals__["__file__"]).name
        try:
            with interruptible(), patient_output():
                main(argv)
        except UsageError as error:
            _stop(f"{script}: error: {error}", 2)
        except RunError as error:
            _stop(f"{script}: error: {error}", 1)
        except (OSError, MemoryError, RuntimeError) as error:
            failed = failure_of_the_machine(error)
            if failed is None:
                raise
            _stop(f"{script}: error: {failed}", 1)
        except Terminated as request:
            _stop(f"{script}: stopped{request}", 143)
        except KeyboardInterrupt as interruption:
            _stop(f"{script}: interrupted{interruption}", 130)

    return guard


def _stop(line: str, code: int) -> NoReturn:
    print(one_line(" ".join(line.splitlines())), file=sys.stderr)
    raise SystemExit(code)
