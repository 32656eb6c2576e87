"""The layers of a network: the size of what comes out, parameters, and multiplications."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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

    PyTorch counts each as two operations, a multiplication and an addition. The model's mode is
    restored.
    """
    # Here, not above: its import takes half a second, and few runs count.
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    try:
        model.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(example)
    finally:
        model.train(was_training)
    return int(counter.get_total_flops()) // 2


def measured_sides(blocks: Sequence[nn.Sequential]) -> list[int]:
    """The side after each convolution and pooling (pixels), measured on two images of zeros.

    Two, as batch norm needs them where a side is 1; its running means change.
    """
    hidden = torch.zeros(2, 1, 28, 28)
    found = []
    with torch.inference_mode():
        for layer in [layer for block in blocks for layer in block]:
            hidden = layer(hidden)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                found.append(hidden.shape[-1])
    return found


def count_views(first: nn.Sequential, second: nn.Sequential) -> tuple[Tensor, Tensor]:
    """How many outputs see each pixel (28×28): of the first convolution, and of the second block.

    Each block begins with a convolution and has one channel. 784 images have one lit pixel each.
    The blocks are changed: evaluation mode, weights 1, biases 0; then the outputs that see the
    pixel are those above 0. Returns two tensors 28×28 of whole numbers.
    """
    images = torch.eye(28 * 28).view(-1, 1, 28, 28)
    first, second = first.eval(), second.eval()
    for name, parameter in [*first.named_parameters(), *second.named_parameters()]:
        nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    with torch.inference_mode():
        convolved = first[0](images)  # 784×1×28×28; without padding 784×1×24×24
        pooled = second(first(images))  # 784×1×7×7; without padding 784×1×4×4
    counts = [(outputs > 0).sum((1, 2, 3)).view(28, 28) for outputs in (convolved, pooled)]
    return counts[0], counts[1]
