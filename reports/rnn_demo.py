"""Document 2's claims about sequences, figures and tables, from what `rnn_demo.py` measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from common.bounds import above, at_most, below, exactly
from common.claims import Claim
from common.figures import new_figure, save_figure
from common.runs import Run
from common.terminal import print_table, say
from reports.rnn_weather import network_name

# The document speaks of the plain cell; less than the whole test year does not judge a network.
CELL = {"cell": "rnn"}
WHOLE_YEAR = {"limit": None, "cell": "rnn"}

CLAIMS = (
    Claim("2.9a", "stacked days: parameters for 30 days, compared with one day",
          "more parameters, which may explode", "stacked_growth", above(1), "{:.1f}×"),
    Claim("2.9b", "shared cell: parameters for 30 days, compared with one day",
          "still the same layer", "shared_growth", exactly(1), "{:.1f}×", CELL),
    Claim("2.9c", "three days: parameters of the shared cell, compared with stacked days",
          "far fewer parameters", "shared_size", below(1), "{:.2f}×", CELL),
    Claim("2.9d", "three days, shared cell: test accuracy minus that of the most common class, "
          "minimum of the seeds", "three days can predict the next",
          "gain_over_most_common", above(0), "{:+.1f} points", WHOLE_YEAR),
    Claim("2.10a", "w1·h + w2·x and [w1 w2]·[h; x], largest difference",
          "w1*h + w2*x = [w1, w2]*[h, x]^T", "linear_error", at_most(1e-6), "{:.0e}"),
    Claim("2.10b", "RNNCell and tanh of that one linear layer, largest difference",
          "in essence one linear layer", "cell_error", at_most(1e-6), "{:.0e}"),
    Claim("2.11a", "RNN: shapes that differ from the document's",
          "none", "rnn_other_shapes", exactly(0), "{:.0f}"),
    Claim("2.11b", "RNNCell: dimensions of its input, maximum",
          "three dimensions", "cell_dimensions", exactly(3), "{:.0f}"),
    Claim("2.11c", "three layers unrolled by hand and RNN, largest difference",
          "the figure of a three-layer RNN", "unrolled_error", at_most(1e-6), "{:.0e}"),
)  # fmt: skip


# One cell, its shapes, three layers


def one_layer(
    run: Run, products: Mapping[str, Tensor], pairs: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Prints both sides of the equation by hand, and how far they differ for an RNNCell."""
    rows = [[name, as_text(value)] for name, value in products.items()]
    print_table("w1·h + w2·x is one product", ["", "value"], rows)
    linear_error, cell_error = (largest_difference(one, other) for one, other in pairs)
    say(
        "The same with the weights of an RNNCell, in single precision: the two sides differ by "
        f"{linear_error:.0e} at most, and the cell's output and tanh of one linear layer by "
        f"{cell_error:.0e}."
    )
    run.metrics |= {"linear_error": linear_error, "cell_error": cell_error}


def as_text(value: Tensor) -> str:
    """A vector or a matrix of whole numbers, a matrix's rows divided by semicolons."""
    rows = [" ".join(f"{number:g}" for number in row) for row in value.reshape(-1, value.shape[-1])]
    return f"[{'; '.join(rows)}]"


