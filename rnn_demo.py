"""Document 2, sequences: recurrent networks, five letters, tomorrow's weather.

    python rnn_demo.py                        everything; weather from 3 days
    python rnn_demo.py --cell gru             with another cell (gru or lstm)
    python rnn_demo.py --windows 1,3,7,14,30  also from other numbers of days

You learn that a recurrent cell is one linear layer and tanh, which shapes RNNCell
and RNN take, and how they learn sequences: "hello" → "ohlol", years of weather.

Measured, 17 seconds. "ohlol" after 15 epochs: with 14 of 20 seeds (RNNCell or RNN
alone), with 20 (embedding, RNN, linear).
Wet or dry tomorrow? Accuracy on 2015 (mean ± standard deviation, seeds 0 to 4):
* from the measurements of three days: RNN 73.5 ± 0.2%, two linear layers 73.3 ± 0.3%
* logistic regression (one layer) 73.6 ± 0.6%, "as yesterday" 70.4%, "always dry" 60.5%

The document (2 of five) is notes on 刘二大人's PyTorch course, which gives the
networks of "hello", Adam with learning rate 0.1 and 15 epochs. The notes'
temperature, humidity and light are replaced by Seattle's precipitation, highest
and lowest temperature and wind; wet is precipitation above 0. Trained on 2012, 2013.
Chosen by the loss on 2014: 16 hidden units (of 8, 16, 32), rate 0.02, weight decay.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from common.cli import add_data_flag, add_run_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, make_loader
from common.device import can_fuse, seed_everything
from common.layers import count_parameters
from common.start import start_run
from common.terminal import track
from common.training import evaluate, predict, train_one_epoch
from common.weather import ANSWERS, MEASUREMENTS, Weather, load_weather
from reports import rnn_demo as report
from reports import rnn_weather as weather_report

# 1. A cell: new h = tanh(w1·h + w2·x + b), from an input x and its memory, the hidden state h


def products_by_hand() -> dict[str, Tensor]:
    """Both sides of w1·h + w2·x = [w1 w2]·[h; x] and their parts, with small numbers."""
    w1 = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    w2 = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, -1.0]])
    h, x = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])
    weights, inputs = torch.cat([w1, w2], 1), torch.cat([h, x])  # 2×5 and 5
    two_products = {"w1·h": w1 @ h, "w2·x": w2 @ x, "w1·h + w2·x": w1 @ h + w2 @ x}
    return two_products | {"[w1 w2]": weights, "[h; x]": inputs, "[w1 w2]·[h; x]": weights @ inputs}


def one_layer(w1: Tensor, w2: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [w1 w2] (H×(H+I)) and bias (H) of one layer for both; H hidden units, I inputs."""
    return torch.cat([w1, w2], 1), torch.stack(biases).sum(0)


def cell_as_one_layer() -> list[tuple[Tensor, Tensor]]:
    """The equation with an RNNCell's own weights: pairs that should be equal, 8×16 each."""
    cell = nn.RNNCell(4, 16)
    hidden, inputs = torch.rand(8, 16), torch.randn(8, 4)  # of 8 examples
    two_products = hidden @ cell.weight_hh.T + inputs @ cell.weight_ih.T  # hh: from h, ih: from x
    weight, bias = one_layer(cell.weight_hh, cell.weight_ih, cell.bias_hh, cell.bias_ih)
    one_product = nn.functional.linear(torch.cat([hidden, inputs], 1), weight)  # 8×20 → 8×16
    outputs = torch.tanh(one_product + bias)
    return [(two_products, one_product), (cell(inputs, hidden), outputs)]


# 2. RNNCell: one step, RNN: all. T steps, B sequences, I inputs, H hidden units, L layers

SIZES = {"seq_len": 7, "batch": 2, "input_size": 4, "hidden_size": 5, "num_layers": 3}


