"""What a run writes about itself: its options, its command, the machine."""

from __future__ import annotations

import json
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from common.files import write_text

# Options that say where and how a run is started, not what it computes. The data are compared with
# their checksums, wherever they are.
HOW_STARTED = ("out_dir", "overwrite", "resume", "jobs", "show_errors", "data_dir")

# What of the environment decides a number's last digits.
DECIDES = ("torch", "device", "cpu", "threads")


def write_json(path: Path, content: object) -> None:
    """Writes plain types as JSON, whole or not at all; raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_options(folder: Path) -> dict[str, Any] | None:
    """The options in a folder's `config.json`; None where there are none that can be read."""
    options = _read(folder / "config.json", "options")
    return options if isinstance(options, dict) else None


def read_commands(folder: Path) -> list[str]:
    """The commands in a folder's `config.json`: that which started the run, then those that have
    continued it; none where there are none that can be read."""
    path = folder / "config.json"
    first, later = _read(path, "command"), _read(path, "continued")
    if not isinstance(first, str):
        return []
    return [first, *(later if isinstance(later, list) else [])]


def read_environment(folder: Path) -> dict[str, Any]:
    """What a folder's `environment.json` holds; nothing where there is none that can be read."""
    found = _read(folder / "environment.json")
    return found if isinstance(found, dict) else {}


def read_script(folder: Path) -> str | None:
    """The script in a folder's `config.json`; None where there is none that can be read."""
    script = _read(folder / "config.json", "script")
    return script if isinstance(script, str) else None


def _read(path: Path, name: str | None = None) -> object:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return content if name is None else content[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_json(options: Mapping[str, object]) -> dict[str, object]:
    """Options as JSON gives them back: paths are strings, and tuples are lists."""
    return {name: _as_json(value) for name, value in options.items()}


def _as_json(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _as_json(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN where there is nothing, and for infinity and its negative together."""
    try:
        return statistics.fmean(values)
    except ValueError:
        return math.nan


def mean_or_none(values: float | Sequence[float]) -> float | None:
    """The number, or the mean of several; None where it is not finite, which JSON cannot hold."""
    several = [values] if isinstance(values, float | int) else list(values)
    mean = several[0] if len(several) == 1 else mean_of(several)  # a whole number stays one
    return mean if math.isfinite(mean) else None


def precision_name(dtype: torch.dtype) -> str:
    """What `--precision` calls it."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def environment(device: torch.device, dtype: torch.dtype, seed: int) -> dict[str, object]:
    """Versions, device, processor, precision, as far as they may change a run's numbers.

    The threads are those of this process; the workers of a study or a ladder have one each.
    """
    name = str(device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    processor = torch.cpu.get_capabilities().get("cpu_name")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "device": name,
        "cpu": processor or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "precision": precision_name(dtype),
        "seed": seed,
    }
