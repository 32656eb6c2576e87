"""A device for machines that have none: python -m tests.emulated_device SCRIPT OPTIONS…

Runs a script with `--device emulated`, a device written in Python with PyTorch's means for that
(experimental ones). Its tensors are handles of ordinary ones. As on Apple's GPUs there is no
float64, and as on every device no tensor meets one of the processor's.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "emulated"
aten = torch.ops.aten
# PyTorch has forms of these for every device, which would look into a handle's memory.
OPERATIONS = (
    "_reshape_alias", "as_strided", "count_nonzero", "diagonal", "expand", "flip", "index_select",
    "isfinite", "isnan", "masked_fill.Scalar", "permute", "repeat", "select.int", "slice.Tensor",
    "split.Tensor", "split_with_sizes", "squeeze", "squeeze.dim", "squeeze.dims", "stack", "t",
    "transpose.int", "unbind.int", "unfold", "unsqueeze", "view",
)  # fmt: skip


class Module:
    """What PyTorch asks of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: object) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: object) -> None:
        torch.set_rng_state(state)


content: dict[int, tuple[Tensor, Any]] = {}  # by the storage of the handle, which is kept alive


def is_handle(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def content_of(value: Any) -> Any:
    return content[value.untyped_storage()._cdata][0] if is_handle(value) else value


def handle_of(value: Any) -> Any:
    if not isinstance(value, Tensor) or is_handle(value):
        return value
    if value.dtype == torch.float64:
        raise TypeError(f"there is no float64 on {NAME}")
    handle = torch._C._acc.create_empty_tensor(list(value.shape), value.dtype)
    storage = handle.untyped_storage()
    content[storage._cdata] = (value, storage)
    return handle


def compute(operation: Any, *arguments: Any, **named: Any) -> Any:
    """Any operation, on what the handles stand for."""
    name = operation._schema.name
    if name == "aten::_copy_from":  # from one device to another
        content_of(arguments[1]).copy_(content_of(arguments[0]))
        return arguments[1]
    for value in arguments:
        if isinstance(value, Tensor) and not is_handle(value) and value.dim() > 0:
            raise RuntimeError(f"{name}: a tensor on {value.device} among those on {NAME}")
    if name == "aten::view":  # a handle is contiguous, its content need not be
        operation = aten.reshape.default
    named.pop("pin_memory", None)
    if "device" in named:
        named["device"] = torch.device("cpu")
    given = [*arguments, *named.values()]
    result = operation(*tree_map(content_of, arguments), **tree_map(content_of, named))
    for value in given:
        if is_handle(value):
            if value.shape != content_of(value).shape:  # an operation with `out=`
                value.data = handle_of(content_of(value))
            if result is content_of(value):  # in place
                return value
    return tree_map(handle_of, result)


def convolve(*arguments: Any) -> Any:
    return handle_of(aten.convolution.default(*map(content_of, arguments)))


def convolve_back(*arguments: Any) -> Any:
    gradient, images, weight, *rest = map(content_of, arguments)
    return tree_map(
        handle_of, aten.convolution_backward.default(gradient, images, weight, None, *rest)
    )


def copy_handle(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """In the place of `Tensor.__deepcopy__`, which copies memory."""
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            copy = nn.Parameter(copy, tensor.requires_grad)
        memo[id(tensor)] = copy
    result: Tensor = memo[id(tensor)]
    return result


def to_processor(value: Any) -> Any:
    return value.detach().cpu() if is_handle(value) else value


def set_up() -> list[torch.library.Library]:
    """Registers the device; what it returns must be kept."""
    _setup_privateuseone_for_python_backend(NAME, Module())
    everything, some = (torch.library.Library(name, "IMPL") for name in ("_", "aten"))
    everything.fallback(compute, "PrivateUse1")
    for name in OPERATIONS:
        base, _, overload = name.partition(".")
        operation = getattr(getattr(aten, base), overload or "default")

        def call(*arguments: Any, operation: Any = operation, **named: Any) -> Any:
            return compute(operation, *arguments, **named)

        some.impl(name, call, "PrivateUse1")
    some.impl("convolution_overrideable", convolve, "PrivateUse1")
    some.impl("convolution_backward_overrideable", convolve_back, "PrivateUse1")
    save = torch.save
    torch.save = lambda value, *rest: save(tree_map(to_processor, value), *rest)
    torch.inference_mode = torch.no_grad  # type: ignore[assignment, misc]
    torch.accelerator.synchronize = lambda *_: None
    for kind in (Tensor, nn.Parameter):
        kind.__deepcopy__ = copy_handle  # type: ignore[method-assign, assignment]
    return [everything, some]


if __name__ == "__main__":
    kept = set_up()
    script = importlib.import_module(sys.argv[1])
    if sys.argv[1] == "gradient_demo":  # a few updates instead of thousands
        for table in (script.EXPERIMENTS, script.CONVERGING):
            for name, one in table.items():
                table[name] = script.Experiment(one.batch_size, one.lr, 3)
        script.DEPTHS, script.TRAINED_UPDATES = (2, 3), 2
    script.main([*sys.argv[2:], "--device", NAME])
