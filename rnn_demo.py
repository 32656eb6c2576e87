"""Document 2, its sequences: what a recurrent cell computes, "hello" → "ohlol", and tomorrow's weather.

    python rnn_demo.py                        --cell gru or lstm for another cell in the weather
    python rnn_demo.py --windows 1,3,7,14,30  parameters and accuracy by the number of days looked back on

The story is that of the notes on the PyTorch course of the lecturer 刘二大人: days stacked into one input need more
weights the more days there are, a cell shared by all days does not; that cell is one linear layer; how PyTorch's
`RNNCell` and `RNN` take sequences. Then it is tried, on five letters and on four real years.

Measured on two cores in 23 and 28 s: of 20 seeds 14 learn "ohlol" with a cell or an RNN alone, all 20 with embedding
and linear layer. The weather of 2015 from three days of measurements: RNN 44.3%, MLP 41.7% (means of seeds 0 to 4),
less than the 49.3% of always the most common class, for other words were written down in the years of training; told
the words too 64.4 and 63.6%, less than the 68.8% of "same as yesterday".

Chosen here, where the notes say nothing: the weather of Seattle, 2012 to 2015, trained on the first two years (scaled
by their mean and standard deviation), the epoch of lowest loss on the third kept, tested once on the last; 16 hidden
units in the cell and in the stacked days' network alike, tanh in both, Adam with rate 0.005, batches of 32, 40 epochs.
Sizes of the three "hello" networks, Adam with rate 0.1 and 15 epochs are the course's.
"""

from __future__ import annotations

import argparse
import copy
import csv
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from tqdm import tqdm

from common.cli import add_data_flag, add_run_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, make_loader
from common.device import seed_everything
from common.errors import UsageError
from common.metrics import confusion_matrix
from common.plots import new_figure, save_figure, share_y_limits
from common.report import Claim, judge, print_claims, print_table
from common.runs import Run, start_run
from common.training import Row, evaluate, predict, train_one_epoch

# What the document states, each with its bound in words and in code.
CLAIMS = (
    Claim("2.9a", "stacked days: parameters for 30 days, times those for one", "multiply: > 1×",
          "stacked_growth", lambda ratio: ratio > 1, "{:.1f}×"),
    Claim("2.9b", "shared cell: parameters for 30 days, times those for one", "the same layer: 1×",
          "shared_growth", lambda ratio: ratio == 1, "{:.1f}×"),
    Claim("2.9c", "three days: parameters with a shared cell, times those of stacked days", "greatly fewer: < 1×",
          "shared_size", lambda ratio: ratio < 1, "{:.2f}×"),
    Claim("2.9d", "three days, shared cell: test accuracy less that of the most common class, least of the seeds",
          "they can predict the fourth: > 0 points", "gain_over_most_common", lambda gain: gain > 0, "{:+.1%}"),
    Claim("2.10a", "w1·h + w2·x and [w1 w2]·[h; x], largest difference", "equal: ≤ 0.000001",
          "linear_error", lambda error: error <= 1e-6, "{:.0e}"),
    Claim("2.10b", "RNNCell and tanh of that one linear layer, largest difference", "equal: ≤ 0.000001",
          "cell_error", lambda error: error <= 1e-6, "{:.0e}"),
    Claim("2.11a", "RNN: shapes in and out that are not the notes'", "none: 0",
          "rnn_other_shapes", lambda count: count == 0, "{:.0f}"),
    Claim("2.11b", "RNNCell: dimensions that its input may have, at most", "3",
          "cell_dimensions", lambda count: count == 3, "{:.0f}"),
    Claim("2.11c", "three layers unrolled by hand and RNN, largest difference", "equal: ≤ 0.000001",
          "unrolled_error", lambda error: error <= 1e-6, "{:.0e}"),
)


# One linear layer (2.10), shapes (2.11), layers over layers (2.11)


