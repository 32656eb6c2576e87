"""Where the arithmetic runs, in which precision, and from which seed."""

from __future__ import annotations

import contextlib
import os
import warnings

import torch

from common.errors import UsageError
from common.terminal import say


def select_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes an accelerator where there is one, otherwise the CPU.

    Raises UsageError where the name is no device or the device cannot be used here.
    """
    accelerator = accelerator_here()
    if name == "auto":
        if accelerator is None or not computes(accelerator):
            return torch.device("cpu")
        return own_share_of(accelerator)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old names, such as mkldnn
            device = torch.device(name)
        is_usable = computes(device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        is_usable = False
    if not is_usable:
        works = accelerator is not None and computes(accelerator)
        usable = f"cpu or {accelerator}" if works else "cpu"
        raise UsageError(f"--device {name}: no such device here; accepted: auto, {usable}")
    return own_share_of(device)


def accelerator_here() -> torch.device | None:
    """The kind of GPU that PyTorch finds on this machine, whether it can be used or not."""
    if not torch.accelerator.is_available():
        return None
    return torch.accelerator.current_accelerator()


def computes(device: torch.device) -> bool:
    """Whether the device can be used: a name may be valid for another build or machine, and a GPU
    may be older than what this build of PyTorch has code for.

    A GPU whose memory is full raises torch.OutOfMemoryError: it could be used.
    """
    try:
        return torch.ones(1, device=device).add(1).item() == 2
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, ImportError) as error:
        if "out of memory" in str(error):  # torch's error, or CUDA's own
            raise torch.OutOfMemoryError(str(error)) from None
        return False


def own_share_of(device: torch.device) -> torch.device:
    """One of several GPUs for each of torchrun's processes on this machine; a GPU that was chosen
    by its number stays the same for all."""
    if device.type == "cpu" or device != torch.device(device.type):
        return device
    place = int(os.environ.get("LOCAL_RANK", 0)) % torch.accelerator.device_count()
    return torch.device(device.type, place) if place else device


def say_where(device: torch.device) -> None:
    """Says what is computed on, where there is a choice."""
    accelerator = accelerator_here()
    if device.type != "cpu":
        say(f"Computing on {device}; --device cpu computes on the processor.")
        return
    if accelerator is None:
        return
    try:
        usable = computes(accelerator)
    except torch.OutOfMemoryError:
        usable = True
    if usable:
        say(f"Computing on the processor; --device {accelerator} computes on the GPU.")
    else:
        say(f"Computing on the processor; this PyTorch cannot use the GPU ({accelerator}).")


def seed_everything(seed: int) -> None:
    """Seeds torch on every device; all randomness of this project is torch's."""
    torch.manual_seed(seed)


def configure_numerics() -> bool:
    """Makes runs repeatable and keeps them fast; called before anything is computed.

    Adam's moments of pixels that are always black decay into denormal floats, on which a CPU is
    many times slower. Flushing them to zero changes no result beyond 1e-38. Returns whether this
    processor can.
    """
    flushes = torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # fp32 means all of its 24 bits, also in convolutions
    return flushes


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16 for `fp32`, `bf16` or `auto` (bfloat16 where the hardware has it).

    Raises UsageError for `bf16` on hardware without it: an emulated bfloat16 is slower than
    float32.
    """
    if name == "fp32":
        return torch.float32
    supported = _has_bfloat16(device)
    if name == "bf16" and not supported:
        raise UsageError(
            f"--precision bf16: {device} here does not compute in bfloat16; accepted: fp32, auto"
        )
    return torch.bfloat16 if supported else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """The context of forward passes: nothing for float32, `torch.autocast` for bfloat16."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def can_fuse(device: torch.device) -> bool:
    """Whether to use the fused form of PyTorch's optimizers: faster on the CPU and on CUDA.

    MPS and XPU have one too; it is not measured here.
    """
    return device.type in ("cpu", "cuda")
