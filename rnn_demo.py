"""Document 2, sequences: recurrent networks, five letters, tomorrow's weather.

    python rnn_demo.py                        everything; weather from 3 days
    python rnn_demo.py --cell gru             with another cell (gru or lstm)
    python rnn_demo.py --windows 1,3,7,14,30  also from other numbers of days

You learn that a recurrent cell is one linear layer, which shapes RNNCell and
RNN take, and how networks learn sequences: five letters, four years of weather.

Measured on two cores, in less than half a minute. "ohlol" after 15 epochs:
* RNNCell alone, or RNN alone: with 14 of 20 random seeds
* embedding, RNN and linear layer: with 20 of 20
Test accuracy on the weather of 2015 (mean ± standard deviation, seeds 0 to 4):
* from the measurements of three days: RNN 44.3 ± 2.1%, MLP 41.7 ± 1.2%
* always the most common class: 49.3%
* from measurements and weather of three days: RNN 64.4 ± 1.9%, MLP 63.6 ± 1.7%
* "same as yesterday": 68.8%

The document (2 of five) is notes on 刘二大人's PyTorch course, which gives the
networks of "hello", Adam with learning rate 0.1 and 15 epochs. Chosen here for
the weather: Seattle, 2012 to 2015. The first two years train, the epoch with
the lowest loss on the third is kept, the last is the test. 16 hidden units with
tanh, Adam with learning rate 0.005, 40 epochs.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from common.cli import add_data_flag, add_run_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, make_loader
from common.device import seed_everything
from common.layers import count_parameters
from common.start import start_run
from common.terminal import track
from common.training import evaluate, predict, train_one_epoch
from common.weather import CLASSES, MEASUREMENTS, Weather, load_weather
from reports import rnn_demo as report
from reports import rnn_weather as weather_report

# 1. One cell is one linear layer over hidden state h and input x: w1·h + w2·x = [w1 w2]·[h; x]


def products_by_hand() -> dict[str, Tensor]:
    """Both sides of the equation and their parts, with numbers small enough to follow by hand."""
    w1 = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    w2 = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, -1.0]])
    h, x = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])
    weights, inputs = torch.cat([w1, w2], 1), torch.cat([h, x])  # 2×5 and 5
    two_products = {"w1·h": w1 @ h, "w2·x": w2 @ x, "w1·h + w2·x": w1 @ h + w2 @ x}
    return two_products | {"[w1 w2]": weights, "[h; x]": inputs, "[w1 w2]·[h; x]": weights @ inputs}


def one_layer(w1: Tensor, w2: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    """[w1 w2] (H×(H+I)) from w1 (H×H) and w2 (H×I), for H hidden units; the biases' sum (H)."""
    return torch.cat([w1, w2], 1), torch.stack(biases).sum(0)


def cell_as_one_layer() -> list[tuple[Tensor, Tensor]]:
    """The equation with an RNNCell's own weights: pairs that should be equal, 8×16 each."""
    cell = nn.RNNCell(4, 16)
    hidden, inputs = torch.rand(8, 16), torch.randn(8, 4)
    two_products = hidden @ cell.weight_hh.T + inputs @ cell.weight_ih.T
    weight, bias = one_layer(cell.weight_hh, cell.weight_ih, cell.bias_hh, cell.bias_ih)
    one_product = nn.functional.linear(torch.cat([hidden, inputs], 1), weight)  # 8×20 → 8×16
    outputs = torch.tanh(one_product + bias)
    return [(two_products, one_product), (cell(inputs, hidden), outputs)]


# 2. The shapes that RNNCell and RNN take, and three layers unrolled

SIZES = {"seq_len": 7, "batch": 2, "input_size": 4, "hidden_size": 5, "num_layers": 3}