def show_linear() -> Row:
    """w1·h + w2·x against [w1 w2]·[h; x], with numbers to follow by hand and for an RNNCell's own weights."""
    h, x = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])
    w1, w2 = torch.tensor([[1.0, 0.0], [2.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, -1.0]])
    together, stacked = torch.cat([w1, w2], 1), torch.cat([h, x])
    print(f"w1·h = {(w1 @ h).tolist()}, w2·x = {(w2 @ x).tolist()}, their sum {(w1 @ h + w2 @ x).tolist()}; "
          f"[w1 w2] is {'×'.join(map(str, together.shape))} and [w1 w2]·[h; x] = {(together @ stacked).tolist()}")
    cell = nn.RNNCell(4, 16)
    hidden, inputs = torch.rand(8, 16), torch.randn(8, 4)
    apart = hidden @ cell.weight_hh.T + inputs @ cell.weight_ih.T
    weight, bias = one_layer(cell.weight_hh, cell.weight_ih, cell.bias_hh, cell.bias_ih)
    once = nn.functional.linear(torch.cat([hidden, inputs], 1), weight)
    return {"linear_error": (apart - once).abs().max().item(),
            "cell_error": (cell(inputs, hidden) - torch.tanh(once + bias)).abs().max().item()}


def one_layer(hidden_weight: Tensor, input_weight: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    """A cell's two weights (H×H, H×I) side by side (H×(H+I)) and its biases' sum (H): one linear layer's."""
    return torch.cat([hidden_weight, input_weight], 1), torch.stack(biases).sum(0)


SIZES = {"seq_len": 7, "batch": 2, "input_size": 4, "hidden_size": 5, "num_layers": 3}


def show_shapes() -> Row:
    """What `RNNCell` and `RNN` take and give, every number by its name, and what they refuse."""
    cell = nn.RNNCell(SIZES["input_size"], SIZES["hidden_size"])
    rnn = nn.RNN(SIZES["input_size"], SIZES["hidden_size"], SIZES["num_layers"])
    batch_first = nn.RNN(SIZES["input_size"], SIZES["hidden_size"], SIZES["num_layers"], batch_first=True)
    notes = ("seq_len batch input_size", "num_layers batch hidden_size")
    calls: list[tuple[str, nn.Module, str, str]] = [
        ("RNNCell", cell, "batch input_size", "batch hidden_size"),
        ("RNNCell, no batch", cell, "input_size", "hidden_size"),
        ("RNNCell, as in the notes", cell, *notes),
        ("RNN, as in the notes", rnn, *notes),
        ("RNN, batch_first=True", batch_first, "batch seq_len input_size", "num_layers batch hidden_size"),
        ("RNN, no batch", rnn, "seq_len input_size", "num_layers hidden_size"),
    ]
    rows = [[title, named(inputs), named(hidden), what_comes_out(module, inputs, hidden)]
            for title, module, inputs, hidden in calls]
    print_table("Shapes: " + ", ".join(f"{name} {size}" for name, size in SIZES.items()),
                ["module", "input", "hidden", "comes out"], rows)
    outputs, last = rnn(torch.zeros(shape(notes[0])), torch.zeros(shape(notes[1])))
    taken = [len(inputs.split()) for _, module, inputs, hidden in calls
             if module is cell and not what_comes_out(cell, inputs, hidden).startswith("refused")]
    return {"rnn_other_shapes": int(outputs.shape != shape("seq_len batch hidden_size"))
            + int(last.shape != shape(notes[1])), "cell_dimensions": max(taken)}


def shape(names: str) -> tuple[int, ...]:
    return tuple(SIZES[name] for name in names.split())


def named(names: str) -> str:
    return f"{'×'.join(map(str, shape(names)))} ({', '.join(names.split())})"


def what_comes_out(module: nn.Module, inputs: str, hidden: str) -> str:
    """The shapes a module answers zeros of these shapes with, or in what words it refuses them."""
    try:
        answer = module(torch.zeros(shape(inputs)), torch.zeros(shape(hidden)))
    except (RuntimeError, ValueError) as error:
        return f"refused: {str(error).splitlines()[0]}"
    tensors = answer if isinstance(answer, tuple) else (answer,)
    return " and ".join("×".join(map(str, tensor.shape)) for tensor in tensors)


def unroll(rnn: nn.RNN, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What `rnn` computes, step by step and layer by layer: T×B×I → outputs T×B×H and last hidden states L×B×H."""
    layers = [one_layer(*(rnn.get_parameter(f"{name}_l{number}") for name in
                          ("weight_hh", "weight_ih", "bias_hh", "bias_ih"))) for number in range(rnn.num_layers)]
    hidden = [inputs.new_zeros(inputs.shape[1], rnn.hidden_size) for _ in layers]
    outputs = []
    for below in inputs:
        for number, (weight, bias) in enumerate(layers):
            below = torch.tanh(nn.functional.linear(torch.cat([hidden[number], below], 1), weight, bias))
            hidden[number] = below
        outputs.append(below)
    return torch.stack(outputs), torch.stack(hidden)


def check_unrolled() -> Row:
    """Three layers unrolled by hand against `nn.RNN`."""
    rnn, inputs = nn.RNN(4, 5, num_layers=3), torch.randn(7, 2, 4)
    pairs = zip(unroll(rnn, inputs), rnn(inputs), strict=True)
    error = max((mine - theirs).abs().max().item() for mine, theirs in pairs)
    print(f"Three layers over seven steps, unrolled by hand, differ from nn.RNN by {error:.0e} at most.")
    return {"unrolled_error": error}


# "hello" → "ohlol" (2.12): letters T×B (int64) → logits T×B×4

LETTERS = "ehlo"
HELLO_EPOCHS, HELLO_LR = 15, 0.1
HELLO_SEEDS = range(20)


class CellReader(nn.Module):
    """An `RNNCell` called once for each letter; its hidden state is the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(len(LETTERS), len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:
        hidden = torch.zeros(letters.shape[1], len(LETTERS), device=letters.device)
        logits = []
        for letter in one_hot(letters):
            hidden = self.cell(letter, hidden)
            logits.append(hidden)
        return torch.stack(logits)


class RNNReader(nn.Module):
    """The same with `RNN`, which goes through the letters itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(len(LETTERS), len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:
        logits: Tensor = self.rnn(one_hot(letters))[0]
        return logits


class EmbeddingReader(nn.Module):
    """Learned vectors for the letters, a two-layer `RNN`, and a linear layer for the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), 10)
        self.rnn = nn.RNN(10, 8, num_layers=2)
        self.linear = nn.Linear(8, len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.rnn(self.embedding(letters))[0])
        return logits


READERS: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": CellReader, "RNN": RNNReader, "embedding, RNN, linear": EmbeddingReader
}  # fmt: skip


