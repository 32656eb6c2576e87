"""The layers of a network: the size of what comes out, parameters, and multiplications."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def layer_table(model: nn.Module, example: Tensor) -> list[tuple[str, str, int]]:
    """Pushes a dummy batch through; each layer's name, output shape and number of parameters.

    The way of document 1, figure 7, to find a layer's size without arithmetic. The model's mode is
    restored.
    """
    rows: list[tuple[str, str, int]] = []

    def record(layer: nn.Module, _: object, output: Tensor) -> None:
        rows.append((repr(layer), sides(output.shape), count_parameters(layer)))

    hooks = []
    for layer in model.modules():
        if not list(layer.children()):
            hooks.append(layer.register_forward_hook(record))
    was_training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            model(example)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return rows


def sides(shape: Sequence[int]) -> str:
    """A tensor's shape as a person writes it: 16×12×12."""
    return "×".join(str(size) for size in shape)


def count_parameters(model: nn.Module) -> int:
    """The numbers that training changes."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiplications(model: nn.Module, example: Tensor) -> int:
    """Multiplications in the convolutions and linear layers for one example (1×…).

    PyTorch counts each as two operations, a multiplication and an addition.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return int(counter.get_total_flops()) // 2