def modules_and_shapes() -> list[tuple[str, nn.Module, str, str]]:
    """Modules, each with the names of the dimensions of an input and of a hidden state to try."""
    inputs, hidden, layers = SIZES["input_size"], SIZES["hidden_size"], SIZES["num_layers"]
    cell = nn.RNNCell(inputs, hidden)
    rnn = nn.RNN(inputs, hidden, layers)
    batch_first = nn.RNN(inputs, hidden, layers, batch_first=True)
    sequence, states = "seq_len batch input_size", "num_layers batch hidden_size"  # in the document
    return [
        ("RNNCell", cell, "batch input_size", "batch hidden_size"),
        ("RNNCell, no batch", cell, "input_size", "hidden_size"),
        ("RNNCell, as in the document", cell, sequence, states),
        ("RNN, as in the document", rnn, sequence, states),
        ("RNN, batch_first=True", batch_first, "batch seq_len input_size", states),
        ("RNN, no batch", rnn, "seq_len input_size", "num_layers hidden_size"),
    ]


def unroll(rnn: nn.RNN, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What `rnn` computes, step by step: T×B×I (T steps, batch B) → T×B×H, last hidden L×B×H."""
    layers = []
    for number in range(rnn.num_layers):
        names = ("weight_hh", "weight_ih", "bias_hh", "bias_ih")
        layers.append(one_layer(*[rnn.get_parameter(f"{name}_l{number}") for name in names]))
    hidden = [inputs.new_zeros(inputs.shape[1], rnn.hidden_size) for _ in layers]  # B×H each
    outputs = []
    for step in inputs:  # B×I
        layer_input = step
        for number, (weight, bias) in enumerate(layers):
            both = torch.cat([hidden[number], layer_input], 1)  # B×(H+I), then B×2H
            hidden[number] = torch.tanh(nn.functional.linear(both, weight, bias))  # B×H
            layer_input = hidden[number]
        outputs.append(layer_input)
    return torch.stack(outputs), torch.stack(hidden)


def compare_unrolled() -> list[tuple[Tensor, Tensor]]:
    """Three layers over seven steps, by hand and by `nn.RNN`: outputs and hidden states."""
    rnn, inputs = nn.RNN(4, 5, num_layers=3), torch.randn(7, 2, 4)
    return [*zip(unroll(rnn, inputs), rnn(inputs), strict=True)]


# 3. "hello" → "ohlol". The data: five letters as numbers (T×B, int64); the label is the next letter

LETTERS = "ehlo"
HELLO_EPOCHS, HELLO_LR, HELLO_SEEDS = 15, 0.1, range(20)


def encode(word: str) -> Tensor:
    """A word as the numbers of its letters, T×1."""
    return torch.tensor([[LETTERS.index(letter)] for letter in word])


def spell(scores: Tensor) -> str:
    """The word of the letters with the highest scores (T×4)."""
    return "".join(LETTERS[number] for number in scores.argmax(1).tolist())


# The models: letters T×B → logits T×B×4


class CellReader(nn.Module):
    """An `RNNCell` called once for each letter; its hidden state is the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(len(LETTERS), len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:  # T×B
        hidden = torch.zeros(letters.shape[1], len(LETTERS))  # B×4
        logits = []
        for letter in torch.eye(len(LETTERS))[letters]:  # B×4: a one at the letter's place
            hidden = self.cell(letter, hidden)  # B×4
            logits.append(hidden)
        return torch.stack(logits)  # T×B×4


class RNNReader(nn.Module):
    """The same with `RNN`, which goes through the letters itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(len(LETTERS), len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:  # T×B
        logits: Tensor = self.rnn(torch.eye(len(LETTERS))[letters])[0]  # T×B×4
        return logits


class EmbeddingReader(nn.Module):
    """A learned vector for each letter, a two-layer `RNN`, and a linear layer for the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), 10)
        self.rnn = nn.RNN(10, 8, num_layers=2)
        self.linear = nn.Linear(8, len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:  # T×B
        vectors = self.embedding(letters)  # T×B×10
        outputs, _ = self.rnn(vectors)  # T×B×8
        logits: Tensor = self.linear(outputs)  # T×B×4
        return logits


READERS: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": CellReader, "RNN": RNNReader, "embedding, RNN, linear": EmbeddingReader,
}  # fmt: skip