def one_hot(letters: Tensor) -> Tensor:
    return nn.functional.one_hot(letters, len(LETTERS)).float()


def spell(letters: Tensor) -> str:
    return "".join(LETTERS[number] for number in letters.flatten().tolist())


def read(word: str) -> Tensor:
    return torch.tensor([[LETTERS.index(letter)] for letter in word])


def learn_hello(name: str, seed: int) -> list[Tensor]:
    """Trains a reader; the probabilities (5×4) that it gives the letters before each epoch and after the last."""
    seed_everything(seed)
    network = READERS[name]()
    optimizer = torch.optim.Adam(network.parameters(), lr=HELLO_LR)
    letters, targets = read("hello"), read("ohlol")
    seen = []
    for _ in range(HELLO_EPOCHS):
        logits = network(letters)
        seen.append(logits.detach()[:, 0].softmax(1))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        return [*seen, network(letters)[:, 0].softmax(1)]


def show_hello(run: Run) -> Row:
    """The string each way predicts as it learns, and a figure of its probabilities."""
    learned = {name: learn_hello(name, run.seed) for name in READERS}
    rows = [[epoch, *(spell(seen[epoch].argmax(1)) for seen in learned.values())] for epoch in range(HELLO_EPOCHS + 1)]
    print_table('"hello" → "ohlol": what is predicted after each epoch', ["epoch", *learned], rows)
    moments = (0, 5, HELLO_EPOCHS)
    figure, panels = new_figure(len(learned), len(moments), width=3.4, height=2.7)
    for place, (panel, (name, epoch)) in enumerate(
        zip(panels, ((name, epoch) for name in learned for epoch in moments), strict=True)
    ):
        picture = panel.imshow(learned[name][epoch].T.numpy(), cmap="Blues", vmin=0, vmax=1)
        for position, target in enumerate("ohlol"):
            panel.plot(position, LETTERS.index(target), "o", color="tab:orange", markersize=6)
        panel.set_title(f"{name}, epoch {epoch}:\n{spell(learned[name][epoch].argmax(1))}", fontsize=10)
        panel.set_xticks(range(5), [*"hello"])
        panel.set_yticks(range(4), [*LETTERS])
        if place >= len(panels) - len(moments):
            panel.set_xlabel("letter read")
        if place % len(moments) == 0:
            panel.set_ylabel("letter predicted")
    figure.colorbar(picture, ax=panels, label="probability (a dot: the right letter)", shrink=0.6)
    save_figure(figure, run.folder / "hello.png")
    highest = {name: seen[-1].max() for name, seen in learned.items()}
    print(f"Highest probability at the end: {', '.join(f'{name} {value:.0%}' for name, value in highest.items())}. The "
          "first two end in tanh, between −1 and 1, so that no letter of four can have more than 71%; a linear layer "
          "after it has no such limit.")
    shares = {name: statistics.mean(spell(learn_hello(name, seed)[-1].argmax(1)) == "ohlol" for seed in HELLO_SEEDS)
              for name in READERS}
    print(f"Of {len(HELLO_SEEDS)} seeds end with ohlol: "
          f"{', '.join(f'{name} {share:.0%}' for name, share in shares.items())}.")
    keys = ("hello_share_cell", "hello_share_rnn", "hello_share_embedding")
    return dict(zip(keys, shares.values(), strict=True))