def largest_difference(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference of two tensors of the same shape."""
    return (one - other).abs().max().item()


def shapes(
    run: Run, sizes: Mapping[str, int], modules: Sequence[tuple[str, nn.Module, str, str]]
) -> None:
    """Calls each module with the dimensions named beside it; prints what comes out."""
    rows, refusals = [], []
    cell_dimensions, rnn_shapes = 0, ["", ""]
    for title, module, input_names, hidden_names in modules:
        inputs, hidden = sizes_of(input_names, sizes), sizes_of(hidden_names, sizes)
        outputs, refusal = call(module, inputs, hidden)
        rows.append([title, times(inputs), times(hidden), ", ".join(outputs) or "refused"])
        if refusal:
            refusals.append(f"{title}: refused. {refusal}.")
        elif isinstance(module, nn.RNNCell):
            cell_dimensions = max(cell_dimensions, len(inputs))
        if title == "RNN, as in the document":
            rnn_shapes = outputs or rnn_shapes
    named = ", ".join(f"{name} {size}" for name, size in sizes.items())
    print_table(
        f"What the modules take and give ({named})",
        ["module", "input", "hidden state", "comes out"], rows,
    )  # fmt: skip
    say(
        "The document gives both modules an input of (seq_len, batch, input_size) and a hidden "
        "state of (num_layers, batch, hidden_size)."
    )
    for refusal in refusals:
        say(refusal)
    expected = [
        times(sizes_of("seq_len batch hidden_size", sizes)),
        times(sizes_of("num_layers batch hidden_size", sizes)),
    ]
    run.metrics |= {
        "rnn_other_shapes": sum(a != b for a, b in zip(rnn_shapes, expected, strict=True)),
        "cell_dimensions": cell_dimensions,
    }


def call(module: nn.Module, inputs: Sequence[int], hidden: Sequence[int]) -> tuple[list[str], str]:
    """The shapes a module answers zeros of these shapes with, or the words in which it refuses."""
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


def unrolled(run: Run, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Prints how far three layers unrolled by hand differ from `nn.RNN`."""
    error = max(largest_difference(one, other) for one, other in pairs)
    say(
        "\nThree layers over seven steps, unrolled by hand, differ from nn.RNN by "
        f"{error:.0e} at most."
    )
    run.metrics |= {"unrolled_error": error}


# "hello" → "ohlol"


def hello(
    run: Run,
    histories: Mapping[str, Sequence[Tensor]],
    letters: str,
    spell: Callable[[Tensor], str],
) -> None:
    """Prints what each network spells as it learns; draws its probabilities (5×4 at each epoch)."""
    epochs = len(next(iter(histories.values()))) - 1
    rows = []
    for epoch in range(epochs + 1):
        rows.append([epoch, *(spell(history[epoch]) for history in histories.values())])
    print_table('"hello" → "ohlol": the word after each epoch', ["epoch", *histories], rows)
    for name in histories:
        same = same_as(name, histories)
        if same:
            say(f"From one random seed {name} and {same} give the same numbers at every epoch.")
    hello_figure(run, histories, letters, spell)
    rows = [[name, f"{float(history[-1].max()):.0%}"] for name, history in histories.items()]
    print_table(f"The highest probability of a letter after {epochs} epochs",
                ["network", "probability"], rows)  # fmt: skip
    say(
        "Where the hidden state is the logits (RNNCell and RNN), tanh keeps them between −1 and 1, "
        f"so no letter of four can have more than {math.e / (math.e + 3 / math.e):.0%}. A linear "
        "layer behind it lifts this limit."
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
            drawn = panel.imshow(history[epoch].T.numpy(), cmap="Blues", vmin=0, vmax=1)
            places = [letters.index(letter) for letter in "ohlol"]
            panel.plot(range(5), places, "o", markersize=7, markerfacecolor="white",
                       markeredgecolor="black")  # fmt: skip
            panel.set_title(f"epoch {epoch}: {spell(history[epoch])}", fontsize=10)
            panel.set_xticks(range(5), [*"hello"])
            panel.set_yticks(range(len(letters)), [*letters])
        same = same_as(name, histories)
        note = f"\n(same numbers as {same})" if same else ""
        panels[row * len(moments)].set_ylabel(f"{name}{note}\n\nletter predicted")
    for panel in panels[-len(moments) :]:
        panel.set_xlabel("letter read")
    assert drawn is not None
    figure.colorbar(drawn, ax=panels, label="probability", shrink=0.6)
    save_figure(figure, run.file("hello.png"))


def same_as(name: str, histories: Mapping[str, Sequence[Tensor]]) -> str | None:
    """An earlier network that gave the same probabilities at every epoch; None if none did."""
    for other, history in histories.items():
        if other == name:
            return None
        if all(map(nearly_equal, history, histories[name])):
            return other
    raise ValueError(f"no network {name}")


def nearly_equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4)


def hello_seeds(run: Run, words: Mapping[str, Sequence[str]]) -> None:
    """Prints from how many random seeds each network learns to spell "ohlol"."""
    keys = ("hello_share_cell", "hello_share_rnn", "hello_share_embedding")
    rows = []
    for key, (name, spelled) in zip(keys, words.items(), strict=True):
        count = sum(word == "ohlol" for word in spelled)
        run.metrics[key] = count / len(spelled)
        rows.append([name, count, len(spelled)])
    print_table('Random seeds that end with "ohlol"', ["network", "seeds", "of"], rows)


# The weather: what the networks cost; `rnn_weather` has the rest


def parameters(run: Run, cell: str, counts: Mapping[int, tuple[int, int]]) -> None:
    """Prints the parameters of stacked days and of a shared cell by the number of days."""
    header = ["days", network_name("mlp"), network_name(cell)]
    rows = [[days, *counts[days]] for days in (1, 3, 7, 14, 30)]
    print_table("Parameters by the number of days, four measurements each", header, rows)
    smaller = [days for days, (stacked, shared) in counts.items() if shared < stacked]
    if smaller:
        say(
            f"The shared cell has fewer from {smaller[0]} days on. It has the weights from hidden "
            "state to hidden state besides, but no more of them for more days."
        )
    run.metrics |= {
        "stacked_growth": counts[30][0] / counts[1][0],
        "shared_growth": counts[30][1] / counts[1][1],
        "shared_size": counts[3][1] / counts[3][0],
    }