def learn_hello(name: str, seed: int) -> list[Tensor]:
    """Trains a network; the letters' probabilities (5×4) before training and after each epoch."""
    seed_everything(seed)
    model = READERS[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=HELLO_LR)
    letters, labels = encode("hello"), encode("ohlol")  # 5×1 each
    history = []
    for _ in range(HELLO_EPOCHS):
        logits = model(letters)  # 5×1×4
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(logits.detach()[:, 0].softmax(1))
    with torch.inference_mode():
        history.append(model(letters)[:, 0].softmax(1))
    return history


def words_by_seed() -> dict[str, list[str]]:
    """What each network spells after its training, with each of the random seeds."""
    words: dict[str, list[str]] = {name: [] for name in READERS}
    for seed in track(HELLO_SEEDS, "hello, seeds"):
        for name, spelled in words.items():
            spelled.append(spell(learn_hello(name, seed)[-1]))
    return words


# 4. The weather. The data: four years of days, each with four measurements and a class

TRAINING_YEARS, VALIDATION_YEAR, TEST_YEAR = (2012, 2013), 2014, 2015
LONGEST_WINDOW = 365  # days: at least a year of training examples is left
Parts = dict[str, InMemoryDataset]


def make_inputs(weather: Weather, with_weather: bool) -> Tensor:
    """A day's inputs: scaled measurements (D×4), and its one-hot class if `with_weather` (D×9)."""
    training = weather.measurements[weather.years <= TRAINING_YEARS[-1]]
    scaled = (weather.measurements - training.mean(0)) / training.std(0)
    classes = torch.eye(len(CLASSES))[weather.classes]  # D×5: a one at the class's place
    return torch.cat([scaled, classes], 1) if with_weather else scaled


def make_windows(
    weather: Weather, inputs: Tensor, days: int, first: int, limit: int | None = None
) -> Parts:
    """Each part's examples: the `days` days (N×days×F) before a day, and the class of that day (N).

    The first training example predicts day `first`, which has at least `days` days before it. The
    first examples of the other parts look back into the year before.
    """
    windows = inputs.unfold(0, days, 1).transpose(1, 2)  # windows[i]: days i … i + days − 1
    numbers = torch.arange(len(weather.years))
    parts = {
        "train": (weather.years <= TRAINING_YEARS[-1]) & (numbers >= first),
        "validation": weather.years == VALIDATION_YEAR,
        "test": weather.years == TEST_YEAR,
    }
    datasets = {}
    for name, chosen in parts.items():
        targets = numbers[chosen][:limit]  # the days to predict
        datasets[name] = InMemoryDataset(windows[targets - days], weather.classes[targets])
    return datasets


# The models: days B×days×F → logits B×5

HIDDEN, WEATHER_LR, WEATHER_BATCH, WEATHER_EPOCHS = 16, 0.005, 32, 40
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class Experiment:
    """A network (a cell's name or `mlp`), how many days it sees, and whether with their classes."""

    network: str
    days: int
    with_weather: bool = False


class SharedCell(nn.Module):
    """One recurrent cell that reads all days, and a linear layer after the last day."""

    def __init__(self, cell: str, inputs: int) -> None:
        super().__init__()
        self.recurrent = CELLS[cell](inputs, HIDDEN, batch_first=True)
        self.classify = nn.Linear(HIDDEN, len(CLASSES))

    def forward(self, days: Tensor) -> Tensor:  # B×days×F
        outputs, _ = self.recurrent(days)  # B×days×16: the hidden state after each day
        logits: Tensor = self.classify(outputs[:, -1])  # B×16 → B×5
        return logits


def make_model(experiment: Experiment) -> nn.Module:
    """The network of an experiment; `mlp` sees all days at once, stacked into one long input."""
    inputs = len(MEASUREMENTS) + (len(CLASSES) if experiment.with_weather else 0)
    if experiment.network != "mlp":
        return SharedCell(experiment.network, inputs)
    return nn.Sequential(
        nn.Flatten(),  # B×days×F → B×days·F
        nn.Linear(experiment.days * inputs, HIDDEN),  # B×16
        nn.Tanh(),
        nn.Linear(HIDDEN, len(CLASSES)),  # B×5
    )


# Training: the epoch with the lowest loss on the validation year is kept