# The weather (2.9)

MEASUREMENTS = ("precipitation", "temp_max", "temp_min", "wind")
CLASSES = ("drizzle", "fog", "rain", "snow", "sun")
TRAINED_YEARS, VALIDATED_YEAR, TESTED_YEAR = (2012, 2013), 2014, 2015
HIDDEN, WEATHER_LR, WEATHER_BATCH, WEATHER_EPOCHS = 16, 0.005, 32, 40
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
LONGEST_WINDOW = 365  # a year: what lies before the first day that is validated or tested


@dataclass(frozen=True)
class Weather:
    """Days in order: measurements (float32, D×4; mm, °C, °C, m/s), classes and years (int64, D)."""

    measurements: Tensor
    classes: Tensor
    years: Tensor


def load_weather(data_dir: Path) -> Weather:
    """Reads the table of days; UsageError where it is missing or no such table."""
    path = data_dir / "weather" / "seattle-weather.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            days = sorted(csv.DictReader(file), key=lambda day: day["date"])
        absent = {*TRAINED_YEARS, VALIDATED_YEAR, TESTED_YEAR} - {int(day["date"][:4]) for day in days}
        if absent:
            raise ValueError(f"it has no day of {min(absent)}")
        return Weather(torch.tensor([[float(day[name]) for name in MEASUREMENTS] for day in days]),
                       torch.tensor([CLASSES.index(day["weather"]) for day in days]),
                       torch.tensor([int(day["date"][:4]) for day in days]))
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"--data-dir {data_dir}: weather/seattle-weather.csv cannot be read ({error})") from None


class SharedCell(nn.Module):
    """One recurrent cell for all days and a linear layer after the last: B×days×inputs → logits B×5."""

    def __init__(self, cell: str, inputs: int) -> None:
        super().__init__()
        self.recurrent = CELLS[cell](inputs, HIDDEN, batch_first=True)
        self.classify = nn.Linear(HIDDEN, len(CLASSES))

    def forward(self, days: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.recurrent(days)[0][:, -1])
        return logits


def stacked_days(days: int, inputs: int) -> nn.Sequential:
    """The days side by side in one input of a hidden layer: B×days×inputs → logits B×5."""
    return nn.Sequential(nn.Flatten(), nn.Linear(days * inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, len(CLASSES)))


def make_network(kind: str, days: int, inputs: int) -> nn.Module:
    return stacked_days(days, inputs) if kind == "mlp" else SharedCell(kind, inputs)


def count_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def make_inputs(weather: Weather, sees_classes: bool) -> Tensor:
    """What a network is told of each day (D×4 or D×9): measurements scaled by the training years, one-hot class."""
    trained = weather.measurements[weather.years <= TRAINED_YEARS[-1]]
    scaled = (weather.measurements - trained.mean(0)) / trained.std(0)
    if not sees_classes:
        return scaled
    return torch.cat([scaled, nn.functional.one_hot(weather.classes, len(CLASSES)).float()], 1)


