"""What document 2 says of PyTorch, tried out: what `mnist_cnn.py --explain` prints.

Nothing here needs a trained network. The loss functions and the blocks have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.bounds import above, at_most, exactly
from common.claims import Claim
from common.layers import count_parameters, sides
from common.runs import Run
from common.terminal import print_table, say
from reports.mnist_cnn_blocks import (
    QUESTIONS,
    ROUNDING,
    largest_difference,
    of_their_size,
    unequal_shapes,
    weighted_marks,
)
from reports.mnist_cnn_losses import loss_functions

CLAIMS = (
    Claim("2.1c", "of 6 numbers, how many change through a view",
          "shared memory", "shared_by_view", exactly(6), "{:.0f}", QUESTIONS),
    Claim("2.1d", "of 6 numbers of a view, how many change through the tensor",
          "change one, and the other changes", "shared_with_view", exactly(6), "{:.0f}",
          QUESTIONS),
    Claim("2.1e", "ToTensor and pixel ÷ 255: largest difference",
          "0–255 becomes 0–1", "to_tensor_difference", at_most(ROUNDING), "{:.1g}", QUESTIONS),
    Claim("2.1f", "Normalize and its formula, channel by channel: largest difference",
          "(image − mean) / std", "normalize_difference", at_most(ROUNDING), "{:.1g}", QUESTIONS),
    Claim("2.1g", "kinds of image, other than a tensor of floats, that Normalize accepts",
          "a tensor of floats only", "normalize_accepts", exactly(0), "{:.0f}", QUESTIONS),
    Claim("2.4a", "Linear and xA + b: largest difference, compared with the numbers' size",
          "y = xA + b", "linear_difference", at_most(ROUNDING), "{:.1g}", QUESTIONS),
    Claim("2.4b", "parameters of the basic network without a gradient after backward()",
          "Module does it by itself", "without_gradient", exactly(0), "{:.0f}", QUESTIONS),
    Claim("2.4c", "parameters of the basic network that model.parameters() leaves out",
          "looks at every unit, takes its weights", "left_out_parameters", exactly(0), "{:.0f}",
          QUESTIONS),
    Claim("2.4i", "without zero_grad(): by how much the second gradient is wrong, compared with "
          "its size", "remember zero_grad() before backward()", "gradient_error", above(0.01),
          "{:.0%}", QUESTIONS),
)  # fmt: skip

UPDATES = 20
Batch = tuple[Tensor, Tensor]  # normalised images B×1×28×28, labels B


def try_out(run: Run, make_network: Callable[[], nn.Module], batches: Iterable[Batch]) -> str:
    """Tries out the document's statements in its order; returns the closing sentence.

    `make_network` gives the basic network; `batches` are normalised images and labels.
    """
    shown = list(islice(cycle(batches), UPDATES))  # with --limit there may be fewer
    normalising(run)
    linear_layer(run)
    views(run)
    template(run, make_network(), shown[0])
    loss_functions(run)
    parameters(run, make_network())
    clearing(run, make_network, shown)
    weighted_marks(run)
    unequal_shapes(run)
    return (
        "These were the document's statements about PyTorch, each tried out. Open "
        "cross_entropy.png. Next: python mnist_cnn.py, which trains its network."
    )


# 1. The data: pixels to numbers, and tensors that share memory

def normalising(run: Run) -> None:
    """Prints what ToTensor and Normalize make of a pixel, and which images Normalize refuses."""
    # Here, not above: importing torchvision takes as long as importing torch.
    from torchvision.transforms import Compose, Normalize, ToTensor

    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)  # H×W×C
    image = Image.fromarray(levels)  # each grey level once, in three channels
    means, deviations = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    scaled = ToTensor()(image)  # 3×16×16
    normalised = Compose([ToTensor(), Normalize(means, deviations)])(image)
    by_hand = torch.from_numpy(levels).permute(2, 0, 1).double() / 255
    rows, differences = [], []
    for channel, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        formula = (by_hand[channel] - mean) / deviation
        differences.append(largest_difference(normalised[channel], formula))
        place = (channel, 12, 12)  # grey level 204
        rows.append([
            channel, 204, f"{scaled[place]:.4f}", mean, deviation,
            f"{formula[12, 12]:.4f}", f"{normalised[place]:.4f}",
        ])  # fmt: skip
    print_table(
        "ToTensor: pixel ÷ 255. Normalize: (image − mean) / std, each channel with its own",
        ["channel", "pixel", "ToTensor", "mean", "std", "by hand", "Normalize"], rows,
    )  # fmt: skip
    kinds = {"a PIL image": image, "an ndarray": levels, "a tensor of bytes": torch.tensor(levels)}
    refused = []
    for kind, picture in kinds.items():
        try:
            Normalize(means, deviations)(picture)
        except TypeError:
            refused.append(kind)
    run.metrics |= {
        "to_tensor_difference": (scaled - by_hand).abs().max().item(),
        "normalize_difference": max(differences),
        "normalize_accepts": len(kinds) - len(refused),
    }
    say(f"Normalize refuses: {', '.join(refused) or 'nothing'}.")


def views(run: Run) -> None:
    """Prints how a tensor and its view change each other."""
    numbers = torch.arange(6)
    view = numbers.view(2, -1)  # 2×3: -1 stands for the size that fits
    view += 100
    through_view = int((numbers >= 100).sum())
    say(
        f"\nThe six numbers 0 to 5, viewed as (2, −1), are {sides(view.shape)}. After 100 was "
        f"added to the view, the numbers are {numbers.tolist()}: {through_view} of 6 changed."
    )
    numbers.zero_()
    through_tensor = int((view == 0).sum())
    say(f"After the numbers were set to 0, the view is {view.tolist()}: {through_tensor} of 6.")
    run.metrics |= {"shared_by_view": through_view, "shared_with_view": through_tensor}


# 2. The model: a linear layer, gradients without a line of code, what parameters() collects

def linear_layer(run: Run) -> None:
    """Compares a linear layer with xA + b."""
    layer, features = nn.Linear(320, 10), torch.randn(64, 320)
    with torch.inference_mode():
        by_hand = features.double() @ layer.weight.double().T + layer.bias.double()
        difference = largest_difference(layer(features), by_hand)
    run.metrics["linear_difference"] = difference
    say(
        f"\nnn.Linear(320, 10) and xA + b differ by {of_their_size(difference)}. PyTorch stores "
        f"A's transpose, {sides(layer.weight.shape)}. The document calls the arguments in_channels "
        "and out_channels; they are in_features and out_features."
    )


def template(run: Run, model: nn.Module, batch: Batch) -> None:
    """Counts the parameters that have a gradient after backward()."""
    images, labels = batch
    cross_entropy(model(images), labels).backward()
    tensors = list(model.parameters())
    missing = sum(parameter.grad is None for parameter in tensors)
    run.metrics["without_gradient"] = missing
    say(
        f"\n{type(model).__name__} has __init__ and forward; nobody wrote its backward. After "
        f"loss.backward() {len(tensors) - missing} of its {len(tensors)} parameter tensors "
        "have a gradient."
    )


class Nested(nn.Module):
    """A layer, a layer in a module, and a layer in a Python list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.inner = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
        self.hidden = [nn.Linear(2, 2)]