class StepByStep(nn.Module):
    """An `RNNCell` called once for each step of a sequence."""

    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, sequence: Tensor, hidden: Tensor) -> Tensor:  # T×B×I and B×H
        states = []
        for step in sequence:  # B×I
            hidden = self.cell(step, hidden)  # B×H
            states.append(hidden)
        return torch.stack(states)  # T×B×H: the hidden state after each step


def modules_and_shapes() -> list[tuple[str, nn.Module, str, str]]:
    """Modules, and the shapes of an input and a hidden state to try; two are wrong on purpose."""
    inputs, hidden, layers = SIZES["input_size"], SIZES["hidden_size"], SIZES["num_layers"]
    cell, rnn = nn.RNNCell(inputs, hidden), nn.RNN(inputs, hidden, layers)
    batch_first = nn.RNN(inputs, hidden, layers, batch_first=True)
    sequence, states = "seq_len batch input_size", "num_layers batch hidden_size"  # in the document
    return [
        ("RNNCell, one step", cell, "batch input_size", "batch hidden_size"),
        ("RNNCell, all steps at once", cell, sequence, "batch hidden_size"),  # wrong on purpose
        ("RNNCell, step by step", StepByStep(cell), sequence, "batch hidden_size"),
        ("RNNCell, hidden of 3 layers", cell, "batch input_size", states),  # wrong on purpose
        ("RNN, as in the document", rnn, sequence, states),
        ("RNN, batch_first=True", batch_first, "batch seq_len input_size", states),
    ]


def unroll(rnn: nn.RNN, inputs: Tensor) -> Tensor:
    """The hidden states T×L×B×H of all T steps in all L layers of `rnn`, from inputs T×B×I."""
    layers = []
    for number in range(rnn.num_layers):
        names = ("weight_hh", "weight_ih", "bias_hh", "bias_ih")
        layers.append(one_layer(*[rnn.get_parameter(f"{name}_l{number}") for name in names]))
    hidden = [inputs.new_zeros(inputs.shape[1], rnn.hidden_size) for _ in layers]  # B×H each
    states = []
    for step in inputs:  # B×I
        layer_input = step
        for number, (weight, bias) in enumerate(layers):
            both = torch.cat([hidden[number], layer_input], 1)  # B×(H+I); upper layers B×2H
            hidden[number] = torch.tanh(nn.functional.linear(both, weight, bias))  # B×H
            layer_input = hidden[number]
        states.append(torch.stack(hidden))  # L×B×H
    return torch.stack(states)


def compare_unrolled() -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Three layers over seven steps: inputs, hidden states, and pairs that should be equal."""
    rnn, inputs = nn.RNN(4, 5, num_layers=3), torch.randn(7, 2, 4)
    states = unroll(rnn, inputs)
    outputs, hidden = rnn(inputs)  # T×B×H: the last layer; L×B×H: the last step
    return inputs, states, [(states[:, -1], outputs), (states[-1], hidden)]


# 3. Read "hello", write "ohlol": one l becomes l, the other o, so the cell must remember the first

LETTERS = "ehlo"
HELLO_EPOCHS, HELLO_LR, HELLO_SEEDS = 15, 0.1, range(20)


def encode(word: str) -> Tensor:
    """A word as the numbers of its letters, T×1."""
    return torch.tensor([[LETTERS.index(letter)] for letter in word])


def spell(scores: Tensor) -> str:
    """The word of the letters with the highest scores (T×4)."""
    return "".join(LETTERS[number] for number in scores.argmax(1).tolist())


# The models: letters T×B → logits T×B×4: for each letter a score, the higher the likelier

class CellReader(nn.Module):
    """An `RNNCell` called once for each letter; its hidden state is the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = StepByStep(nn.RNNCell(len(LETTERS), len(LETTERS)))

    def forward(self, letters: Tensor) -> Tensor:  # T×B
        one_hot = torch.eye(len(LETTERS))[letters]  # T×B×4: a one at the letter's place
        hidden = torch.zeros(letters.shape[1], len(LETTERS))  # B×4
        logits: Tensor = self.steps(one_hot, hidden)  # T×B×4
        return logits