def make_windows(
    weather: Weather, inputs: Tensor, days: int, first: int, limit: int | None = None
) -> dict[str, InMemoryDataset]:
    """Each part's examples: the `days` days (N×days×F) before one of its days and that day's class (N).

    The first year begins with day `first`, which must have that many before it; later parts look back into the year
    before them.
    """
    every = inputs.unfold(0, days, 1).transpose(1, 2)  # every[i]: days i … i + days − 1
    number = torch.arange(len(weather.years))
    parts = {"train": (weather.years <= TRAINED_YEARS[-1]) & (number >= first),
             "validation": weather.years == VALIDATED_YEAR, "test": weather.years == TESTED_YEAR}
    targets = {name: number[part][:limit] for name, part in parts.items()}
    return {name: InMemoryDataset(every[days_of - days], weather.classes[days_of]) for name, days_of in targets.items()}


def train_forecaster(run: Run, kind: str, parts: Mapping[str, InMemoryDataset], seed: int) -> Tensor:
    """Trains a network, keeps the epoch of lowest validation loss, and returns its classes (N) for the test days."""
    seed_everything(seed)
    _, days, inputs = parts["train"].inputs.shape
    network = make_network(kind, days, inputs).to(run.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=WEATHER_LR)
    loader = make_loader(parts["train"], WEATHER_BATCH, shuffle=True, seed=seed)
    validation, test = (make_loader(parts[name], 366) for name in ("validation", "test"))
    best, kept = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(WEATHER_EPOCHS):
        train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer)
        loss = evaluate(network, validation, {"loss": nn.functional.cross_entropy})["loss"]
        if loss < best:
            best, kept = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return predict(network, test)[0].argmax(1)


INPUTS = {"the four measurements": False, "measurements and weather": True}


def forecast(
    run: Run, weather: Weather, kinds: Sequence[str], windows: Sequence[int], seeds: Sequence[int], limit: int | None
) -> dict[tuple[str, str, int], list[Tensor]]:
    """Trains every network from every seed; the classes (N) that each predicts, by (inputs, kind, days)."""
    jobs = [(told, kind, days, seed) for told in INPUTS for days in windows for kind in kinds for seed in seeds]
    predicted: dict[tuple[str, str, int], list[Tensor]] = {}
    with tqdm(jobs, desc="weather", unit="network", disable=not sys.stderr.isatty()) as progress:
        for told, kind, days, seed in progress:
            progress.set_postfix({"network": kind, "days": days}, refresh=False)
            # The same days to learn from for every window, or the longer would have fewer.
            parts = make_windows(weather, make_inputs(weather, INPUTS[told]), days, max(windows), limit)
            predicted.setdefault((told, kind, days), []).append(train_forecaster(run, kind, parts, seed))
            if progress.disable and seed == seeds[-1]:
                print(f"weather: {kind}, {days} days, {told}: trained from {len(seeds)} seeds", flush=True)
    return predicted