def train(experiment: Experiment, parts: Parts, seed: int, device: torch.device) -> nn.Module:
    """Trains the network of an experiment on the windows that `make_windows` made for it."""
    seed_everything(seed)
    model = make_model(experiment).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=WEATHER_LR)
    batches = make_loader(parts["train"], WEATHER_BATCH, shuffle=True, seed=seed)
    validation = make_loader(parts["validation"], 366)  # a year in one batch
    lowest, kept = float("inf"), copy.deepcopy(model.state_dict())
    for _ in range(WEATHER_EPOCHS):
        train_one_epoch(model, batches, nn.CrossEntropyLoss(), optimizer)
        loss = evaluate(model, validation, {"loss": nn.functional.cross_entropy})["loss"]
        if loss < lowest:
            lowest, kept = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model


# Evaluation: the classes predicted for the test year, by the networks and by two simple rules


def forecast(
    options: argparse.Namespace, weather: Weather, windows: Sequence[int], device: torch.device
) -> dict[Experiment, list[Tensor]]:
    """Trains all networks with all seeds; the classes (N) that each predicts for the test days."""
    predicted: dict[Experiment, list[Tensor]] = {}
    trainings = [*product((False, True), windows, (options.cell, "mlp"), options.seeds)]
    for with_weather, days, network, seed in track(trainings, "weather networks"):
        inputs = make_inputs(weather, with_weather)
        # All windows predict the same training days; else the longer ones would have fewer.
        parts = make_windows(weather, inputs, days, max(windows), options.limit)
        experiment = Experiment(network, days, with_weather)
        model = train(experiment, parts, seed, device)
        logits, _ = predict(model, make_loader(parts["test"], 366))
        predicted.setdefault(experiment, []).append(logits.argmax(1))
    return predicted


def baselines(weather: Weather, limit: int | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The classes (N) of the test days, and what two simple rules predict (N each)."""
    days = torch.arange(len(weather.years))[weather.years == TEST_YEAR][:limit]
    most_common = weather.classes[weather.years <= TRAINING_YEARS[-1]].mode().values
    yesterday = weather.classes[days - 1]
    guesses = {"most common class": most_common.expand(len(days)), "same as yesterday": yesterday}
    return weather.classes[days], guesses


# 5. Further experiments: `forecast` with other numbers of days; how many parameters they need


def parameters_by_days(cell: str) -> dict[int, tuple[int, int]]:
    """The number of parameters of the MLP and of the cell's network, for 1 to 30 days."""
    counts = {}
    for days in range(1, 31):
        stacked, shared = make_model(Experiment("mlp", days)), make_model(Experiment(cell, days))
        counts[days] = (count_parameters(stacked), count_parameters(shared))
    return counts


# 6. Options and main


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--cell", choices=tuple(CELLS), default="rnn", help="recurrent cell (default %(default)s)")
    add("--windows", type=whole_numbers(1, LONGEST_WINDOW), metavar="N,N,…",
        help="also compare networks that see these numbers of days")  # fmt: skip
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="random seeds of the weather networks (default: five, from --seed on)")  # fmt: skip
    add_data_flag(parser)
    add_run_flags(parser)
    options = parser.parse_args(argv)
    options.seeds = options.seeds or tuple(range(options.seed, options.seed + 5))
    return options


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    weather = load_weather(options.data_dir)
    with start_run(__file__, options, argv) as run:
        report.one_layer(run, products_by_hand(), cell_as_one_layer())
        report.shapes(run, SIZES, modules_and_shapes())
        report.unrolled(run, compare_unrolled())
        histories = {name: learn_hello(name, run.seed) for name in READERS}
        report.hello(run, histories, LETTERS, spell)
        report.hello_seeds(run, words_by_seed())
        report.parameters(run, options.cell, parameters_by_days(options.cell))
        weather_report.years(weather)
        labels, guesses = baselines(weather, options.limit)
        predicted = forecast(options, weather, (3,), run.device)
        ending = weather_report.forecasts(run, predicted, guesses, labels)
        if options.windows:
            predicted = forecast(options, weather, options.windows, run.device)
            ending = weather_report.by_days(run, predicted, guesses, labels, make_model)
        run.finish(document=2, claims=report.CLAIMS, ending=ending)


if __name__ == "__main__":
    main()