class RNNReader(nn.Module):
    """The same with `RNN`, which goes through the letters itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(len(LETTERS), len(LETTERS))

    def forward(self, letters: Tensor) -> Tensor:  # T×B
        one_hot = torch.eye(len(LETTERS))[letters]  # T×B×4
        logits: Tensor = self.rnn(one_hot)[0]  # T×B×4; [1] is the hidden state after the last
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
    """Trains a network; returns its logits (5×4) before training and after each epoch."""
    seed_everything(seed)
    model = READERS[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=HELLO_LR, fused=True)  # fused: faster
    letters, labels = encode("hello"), encode("ohlol")  # 5×1 each
    history = []
    for _ in range(HELLO_EPOCHS):
        logits = model(letters)  # 5×1×4
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())  # 5×4, 5
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(logits.detach()[:, 0])  # 5×4; of the weights before this epoch's step
    with torch.inference_mode():
        history.append(model(letters)[:, 0])
    return history


def words_by_seed() -> dict[str, list[str]]:
    """What each network spells after its training, with each of the random seeds."""
    words: dict[str, list[str]] = {name: [] for name in READERS}
    for seed in track(HELLO_SEEDS, "hello, seeds"):
        for name, spelled in words.items():
            spelled.append(spell(learn_hello(name, seed)[-1]))
    return words


# 4. The weather. The data: four years of days, each with four measurements. Is the next day wet?

TRAINING_YEARS, VALIDATION_YEAR, TEST_YEAR = (2012, 2013), 2014, 2015
Parts = dict[str, InMemoryDataset]


@dataclass(frozen=True)
class Experiment:
    """A network (a cell's name, `mlp` or `linear`), the days it sees, and a day's features."""

    network: str
    days: int
    features: int = len(MEASUREMENTS)


def make_windows(weather: Weather, days: int, first: int, limit: int | None = None) -> Parts:
    """Each part's examples: the `days` days (N×days×4) before a day, and whether it was wet (N).

    Training begins with predicting day `first`. The other parts look back into the year before.
    """
    training = weather.years <= TRAINING_YEARS[-1]
    known = weather.measurements[training]
    inputs = (weather.measurements - known.mean(0)) / known.std(0)  # D×4, mean 0 and std 1
    windows = inputs.unfold(0, days, 1).transpose(1, 2)  # (D−days+1)×days×4; [i]: days i…i+days−1
    numbers = torch.arange(len(weather.years))
    parts = {
        "train": training & (numbers >= first),
        "validation": weather.years == VALIDATION_YEAR,
        "test": weather.years == TEST_YEAR,
    }
    datasets = {}
    for name, chosen in parts.items():
        targets = numbers[chosen][:limit]  # the days to predict; windows end before them
        datasets[name] = InMemoryDataset(windows[targets - days], weather.wet[targets])
    return datasets


# The models: days B×days×F → logits B×2, for dry and wet. GRU, LSTM: cells that choose what to keep

HIDDEN, WEATHER_LR, WEIGHT_DECAY, WEATHER_BATCH, WEATHER_EPOCHS = 16, 0.02, 0.01, 32, 40
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class SharedCell(nn.Module):
    """One recurrent cell that reads all days, and a linear layer after the last day."""

    def __init__(self, cell: str, features: int) -> None:
        super().__init__()
        self.recurrent = CELLS[cell](features, HIDDEN, batch_first=True)
        self.classify = nn.Linear(HIDDEN, len(ANSWERS))

    def forward(self, days: Tensor) -> Tensor:  # B×days×F
        outputs, _ = self.recurrent(days)  # B×days×16: the hidden state after each day
        logits: Tensor = self.classify(outputs[:, -1])  # B×16 → B×2
        return logits


def make_model(experiment: Experiment) -> nn.Module:
    """`mlp`: two linear layers, `linear`: one; they see all days stacked into one long input."""
    stacked = experiment.days * experiment.features
    if experiment.network == "linear":  # logistic regression
        return nn.Sequential(nn.Flatten(), nn.Linear(stacked, len(ANSWERS)))
    if experiment.network == "mlp":
        return nn.Sequential(
            nn.Flatten(),  # B×days×F → B×days·F
            nn.Linear(stacked, HIDDEN),  # B×16
            nn.Tanh(),
            nn.Linear(HIDDEN, len(ANSWERS)),  # B×2
        )
    return SharedCell(experiment.network, experiment.features)


# Training: the epoch with the lowest validation loss is kept; weight decay pulls weights towards 0


def train(experiment: Experiment, parts: Parts, seed: int, device: torch.device) -> nn.Module:
    """Trains the network of an experiment on the windows that `make_windows` made for it."""
    seed_everything(seed)
    model = make_model(experiment).to(device)
    optimizer = torch.optim.Adam(model.parameters(), WEATHER_LR,
        weight_decay=WEIGHT_DECAY, fused=can_fuse(device))  # fmt: skip
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


# Evaluation: what the networks and two simple rules predict for the test year


def forecast(
    options: argparse.Namespace, weather: Weather, windows: Sequence[int], device: torch.device
) -> dict[Experiment, list[Tensor]]:
    """Trains all networks with all seeds; returns their answers for the test days (N, 1 is wet)."""
    predicted: dict[Experiment, list[Tensor]] = {}
    trainings = [*product((options.cell, "mlp", "linear"), windows, options.seeds)]
    for network, days, seed in track(trainings, "weather networks"):
        # All windows predict the same training days; else the longer ones would have fewer.
        parts = make_windows(weather, days, max(windows), options.limit)
        experiment = Experiment(network, days)
        model = train(experiment, parts, seed, device)
        logits, _ = predict(model, make_loader(parts["test"], 366))
        predicted.setdefault(experiment, []).append(logits.argmax(1))
    return predicted


def baselines(weather: Weather, limit: int | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Whether the test days were wet (N), and what two simple rules predict (N each)."""
    days = torch.arange(len(weather.years))[weather.years == TEST_YEAR][:limit]
    always_dry = torch.zeros_like(days)  # the more common answer in the training years too
    return weather.wet[days], {"always dry": always_dry, "same as yesterday": weather.wet[days - 1]}


# 5. Further experiments: `forecast` with other numbers of days; how many parameters they need


def count_both(cell: str, days: int, features: int) -> tuple[int, int]:
    """The number of parameters of the MLP and of the cell's network."""
    stacked, shared = [make_model(Experiment(name, days, features)) for name in ("mlp", cell)]
    return count_parameters(stacked), count_parameters(shared)


# 6. Options and main


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--cell", choices=tuple(CELLS), default="rnn", help="recurrent cell (default %(default)s)")
    add("--windows", type=whole_numbers(1, 365), metavar="N,N,…",  # leaves a year of training
        help="also compare networks that see these numbers of days")  # fmt: skip
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="random seeds of the weather networks (default: five, from --seed on)")  # fmt: skip
    add_data_flag(parser)
    add_run_flags(parser, device="cpu")
    options = parser.parse_args(argv)
    options.seeds = options.seeds or tuple(range(options.seed, options.seed + 5))
    return options


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    weather = load_weather(options.data_dir)
    with start_run(__file__, options, argv, threads=1) as run:
        report.one_layer(run, products_by_hand(), cell_as_one_layer())
        report.shapes(run, SIZES, modules_and_shapes())
        report.unrolled(run, *compare_unrolled())
        histories = {name: learn_hello(name, run.seed) for name in READERS}
        report.hello(run, histories, LETTERS, spell)
        report.hello_seeds(run, words_by_seed())
        weather_report.years(weather)
        weather_report.parameters(run, options.cell, count_both)
        rules = baselines(weather, options.limit)
        predicted = forecast(options, weather, (3,), run.device)
        ending = weather_report.forecasts(run, predicted, *rules)
        if options.windows:
            predicted = forecast(options, weather, options.windows, run.device)
            ending = weather_report.by_days(run, predicted, *rules)
        run.finish(document=2, claims=report.CLAIMS, ending=ending)


if __name__ == "__main__":
    main()