def baselines(weather: Weather, limit: int | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The test days' classes (N), and what needs no network: the training years' most common class, yesterday's."""
    days = torch.arange(len(weather.years))[weather.years == TESTED_YEAR][:limit]
    trained = weather.classes[weather.years <= TRAINED_YEARS[-1]]
    return weather.classes[days], {"most common": trained.mode().values.expand(len(days)),
                                   "same as yesterday": weather.classes[days - 1]}


def show_years(weather: Weather) -> None:
    """Prints how often each class was written down in each year, and what days with precipitation were called."""
    rows = []
    for year in sorted(set(weather.years.tolist())):
        chosen = weather.years == year
        wet = weather.classes[chosen & (weather.measurements[:, 0] > 0)]
        called = [int((wet == CLASSES.index(name)).sum()) for name in ("rain", "fog")]
        counts = weather.classes[chosen].bincount(minlength=len(CLASSES)).tolist()
        rows.append([str(year), int(chosen.sum()), *counts, len(wet), *called])
    print_table("Seattle's weather as it was written down",
                ["year", "days", *CLASSES, "wet days", "of them rain", "of them fog"], rows)


def share_right(predicted: Tensor, truth: Tensor) -> float:
    return (predicted == truth).float().mean().item()


def compare_forecasts(run: Run, args: argparse.Namespace, weather: Weather) -> Row:
    """Three days: the shared cell against stacked days and both baselines, in all and by class; table and figure."""
    show_years(weather)
    predicted = forecast(run, weather, (args.cell, "mlp"), (3,), args.seeds, args.limit)
    truth, simple = baselines(weather, args.limit)
    answers = {f"{title_of(kind)}: {told}": runs for (told, kind, _), runs in predicted.items()}
    answers |= {title: [answer] for title, answer in simple.items()}
    right = {title: torch.stack([confusion_matrix(truth, answer, len(CLASSES)).diagonal() for answer in runs])
             for title, runs in answers.items()}  # seeds×classes: the days that were found
    present = truth.bincount(minlength=len(CLASSES))
    rows = [[title, *spread(runs, truth), *(f"{days:g}" for days in right[title].float().mean(0).tolist())]
            for title, runs in answers.items()]
    rows.append(["days there were", "", "", "", *(str(days) for days in present.tolist())])
    print_table(f"{TESTED_YEAR}, from the three days before; seeds {', '.join(map(str, args.seeds))}: accuracy, and "
                "the days of each class that were found (mean of the seeds)",
                ["predicted by", "accuracy", "least", "most", *CLASSES], rows)
    draw_forecasts(run, right, present)

    metrics: Row = {f"{title.replace(' ', '_')}_accuracy": share_right(answer, truth)
                    for title, answer in simple.items()}
    for (told, kind, _), runs in predicted.items():
        key = ("mlp" if kind == "mlp" else "cell") + ("_told_weather" if INPUTS[told] else "")
        shares = [share_right(answer, truth) for answer in runs]
        metrics |= {f"{key}_accuracy": statistics.mean(shares), f"{key}_accuracy_least": min(shares)}
    metrics["gain_over_most_common"] = metrics["cell_accuracy_least"] - metrics["most_common_accuracy"]
    return metrics


def draw_forecasts(run: Run, right: Mapping[str, Tensor], present: Tensor) -> None:
    """Saves what share of all days (a dot a seed) and of each class's days (N of each: `present`) was found."""
    figure, (totals, by_class) = new_figure(1, 2, width=7.4, height=4.4)
    there = present.nonzero().flatten().tolist()
    width = 0.8 / len(right)
    for place, days in enumerate(right.values()):
        shares = (100 * days.sum(1) / present.sum()).tolist()
        totals.barh(place, statistics.mean(shares), color=f"C{place}", alpha=0.6)
        totals.plot(shares, [place] * len(shares), "k.", markersize=4)
        found = 100 * days.float().mean(0) / present
        by_class.bar([index + place * width - 0.4 for index in range(len(there))], found[there].tolist(), width,
                     color=f"C{place}", alpha=0.6, align="edge")
    totals.set_yticks(range(len(right)), [*right])
    totals.invert_yaxis()
    totals.set(xlabel=f"days of {TESTED_YEAR} predicted correctly (%)", title="all days (each dot is a seed)")
    by_class.set_xticks(range(len(there)), [f"{CLASSES[k]}\n({present[k]} days)" for k in there])
    by_class.set(ylabel="days of the class that were found (%)", ylim=(0, 100), title="by class, same colours")
    save_figure(figure, run.folder / "weather.png")


def title_of(kind: str) -> str:
    return "MLP, stacked days" if kind == "mlp" else f"{kind.upper()}, shared cell"


def spread(answers: Sequence[Tensor], truth: Tensor) -> tuple[str, str, str]:
    """Mean, least and most accuracy of several networks."""
    shares = [share_right(answer, truth) for answer in answers]
    return f"{statistics.mean(shares):.1%}", f"{min(shares):.1%}", f"{max(shares):.1%}"


def count_windows(cell: str) -> Row:
    """How many parameters stacked days and a shared cell need, by the number of days; four measurements a day."""
    inputs = len(MEASUREMENTS)
    sizes = {days: (count_parameters(stacked_days(days, inputs)), count_parameters(SharedCell(cell, inputs)))
             for days in (1, 3, 7, 14, 30)}
    print_table("Parameters by the number of days looked back on", ["days", title_of("mlp"), title_of(cell)],
                [[days, *counts] for days, counts in sizes.items()])
    smaller = next(days for days in range(1, 1000)
                   if count_parameters(stacked_days(days, inputs)) > count_parameters(SharedCell(cell, inputs)))
    print(f"With {HIDDEN} hidden units the shared cell has fewer from {smaller} days on: its square of hidden weights "
          "must be paid for first.")
    return {"stacked_growth": sizes[30][0] / sizes[1][0], "shared_growth": sizes[30][1] / sizes[1][1],
            "shared_size": sizes[3][1] / sizes[3][0]}


def compare_windows(run: Run, args: argparse.Namespace, weather: Weather) -> None:
    """The notes' argument tried: parameters and accuracy of both networks against the number of days."""
    predicted = forecast(run, weather, (args.cell, "mlp"), args.windows, args.seeds, args.limit)
    truth, simple = baselines(weather, args.limit)
    figure, (sizes, *scores) = new_figure(1, 3, width=4.8, height=4.2)
    rows: list[list[object]] = []
    for panel, (told, sees_classes) in zip(scores, INPUTS.items(), strict=True):
        inputs = make_inputs(weather, sees_classes).shape[1]
        for kind, style in ((args.cell, "o-"), ("mlp", "s--")):
            counts = [count_parameters(make_network(kind, days, inputs)) for days in args.windows]
            if not sees_classes:
                sizes.plot(args.windows, counts, style, label=title_of(kind))
            draw_scores(panel, args.windows, [predicted[told, kind, days] for days in args.windows], truth, style, kind)
            rows += [[told, title_of(kind), days, count, *spread(predicted[told, kind, days], truth)]
                     for days, count in zip(args.windows, counts, strict=True)]
        for (title, answer), colour in zip(simple.items(), ("tab:gray", "black"), strict=True):
            panel.axhline(100 * share_right(answer, truth), color=colour, linestyle=":", label=title)
        panel.set(title=f"told {told}", ylabel=f"days of {TESTED_YEAR} predicted correctly (%)")
    share_y_limits(scores)
    scores[0].legend(fontsize=8)
    sizes.set(title="told the four measurements", ylabel="parameters")
    sizes.legend(fontsize=8)
    for panel in (sizes, *scores):
        panel.set(xlabel="days looked back on", xscale="log")
        panel.set_xticks(args.windows, [str(days) for days in args.windows])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    save_figure(figure, run.folder / "windows.png")
    print_table(f"Accuracy on {TESTED_YEAR} by the number of days, seeds {', '.join(map(str, args.seeds))}",
                ["told", "network", "days", "parameters", "mean", "least", "most"], rows)


def draw_scores(
    axes: Axes, windows: Sequence[int], runs: Sequence[Sequence[Tensor]], truth: Tensor, style: str, kind: str
) -> None:
    """Mean accuracy by window in a band from the least to the most of the seeds."""
    shares = [[100 * share_right(answer, truth) for answer in answers] for answers in runs]
    (curve,) = axes.plot(windows, [statistics.mean(values) for values in shares], style, label=title_of(kind))
    axes.fill_between(windows, [*map(min, shares)], [*map(max, shares)], color=curve.get_color(), alpha=0.15)


# The story


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--cell", choices=tuple(CELLS), default="rnn", help="recurrent cell of the weather networks (%(default)s)")
    add("--windows", type=whole_numbers(1, LONGEST_WINDOW), metavar="N,N,…", help="also compare these numbers of days")
    add("--seeds", type=whole_numbers(0), metavar="N,N,…", help="seeds of the weather networks (five from --seed on)")
    add_data_flag(parser)
    add_run_flags(parser)
    args = parser.parse_args(argv)
    args.seeds = args.seeds or tuple(range(args.seed, args.seed + 5))
    return args


def not_tested(args: argparse.Namespace) -> set[str]:
    """The claims that a run with these settings does not test."""
    return (set() if args.limit is None else {"2.9d"}) | (set() if args.cell == "rnn" else {"2.9b", "2.9c", "2.9d"})


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    weather = load_weather(args.data_dir)
    with start_run(__file__, args, argv) as run:
        metrics = show_linear() | show_shapes() | check_unrolled()
        metrics |= show_hello(run)
        metrics |= count_windows(args.cell)
        metrics |= compare_forecasts(run, args, weather)
        if args.windows:
            compare_windows(run, args, weather)
        verdicts = judge(CLAIMS, metrics, not_tested(args))
        print_claims(CLAIMS, verdicts)
        run.finish(document=2, metrics=metrics, claims=verdicts)
        print(f"Everything is in {run.folder}")


if __name__ == "__main__":
    main()
