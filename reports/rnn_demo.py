"""Document 2's claims about sequences, figures and tables, from what `rnn_demo.py` measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from common.bounds import above, at_most, exactly
from common.claims import Claim
from common.figures import new_figure, save_figure
from common.runs import Run
from common.terminal import print_table, say
from reports import rnn_pictures

# The document speaks of the plain cell; less than the whole test year does not judge a network.
CELL = {"cell": "rnn"}
WHOLE_YEAR = {"limit": None, "cell": "rnn"}

CLAIMS = (
    Claim("2.9a", "MLP, stacked days: parameters for 30 days, compared with one day",
          "more parameters, which may explode", "stacked_growth", above(1), "{:.1f}×"),
    Claim("2.9b", "RNN, shared cell: parameters for 30 days, compared with one day",
          "still the same layer", "shared_growth", exactly(1), "{:.1f}×", CELL),
    Claim("2.9c", "three days of 128 features: parameters of the RNN, compared with the MLP",
          "where one row has many, sharing greatly reduces them", "shared_size_many",
          at_most(0.5), "{:.2f}×", CELL),
    Claim("2.9d", "three days, RNN: accuracy on 2015 minus that of “always dry”",
          "three days can predict the next", "cell_gain_over_always_dry", above(0),
          "{:+.1f} points", WHOLE_YEAR, every_seed=True),
    Claim("2.9e", "three days stacked, MLP: accuracy on 2015 minus that of “always dry”",
          "three days can predict the next", "mlp_gain_over_always_dry", above(0),
          "{:+.1f} points", {"limit": None}, every_seed=True),
    Claim("2.10a", "w1·h + w2·x and [w1 w2]·[h; x], largest difference",
          "w1*h + w2*x = [w1, w2]*[h, x]^T", "linear_error", at_most(1e-6), "{:.0e}"),
    Claim("2.10b", "RNNCell and tanh of that one linear layer, largest difference",
          "in essence one linear layer", "cell_error", at_most(1e-6), "{:.0e}"),
    Claim("2.11a", "RNN, given the shapes that stand under RNNCell: other shapes returned",
          "inputs and hidden have three dimensions: 0", "rnn_other_shapes", exactly(0), "{:.0f}"),
    Claim("2.11b", "RNNCell, called step by step: dimensions of the sequence that it reads",
          "three: seq_len, batch, input_size", "cell_sequence_dimensions", exactly(3), "{:.0f}"),
    Claim("2.11c", "three layers unrolled by hand and RNN, largest difference",
          "the figure of a three-layer RNN", "unrolled_error", at_most(1e-6), "{:.0e}"),
    Claim("2.11d", "RNNCell itself: dimensions of its hidden state, maximum",
          "three: num_layers, batch, hidden_size", "cell_hidden_dimensions", exactly(3), "{:.0f}"),
)  # fmt: skip


# One cell, its shapes, three layers


def one_layer(
    run: Run, products: Mapping[str, Tensor], pairs: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Prints both sides of the equation for small numbers, and their difference in an RNNCell."""
    rows = [[name, as_text(value)] for name, value in products.items()]
    print_table(
        "A recurrent cell multiplies its hidden state h and its input x by weights. Both products "
        "together are one product (a ; ends a row of a matrix; [h; x] is h above x)",
        ["", "value"],
        rows,
    )
    linear_error, cell_error = (largest_difference(one, other) for one, other in pairs)
    say(
        "The same with the weights of PyTorch's RNNCell (float32): w1·h + w2·x and the one product "
        f"differ by {linear_error:.0e} at most, the cell's output and tanh of one linear layer by "
        f"{cell_error:.0e} at most."
    )
    run.metrics |= {"linear_error": linear_error, "cell_error": cell_error}


def as_text(value: Tensor) -> str:
    """A vector or a matrix of whole numbers, a matrix's rows divided by semicolons."""
    rows = [" ".join(f"{number:g}" for number in row) for row in value.reshape(-1, value.shape[-1])]
    return f"[{'; '.join(rows)}]"


