"""Document 4's opening questions: what `mnist_mlp.py --explain` prints, from small computations.

The one experiment that needs training, the place of the activation, stands in the chapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from common.runs import Run
from common.terminal import print_table, say

ROUNDING = 1e-5  # of a number's size: float32 has seven digits


def epoch(place: str, number: int, loss: float) -> None:
    """Prints the progress of the experiment with the activation."""
    say(f"ReLU {place}: epoch {number}/2  train loss {loss:.3f}")


def two_layers_are_one(run: Run, model: nn.Sequential, image: Tensor) -> None:
    """Compares two linear layers with the one layer that they are, on an image (1×1×28×28)."""
    _, first, last = model
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    pixels = image.view(1, 784).to(first.weight.device)
    with torch.inference_mode():
        both = last(first(pixels))
        one = pixels @ (last.weight @ first.weight).T + last(first.bias)
        run.metrics["two_layers_less_one"] = ((both - one).abs().max() / both.abs().max()).item()


def activations(run: Run, results: Sequence[tuple[str, float, float]]) -> None:
    """Is an activation needed, and where? `results`: the place, the loss, the test accuracy."""
    rows = [[place, f"{loss:.4f}", f"{share:.2%}"] for place, loss, share in results]
    say(
        "An activation is a function between two layers. Here it is ReLU: negative numbers become "
        "0, the others stay."
    )
    print_table(
        "Is an activation needed, and where? After two epochs with ReLU …",
        ["place", "train loss", "test accuracy"], rows,
    )  # fmt: skip
    shares = {place: share for place, _, share in results}
    highest = [place for place, share in shares.items() if share == max(shares.values())]
    for place, share in shares.items():
        run.metrics[f"accuracy_relu_{place.replace(' ', '_')}"] = share
    difference = float(run.metrics["two_layers_less_one"])  # type: ignore[arg-type]
    rounding = ", which is rounding" if difference < ROUNDING else ""
    before, nowhere = shares["before the first layer"], shares["nowhere"]
    equal = "the same accuracy as" if before == nowhere else "another accuracy than"
    say(
        "Without an activation, two linear layers compute what a single linear layer could: "
        f"layer2(layer1(x)) and (W2·W1)·x + b differ by at most {difference:.1g} times their "
        f"largest number{rounding}. "
        "Before the first layer ReLU changes no number, for no pixel is negative; here it has "
        f"{equal} no ReLU. Most accurate here: ReLU {' or '.join(highest)}."
    )


def without_training(
    run: Run, make_network: Callable[[], nn.Module], images: Tensor, labels: Tensor
) -> str:
    """Answers the questions that one batch can answer; returns the closing sentence.

    `images` B×1×28×28, `labels` B.
    """
    losses()
    passes(make_network(), images, labels)
    softmax(run, make_network(), images, labels)
    return (
        "These were the document's opening questions, and what it says of softmax and layers. "
        "Next: python mnist_mlp.py, which trains its network."
    )


def losses() -> None:
    """What is a loss for, and which one for what? Two losses and their slopes for three answers."""
    truth = torch.tensor([0])
    answers = {
        "confident, right": [8.0, 0.0, 0.0],
        "undecided": [0.0, 0.0, 0.0],
        "confident, wrong": [0.0, 8.0, 0.0],
    }
    rows = []
    for answer, numbers in answers.items():
        logits = torch.tensor([numbers], requires_grad=True)
        entropy = cross_entropy(logits, truth)
        squares = mse_loss(logits.softmax(1), one_hot(truth, 3).float())
        row = [answer]
        for loss in (entropy, squares):
            (slope,) = torch.autograd.grad(loss, logits)
            row += [f"{loss.item():.4f}", f"{slope[0, 0].item():+.4f}"]
        rows.append(row)
    print_table(
        "Which loss? Three classes, of which the first is true. "
        "Slope: how the loss changes with the score of the true class",
        ["answer", "cross-entropy", "its slope", "squared error", "its slope"], rows,
    )  # fmt: skip
    say(
        "A loss says how wrong an answer is, and its slope says how to change the answer. For "
        "classes: cross-entropy, whose slope is steepest for a confident wrong answer; the squared "
        "error of the probabilities is almost flat there. For numbers (regression): the squared "
        "error, (22 − 20)² = 4, or the absolute error, |22 − 20| = 2."
    )


def passes(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Forward and backward: when are gradients computed, and why is there a function `forward`?"""
    weight = next(model.parameters())
    logits = model(images)
    loss = cross_entropy(logits, labels)
    say("\nWhen are gradients computed?\n")
    say(
        f"* forward: model(images) calls the function forward. The loss is {loss.item():.4f}. "
        f"PyTorch has recorded each operation ({type(loss.grad_fn).__name__} ← … ← "
        f"{type(logits.grad_fn).__name__} ← …); weight.grad is {weight.grad}."
    )
    loss.backward()
    assert weight.grad is not None
    say(
        "* backward: loss.backward() goes through these operations from the last to the first. "
        "Now weight.grad is filled: its length, the root of the sum of its squares, is "
        f"{weight.grad.norm().item():.4f}."
    )
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = cross_entropy(model(images), labels).item()
    say(f"* step: 0.1 times the gradients is subtracted. The loss is now {after:.4f}.")


def softmax(run: Run, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """What does softmax do, where is it in this network, and how many layers does that have?"""
    with torch.inference_mode():
        logits = model(images)
        shares = logits.softmax(1)
        by_hand = -shares[torch.arange(len(labels)), labels].log().mean()
        difference = (cross_entropy(logits, labels) - by_hand).abs().item()
    with_weights = sum(isinstance(layer, nn.Linear) for layer in model.modules())
    run.metrics |= {
        "softmax_sum_error": (shares.sum(1) - 1).abs().max().item(),
        "cross_entropy_difference": difference,
        "hidden_layers": with_weights,
    }
    terms = " + ".join(f"{share:.3f}" for share in shares[0].tolist())
    say("\nWhat does softmax do?\n")
    say(
        "* It turns ten scores into ten positive numbers: e^score, divided by the sum of all ten. "
        f"Their sum: {terms} = {shares[0].sum().item():.6f}."
    )
    say(
        "* CrossEntropyLoss contains it: −log of the true digit's softmax differs from that loss "
        f"by {difference:.1g}."
    )
    say("\nHow many hidden layers?\n")
    say(
        "In one place the document calls each layer after the input layer hidden, which are those "
        f"with weights: {with_weights}. Usually, and elsewhere in it, the output layer is "
        f"not hidden: that leaves {with_weights - 1}."
    )