def all_parameters(part: object) -> list[nn.Parameter]:
    """Every parameter inside a module, also those in its lists and dictionaries."""
    if isinstance(part, nn.Parameter):
        return [part]
    if isinstance(part, nn.Module):
        part = vars(part)
    if isinstance(part, dict):
        part = list(part.values())
    found = []
    if isinstance(part, list | tuple):
        for inner in part:
            found += all_parameters(inner)
    return found


def left_out(model: nn.Module) -> int:
    """How many parameters inside a model are not among `model.parameters()`."""
    collected = {id(parameter) for parameter in model.parameters()}
    return sum(id(parameter) not in collected for parameter in all_parameters(model))


def parameters(run: Run, model: nn.Module) -> None:
    """Prints what parameters() collects from a module in a module and from a Python list."""
    nested = Nested()
    collected = {id(parameter) for parameter in nested.parameters()}
    layers = {"first": nested.first, "inner.1": nested.inner[1], "hidden[0]": nested.hidden[0]}
    rows = []
    for place, layer in layers.items():
        for name, parameter in layer.named_parameters():
            answer = "yes" if id(parameter) in collected else "no"
            rows.append([f"{place}.{name}", sides(parameter.shape), parameter.numel(), answer])
    print_table(
        "What model.parameters() collects: `inner` is a module, `hidden` a Python list",
        ["parameter", "shape", "numbers", "collected"], rows,
    )  # fmt: skip
    numbers = sum(parameter.numel() for parameter in all_parameters(nested))
    in_a_module_list = count_parameters(nn.ModuleList(nested.hidden))
    run.metrics["left_out_parameters"] = left_out(model)
    say(
        f"Collected: {count_parameters(nested)} of {numbers} numbers. No optimizer would train the "
        f"layer in the list. An nn.ModuleList would give its {in_a_module_list} numbers too. Of "
        f"the basic network's parameters {left_out(model)} are left out."
    )


# 3. Training: why gradients are cleared, and when

def clearing(run: Run, make_network: Callable[[], nn.Module], batches: Sequence[Batch]) -> None:
    """Prints the gradient of a second batch without clearing, and compares two times to clear."""
    first, second = batches[:2]
    model = make_network()
    alone = [gradient(model, first), gradient(model, second)]
    gradient(model, first)
    uncleared = gradient(model, second, clear=False)
    error = ((uncleared - alone[1]).norm() / alone[1].norm()).item()
    from_sum = largest_difference(uncleared, alone[0] + alone[1])
    rows = [["batch 1", "yes", f"{alone[0].norm():.4f}"],
            ["batch 2", "yes", f"{alone[1].norm():.4f}"],
            ["batch 2", "no", f"{uncleared.norm():.4f}"]]  # fmt: skip
    print_table(
        "backward() adds to the gradients that are there",
        ["gradient of", "cleared before", "norm"], rows,
    )  # fmt: skip
    trained = []
    for clear_first in (True, False):
        torch.manual_seed(run.seed)
        trained.append(after_updates(make_network(), batches, clear_first))
    between = (trained[0] - trained[1]).abs().max().item()
    run.metrics |= {"gradient_error": error, "clearing_order_difference": between}
    say(
        f"Without clearing, batch 2's gradient is wrong by {error:.0%} of its size: what is "
        f"there is the sum of both batches' gradients (to {from_sum:.1g} of its size). The "
        f"document clears before backward(), this project after step(): after {UPDATES} "
        f"updates the parameters differ by {between:.1g}."
    )


def gradient(model: nn.Module, batch: Batch, *, clear: bool = True) -> Tensor:
    """All parameters' gradients of a batch's loss in one row, after clearing them or not."""
    if clear:
        model.zero_grad()
    images, labels = batch
    cross_entropy(model(images), labels).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([values.flatten() for values in gradients if values is not None])


def after_updates(model: nn.Module, batches: Sequence[Batch], clear_first: bool) -> Tensor:
    """All parameters in one row after these updates: cleared before backward() or after step()."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    for images, labels in batches:
        loss = cross_entropy(model(images), labels)
        if clear_first:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not clear_first:
            optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