def largest_difference(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference of two tensors of the same shape."""
    return (one - other).abs().max().item()


Modules = Sequence[tuple[str, nn.Module, str, str]]  # title, module, names of the dimensions


def shapes(run: Run, sizes: Mapping[str, int], modules: Modules) -> None:
    """Calls each module with the dimensions named beside it; prints the shapes it returns."""
    rows, errors = [], []
    returned: dict[str, list[str]] = {}
    for title, module, input_names, hidden_names in modules:
        inputs, hidden = sizes_of(input_names, sizes), sizes_of(hidden_names, sizes)
        returned[title], error = call(module, inputs, hidden)
        rows.append([title, times(inputs), times(hidden), ", ".join(returned[title]) or "error"])
        if error:
            errors.append(f'"{title}" cannot work, as expected. PyTorch says: {error}.')
    named = ", ".join(f"{name} {size}" for name, size in sizes.items())
    print_table(
        f"Which shapes RNNCell and RNN take and return ({named})",
        ["module", "input", "hidden state", "returned"], rows,
    )  # fmt: skip
    say(
        "Under RNNCell the document gives an input of (seq_len, batch, input_size) and a hidden "
        "state of (num_layers, batch, hidden_size). They are those of RNN. RNNCell is one layer "
        "and computes one step: a loop gives it the steps of the sequence one by one."
    )
    for error in errors:
        say(error)
    run.metrics |= shape_metrics(sizes, modules, returned)


def shape_metrics(
    sizes: Mapping[str, int], modules: Modules, returned: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """How many dimensions RNNCell takes, and how many shapes that RNN returns are not expected.

    `returned` has each module's shapes by its title, none where it refused the input.
    """
    states = times(sizes_of("seq_len batch hidden_size", sizes))
    last = times(sizes_of("num_layers batch hidden_size", sizes))
    metrics = {"cell_hidden_dimensions": 0, "cell_sequence_dimensions": 0}
    for title, module, input_names, hidden_names in modules:
        inputs, hidden = len(input_names.split()), len(hidden_names.split())
        if isinstance(module, nn.RNNCell) and returned[title]:
            metrics["cell_hidden_dimensions"] = max(metrics["cell_hidden_dimensions"], hidden)
        if title == "RNNCell, step by step" and returned[title] == [states]:
            metrics["cell_sequence_dimensions"] = inputs
    rnn = returned["RNN, as in the document"] or ["", ""]
    other = sum(shape != said for shape, said in zip(rnn, (states, last), strict=True))
    return {**metrics, "rnn_other_shapes": other}


def call(module: nn.Module, inputs: Sequence[int], hidden: Sequence[int]) -> tuple[list[str], str]:
    """The shapes that a module returns for zeros of these shapes, or its error message."""
    try:
        answer = module(torch.zeros(*inputs), torch.zeros(*hidden))
    except (RuntimeError, ValueError) as error:
        return [], str(error).splitlines()[0]
    answers = answer if isinstance(answer, tuple) else (answer,)
    return [times(tensor.shape) for tensor in answers], ""


def sizes_of(names: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes of dimensions given by name: `"batch input_size"` → (2, 4)."""
    return tuple(sizes[name] for name in names.split())


def times(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape)


def unrolled(
    run: Run, inputs: Tensor, states: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Prints how far three layers unrolled by hand differ from `nn.RNN`, and draws them."""
    error = max(largest_difference(one, other) for one, other in pairs)
    say(
        "\nThree layers over seven steps, computed step by step, differ from nn.RNN by "
        f"{error:.0e} at most."
    )
    run.metrics |= {"unrolled_error": error}
    rnn_pictures.three_layers(run, inputs, states)


# "hello" → "ohlol"


def hello(
    run: Run,
    histories: Mapping[str, Sequence[Tensor]],
    letters: str,
    spell: Callable[[Tensor], str],
) -> None:
    """Prints what each network spells as it learns; draws its probabilities from its logits (5×4
    at each epoch), and the cell at the end, unrolled."""
    epochs = len(next(iter(histories.values()))) - 1
    rows = []
    for epoch in range(epochs + 1):
        rows.append([epoch, *(spell(history[epoch]) for history in histories.values())])
    print_table(
        'Learning "hello" → "ohlol": what each network spells after each epoch (0: before '
        "training)",
        ["epoch", *histories],
        rows,
    )
    for name in histories:
        same = same_as(name, histories)
        if same:
            say(f"With the same random seed {same} and {name} give the same results in each epoch.")
    hello_figure(run, histories, letters, spell)
    rows = []
    for name, history in histories.items():
        rows.append([name, f"{float(history[-1].softmax(1).max()):.0%}"])
    print_table(f"The highest probability that a network gives a letter after {epochs} epochs",
                ["network", "probability"], rows)  # fmt: skip
    say(
        "RNNCell and RNN alone use the hidden state as logits. tanh keeps it between −1 and 1, so "
        f"none of the four letters can have more than {math.e / (math.e + 3 / math.e):.0%}. A "
        "linear layer after the RNN removes this limit."
    )
    states = histories["RNNCell"][-1]  # the hidden states of the cell alone are its logits
    rnn_pictures.over_time(
        run, states, letters, read="hello", expected=spell(states), right="ohlol"
    )


def hello_figure(
    run: Run,
    histories: Mapping[str, Sequence[Tensor]],
    letters: str,
    spell: Callable[[Tensor], str],
) -> None:
    """Saves each network's probabilities at the beginning, after a third and at the end."""
    last = len(next(iter(histories.values()))) - 1
    moments = (0, last // 3, last)
    title = "Learning “hello” → “ohlol”: how probable is the right letter (circle)?"
    figure, panels = new_figure(title, len(histories), len(moments), width=3.2, height=2.5)
    drawn = None
    for row, (name, history) in enumerate(histories.items()):
        for column, epoch in enumerate(moments):
            panel = panels[row * len(moments) + column]
            drawn = panel.imshow(history[epoch].softmax(1).T.numpy(), cmap="Blues", vmin=0, vmax=1)
            places = [letters.index(letter) for letter in "ohlol"]
            panel.plot(range(5), places, "o", markersize=7, markerfacecolor="white",
                       markeredgecolor="black")  # fmt: skip
            panel.set_title(f"epoch {epoch}: {spell(history[epoch])}", fontsize=10)
            panel.set_xticks(range(5), [*"hello"])
            panel.set_yticks(range(len(letters)), [*letters])
        same = same_as(name, histories)
        note = f"\n(same results as {same})" if same else ""
        panels[row * len(moments)].set_ylabel(f"{name}{note}\n\nletter predicted")
    for panel in panels[-len(moments) :]:
        panel.set_xlabel("letter read")
    assert drawn is not None
    figure.colorbar(drawn, ax=panels, label="probability", shrink=0.6)
    save_figure(figure, run.file("hello.png"))


def same_as(name: str, histories: Mapping[str, Sequence[Tensor]]) -> str | None:
    """An earlier network that gave the same logits at every epoch; None if none did."""
    for other, history in histories.items():
        if other == name:
            return None
        if all(map(nearly_equal, history, histories[name])):
            return other
    raise ValueError(f"no network {name}")


def nearly_equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4)


def hello_seeds(run: Run, words: Mapping[str, Sequence[str]]) -> None:
    """Prints with how many random seeds each network learns to spell "ohlol"."""
    keys = ("hello_share_cell", "hello_share_rnn", "hello_share_embedding")
    rows = []
    for key, (name, spelled) in zip(keys, words.items(), strict=True):
        count = sum(word == "ohlol" for word in spelled)
        run.metrics[key] = count / len(spelled)
        rows.append([name, count, len(spelled)])
    print_table('With how many random seeds does a network spell "ohlol" after training?',
                ["network", "seeds", "of"], rows)  # fmt: skip
