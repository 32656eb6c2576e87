"""Document 2's 1×1 convolution and residual block, for `mnist_cnn.py --explain`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.bounds import at_most, exactly
from common.claims import Claim
from common.layers import sides
from common.runs import Run
from common.terminal import print_table, say

QUESTIONS = {"explain": True}
ROUNDING = 1e-5  # float32 has seven digits; the last ones differ with the order of the additions

CLAIMS = (
    Claim("2.5d", "a 1×1 convolution and weighted sums of the channels: largest difference, "
          "compared with the numbers' size", "merges the channels, like weighted school marks",
          "weighted_sum_difference", at_most(ROUNDING), "{:.1g}", QUESTIONS),
    Claim("2.8a", "unequal shapes of x and F(x), of 2, that PyTorch adds",
          "the shape must stay the same", "unequal_shapes_added", exactly(0), "{:.0f}", QUESTIONS),
    Claim("2.8b", "ways out, of 2 for each of 2 shapes, that give the shape of F(x)",
          "transform x too, or no skip connection", "ways_out", exactly(4), "{:.0f}", QUESTIONS),
)  # fmt: skip


def largest_difference(values: Tensor, reference: Tensor) -> float:
    """The largest difference, as a fraction of the reference's largest number."""
    return ((values - reference).abs().max() / reference.abs().max()).item()


def of_their_size(difference: float) -> str:
    """A largest difference in words."""
    words = f"{difference:.1g} of their size"
    return f"{words}, which is rounding" if difference <= ROUNDING else words


# 1. The 1×1 convolution: a weighted sum of the channels

SUBJECTS = {"maths": 0.5, "language": 0.3, "art": 0.2}  # and their weights
MARKS = {"Ann": (90.0, 60.0, 70.0), "Ben": (60.0, 90.0, 80.0), "Eve": (75.0, 75.0, 75.0)}


def weighted_marks(run: Run) -> None:
    """Prints three pupils' weighted marks, by hand and by a 1×1 convolution."""
    marks = torch.tensor(list(MARKS.values()))  # pupils × subjects
    image = marks.T.reshape(1, 3, 1, 3)  # a pixel for each pupil, a channel for each subject
    merge = nn.Conv2d(3, 1, 1, bias=False)
    with torch.inference_mode():
        merge.weight.copy_(torch.tensor(list(SUBJECTS.values())).view(1, 3, 1, 1))
        merged = merge(image).flatten().tolist()
    rows = []
    for (pupil, numbers), result in zip(MARKS.items(), merged, strict=True):
        by_hand = sum(w * mark for w, mark in zip(SUBJECTS.values(), numbers, strict=True))
        rows.append([pupil, *numbers, f"{by_hand:.1f}", f"{result:.1f}"])
    shares = ", ".join(f"{subject} {weight}" for subject, weight in SUBJECTS.items())
    print_table(
        f"A 1×1 convolution is a weighted mark. Weights: {shares}",
        ["pupil (pixel)", *SUBJECTS, "by hand", "nn.Conv2d"], rows,
    )  # fmt: skip
    layer, hidden = nn.Conv2d(192, 16, 1, bias=False), torch.randn(2, 192, 28, 28)
    with torch.inference_mode():
        weights = layer.weight.double()[:, :, 0, 0]  # 16×192
        sums = torch.einsum("oi,bihw->bohw", weights, hidden.double())
        difference = largest_difference(layer(hidden), sums)
    run.metrics["weighted_sum_difference"] = difference
    say(
        "Each channel that comes out is such a sum, with weights of its own, which are learned. "
        "The 1×1 convolution before the 5×5 one turns 192 channels into 16. It and 16 weighted "
        f"sums differ by {of_their_size(difference)}."
    )


# 2. Residual blocks: x and F(x) of unequal shapes

def unequal_shapes(run: Run) -> None:
    """Prints what happens where x and F(x) have unequal shapes, and the document's two ways out."""
    x = torch.randn(1, 16, 12, 12)
    same = nn.Conv2d(16, 16, 3, padding=1)
    changes = {  # F, and what x may go through
        "more channels": (nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(16, 32, 1)),
        "smaller sides": (
            nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 1, stride=2)
        ),
    }  # fmt: skip
    rows = [["the same shape", "x + F(x)", shape_of(same(x)), shape_of(x + same(x))]]
    messages, right = [], 0
    for name, (convolve, transform) in changes.items():
        change = convolve(x)
        try:
            result = shape_of(x + change)
        except RuntimeError as error:
            result = "error"
            messages.append(f"{shape_of(x)} + {shape_of(change)}: {error}")
        rows.append([name, "x + F(x)", shape_of(change), result])
        ways = {"x transformed + F(x)": transform(x) + change, "F(x), no skip": change}
        for way, total in ways.items():
            right += total.shape == change.shape
            rows.append([name, way, shape_of(change), shape_of(total)])
    print_table(
        f"A residual block adds x, {shape_of(x)}, to F(x)",
        ["F gives", "way", "F(x)", "result"], rows,
    )  # fmt: skip
    for message in messages:
        say(f"* {message}.")
    one_channel = x[:, :1]
    say(
        f"* Not refused: {shape_of(one_channel)} + {shape_of(same(x))} = "
        f"{shape_of(one_channel + same(x))}. PyTorch adds a single channel to each of the 16."
    )
    run.metrics |= {"unequal_shapes_added": len(changes) - len(messages), "ways_out": right}


def shape_of(hidden: Tensor) -> str:
    """The shape without the batch."""
    return sides(hidden.shape[1:])
