"""Document 2, its networks: a basic CNN, Inception and residual blocks read handwritten digits.

    python mnist_cnn.py                     the basic network
    python mnist_cnn.py --model inception   or residual
    python mnist_cnn.py --model all         the three side by side (--seeds 0,1,2 for more than one seed)

MNIST, 60,000 pictures to learn from and 10,000 to test on. The story is that of the notes on the PyTorch course of the
lecturer 刘二大人: two convolutions; a block of four branches of which training may pick the useful ones; what a 1×1
convolution saves; blocks whose input is added to their output.

Measured on two cores, means of seeds 0 to 4 (least, most): after 10 epochs 98.7% (98.3, 98.9) of the test pictures with
the basic network, 98.7% (98.5, 98.9) with Inception blocks, 99.0% (98.9, 99.1) with residual ones; an epoch takes
about 6, 31 and 11 s.

Layer sizes, rates and epochs are the course's, which the notes leave out: SGD with rate 0.01 and momentum 0.5, batches
of 64 in an order mixed anew each epoch, 10 epochs, pixels less 0.1307 divided by 0.3081. The test pictures are scored
after every epoch, as in the course. ReLU stands after max-pooling, as the course has it in the basic network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from common.cli import add_data_flag, add_shared_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, load_images, make_loader
from common.device import seed_everything
from common.metrics import accuracy, confusion_matrix, misclassified
from common.plots import (
    comparison_figure,
    confusion_figure,
    draw_curves,
    error_gallery,
    new_figure,
    save_figure,
    share_y_limits,
)
from common.report import Claim, count_multiplications, judge, layer_table, print_claims, print_table
from common.runs import Run, start_run
from common.training import Row, evaluate, fit, predict

DIGITS = [str(digit) for digit in range(10)]
MEAN, STANDARD_DEVIATION = 0.1307, 0.3081
COURSE_EPOCHS, COURSE_BATCH, COURSE_LR = 10, 64, 0.01

# What the document states, each with its bound in words and in code. Accuracies are the course's, not the notes'.
CLAIMS = (
    Claim("2.1a", "pictures to train on", "60000", "train_pictures", lambda count: count == 60_000, "{:.0f}"),
    Claim("2.1b", "pictures to test on", "10000", "test_pictures", lambda count: count == 10_000, "{:.0f}"),
    Claim("2.1c", "numbers that change in a tensor when its view is changed", "shared memory: all, 6 of 6",
          "shared_by_view", lambda count: count == 6, "{:.0f}"),
    Claim("2.5a", "multiplications of the 5×5 convolution, 192→32 channels", "120422400",
          "direct_multiplications", lambda count: count == 120_422_400, "{:.0f}"),
    Claim("2.5b", "multiplications through 16 channels", "12433648",
          "bottleneck_multiplications", lambda count: count == 12_433_648, "{:.0f}"),
    Claim("2.5c", "reduction", "by 1/10 (± 2 points)",
          "bottleneck_reduction", lambda share: abs(share - 0.1) <= 0.02, "by {:.1%}"),
    Claim("2.6a", "channels out of an Inception block", "24·3 + 16 = 88",
          "inception_channels", lambda channels: channels == 88, "{:.0f}"),
    Claim("2.6b", "rank correlation of a branch's use and gain in weight, least of the seeds", "better, heavier: > 0",
          "use_and_weight", lambda correlation: correlation > 0, "{:+.2f}"),
    Claim("2.8", "residual blocks whose output has another shape than their input", "none: 0",
          "residual_shape_changes", lambda count: count == 0, "{:.0f}"),
)


# The networks (2.4, 2.6, 2.8): pictures B×1×28×28 → logits B×10


def basic() -> nn.Sequential:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),  # 10×12×12
        nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),  # 20×4×4
        nn.Flatten(), nn.Linear(320, 10),
    )  # fmt: skip


# An Inception block's branches, and which of its channels are whose.
BRANCHES = {"pool, 1×1": slice(0, 24), "1×1": slice(24, 40), "1×1, 5×5": slice(40, 64), "1×1, 3×3, 3×3": slice(64, 88)}


class Inception(nn.Module):
    """Four branches over the same input (B×C×H×W), their outputs side by side: B×88×H×W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([
            nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(channels, 24, 1)),
            nn.Conv2d(channels, 16, 1),
            nn.Sequential(nn.Conv2d(channels, 16, 1), nn.Conv2d(16, 24, 5, padding=2)),
            nn.Sequential(nn.Conv2d(channels, 16, 1), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)),
        ])  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([branch(images) for branch in self.branches], dim=1)


def inception() -> nn.Sequential:
    """The basic network with an Inception block after each pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), Inception(10),  # 88×12×12
        nn.Conv2d(88, 20, 5), nn.MaxPool2d(2), nn.ReLU(), Inception(20),  # 88×4×4
        nn.Flatten(), nn.Linear(1408, 10),
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """ReLU(x + F(x)) with two 3×3 convolutions for F: B×inputs×H×W → B×outputs×H×W.

    Where the numbers of channels differ x cannot be added as it is: `skip` says whether a 1×1 convolution transforms
    it (`transformed`) or nothing is added (`left out`).
    """

    def __init__(self, inputs: int, outputs: int, skip: str = "transformed") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip: nn.Module | None = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1) if skip == "transformed" else None

    def forward(self, images: Tensor) -> Tensor:
        change = self.conv2(torch.relu(self.conv1(images)))
        return torch.relu(change if self.skip is None else self.skip(images) + change)


def residual() -> nn.Sequential:
    """The basic network, wider, with a residual block after each pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.MaxPool2d(2), nn.ReLU(), ResidualBlock(16, 16),  # 16×12×12
        nn.Conv2d(16, 32, 5), nn.MaxPool2d(2), nn.ReLU(), ResidualBlock(32, 32),  # 32×4×4
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {"basic": basic, "inception": inception, "residual": residual}


# The data (2.1)


@dataclass(frozen=True)
class Digits:
    """Pictures (uint8, N×1×28×28, 0..255) and their digits (int64, N)."""

    images: Tensor
    labels: Tensor

    def dataset(self) -> InMemoryDataset:
        """Examples for a network: `ToTensor` and `Normalize`, a batch at a time."""
        return InMemoryDataset(self.images, self.labels, transform=normalise)


def normalise(images: Tensor) -> Tensor:
    """Bytes → numbers of mean 0 and standard deviation 1 over MNIST's training pictures."""
    return (images.float() / 255 - MEAN) / STANDARD_DEVIATION


def show_data(train: Digits, test: Digits) -> Row:
    """Prints what the data is and what normalising does; shows that a view shares its tensor's memory."""
    pixels = normalise(train.images)
    print(f"{len(train.labels)} pictures to train on, {len(test.labels)} to test on; normalised the training pixels "
          f"have mean {pixels.mean():+.4f} and standard deviation {pixels.std():.4f}")
    numbers = torch.arange(6)
    view = numbers.view(2, -1)
    view += 100
    print(f"view(2, -1) of 6 numbers: shape {tuple(view.shape)}; adding 100 to it makes the numbers {numbers.tolist()}")
    return {"train_pictures": len(train.labels), "test_pictures": len(test.labels),
            "shared_by_view": int((numbers >= 100).sum())}


# What a 1×1 convolution saves (2.5)


def compare_bottleneck() -> Row:
    """A 5×5 convolution from 192 to 32 channels, directly and through 16: multiplications and time."""
    direct = nn.Conv2d(192, 32, 5, padding=2)
    bottleneck = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    by_hand = {
        "direct": ("5·5·28·28·192·32", 5 * 5 * 28 * 28 * 192 * 32),
        "bottleneck": ("1·1·28·28·192·16 + 5·5·28·28·16·32", 28 * 28 * (192 * 16 + 5 * 5 * 16 * 32)),
    }
    images = torch.randn(8, 192, 28, 28)
    seconds = time_in_turn([lambda: direct(images), lambda: bottleneck(images)])
    metrics: Row = {}
    rows = []
    for (way, (formula, product)), layers, elapsed in zip(
        by_hand.items(), (direct, bottleneck), seconds, strict=True
    ):
        metrics[f"{way}_multiplications"] = counted = count_multiplications(layers, images[:1])
        rows.append([way, formula, f"{product:,}", f"{counted:,}", f"{1000 * elapsed / len(images):.2f}"])
    share = metrics["bottleneck_multiplications"] / metrics["direct_multiplications"]
    metrics |= {"bottleneck_reduction": 1 - share, "bottleneck_time": seconds[1] / seconds[0]}
    print_table("A 5×5 convolution, 192→32 channels, 28×28; the bottleneck has 16 channels",
                ["way", "multiplications", "by hand", "counted in the layers", "ms a picture"], rows)
    print("The notes' second number, 12,433,648, is a slip: 2,408,448 + 10,035,200 = 12,443,648. That is "
          f"{share:.1%} of the first: reduced to a tenth, not by one. The time is {metrics['bottleneck_time']:.0%}.")
    return metrics


def time_in_turn(ways: Sequence[Callable[[], object]], rounds: int = 15) -> list[float]:
    """The median seconds of each way, timed in turn, after one round that does not count."""
    seconds: list[list[float]] = [[] for _ in ways]
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for way, timed in zip(ways, seconds, strict=True):
                start = time.perf_counter()
                way()
                timed.append(time.perf_counter() - start)
    return [statistics.median(timed[1:]) for timed in seconds]


# Training and its report (2.4)


def train_network(
    run: Run, args: argparse.Namespace, name: str, train: Digits, test: Digits
) -> tuple[nn.Sequential, list[Row]]:
    """Trains a network by the options; each epoch's row has its loss and accuracy on the test pictures."""
    seed_everything(run.seed)
    # On this memory layout convolutions are faster; the numbers differ by rounding alone.
    network = NETWORKS[name]().to(run.device).to(memory_format=torch.channels_last)
    fused = run.device.type in ("cpu", "cuda")
    optimizer = torch.optim.SGD(network.parameters(), lr=args.lr, momentum=0.5, fused=fused)
    loader = make_loader(train.dataset(), args.batch_size, shuffle=True, seed=run.seed)
    tested = make_loader(test.dataset(), 500)
    history = fit(network, loader, nn.CrossEntropyLoss(), optimizer, epochs=args.epochs, run=run,
                  validate=lambda network: evaluate(network, tested, {"test_loss": nn.functional.cross_entropy,
                                                                      "test_accuracy": accuracy}, run.dtype),
                  show={"train_loss": "loss", "test_loss": "test loss", "test_accuracy": "test accuracy"})
    return network, history


def report_network(run: Run, name: str, network: nn.Sequential, history: Sequence[Row], test: Digits) -> None:
    """Prints the layers; draws learning curves, confusion matrix and the worst errors."""
    blank = torch.zeros(1, 1, 28, 28, device=run.device)
    print_table(f"{name}: the size after each layer", ["layer", "output", "parameters"], layer_table(network, blank))
    print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters, "
          f"{count_multiplications(network, blank):,} multiplications a picture")
    figure, (losses, shares) = new_figure(1, 2)
    draw_curves(losses, history, {"test_loss": "test", "train_loss": "training"}, y_label="cross-entropy", log=True)
    shares.plot([row["epoch"] for row in history], [100 * row["test_accuracy"] for row in history], "o-")
    shares.set(xlabel="epoch", ylabel="test pictures read correctly (%)")
    shares.grid(alpha=0.3)
    save_figure(figure, run.folder / "learning_curves.png")
    logits, labels = predict(network, make_loader(test.dataset(), 500), run.dtype)
    confusion_figure(confusion_matrix(labels, logits.argmax(1), 10), DIGITS, run.folder / "confusion_matrix.png")
    error_gallery(test.images, labels, misclassified(logits, labels), DIGITS, run.folder / "errors.png")


# Inception: channels, and which branch is used (2.6)


def show_inception() -> Row:
    """Prints what each branch makes of real tensors, and how they come to 88 channels and 1408 numbers."""
    block = Inception(10)
    images = torch.zeros(1, 10, 12, 12)
    parts = {name: branch(images) for name, branch in zip(BRANCHES, block.branches, strict=True)}
    shapes = {name: "×".join(map(str, part.shape[1:])) for name, part in parts.items()}
    together = block(images)
    print_table("Inception: 10×12×12 goes into each branch", ["branch", "output"], list(shapes.items()))
    sums = " + ".join(str(part.shape[1]) for part in parts.values())
    print(f"Side by side: {sums} = {together.shape[1]} channels. The second block leaves {together.shape[1]}×4×4 = "
          f"{inception()[:-1](torch.zeros(1, 1, 28, 28)).shape[1]} numbers for the last layer.")
    return {"inception_channels": together.shape[1]}


def inception_blocks(network: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    """Each Inception block of a network and the layer that reads its channels."""
    layers = list(network)
    return [(block, next(layer for layer in layers[place + 1 :] if isinstance(layer, nn.Conv2d | nn.Linear)))
            for place, block in enumerate(layers) if isinstance(block, Inception)]


def reading_weights(reader: nn.Module, channels: slice) -> float:
    """Root of the mean square of the weights with which a layer reads these of the 88 channels before it."""
    weight = reader.get_parameter("weight")
    by_channel = weight.detach().reshape(len(weight), 88, -1)[:, channels]
    return by_channel.square().mean().sqrt().item()


def study_branches(run: Run, network: nn.Sequential, test: Digits) -> Row:
    """Which branch does the trained network rely on: weights before and after, and accuracy when it is silenced."""
    seed_everything(run.seed)
    untrained = inception_blocks(inception())
    batches = make_loader(test.dataset(), 500)
    whole = accuracy(*predict(network, batches, run.dtype))
    rows: list[list[object]] = []
    correlations = []
    figure, panels = new_figure(1, 2)
    for number, (block, reader) in enumerate(inception_blocks(network)):
        gains, drops = [], []
        for name, channels in BRANCHES.items():
            first, last = reading_weights(untrained[number][1], channels), reading_weights(reader, channels)
            drops.append(whole - accuracy_without(network, block, channels, batches, run.dtype))
            gains.append(last / first - 1)
            rows.append([number + 1, name, f"{first:.4f}", f"{last:.4f}", f"{gains[-1]:+.1%}", f"{drops[-1]:.2%}"])
        same = len(set(drops)) == 1  # then there is no order to correlate with
        correlations.append(0.0 if same else float(spearmanr(gains, drops).statistic))
        places = range(len(BRANCHES))
        for side, label, shares in ((-0.2, "gain in weight (%)", gains), (0.2, "accuracy lost without it (%)", drops)):
            panels[number].bar([place + side for place in places], [100 * share for share in shares], 0.4, label=label)
        panels[number].set_xticks(places, [*BRANCHES])
        panels[number].set(title=f"block {number + 1}, read by {type(reader).__name__}")
        panels[number].legend()
    share_y_limits(panels)
    save_figure(figure, run.folder / "branches.png")
    print_table("Inception: how strongly the next layer reads each branch (root mean square of its weights)",
                ["block", "branch", "before", "after training", "gain", "accuracy lost without it"], rows)
    return {"use_and_weight": statistics.mean(correlations)}


def accuracy_without(
    network: nn.Module, block: nn.Module, channels: slice, batches: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype
) -> float:
    """The network's accuracy when a block's output is zero in these channels."""

    def silence(_: nn.Module, __: object, output: Tensor) -> Tensor:
        output[:, channels] = 0
        return output

    hook = block.register_forward_hook(silence)
    try:
        return accuracy(*predict(network, batches, dtype))
    finally:
        hook.remove()


# Residual blocks: shapes (2.8)


def show_residual() -> Row:
    """Prints shapes through a block, and the two ways out where x and F(x) have different numbers of channels."""
    images = torch.zeros(1, 16, 12, 12)
    rows = []
    for inputs, outputs, skip in ((16, 16, "x itself"), (16, 32, "transformed"), (16, 32, "left out")):
        block = ResidualBlock(inputs, outputs, skip)
        parameters = sum(p.numel() for p in block.parameters())
        rows.append([f"{inputs}→{outputs}", skip, "×".join(map(str, block(images).shape[1:])), parameters])
    print_table("Residual block: 16×12×12 goes in", ["channels", "what is added", "output", "parameters"], rows)
    changes = sum(ResidualBlock(n, n)(torch.zeros(1, n, s, s)).shape != (1, n, s, s) for n, s in ((16, 12), (32, 4)))
    return {"residual_shape_changes": changes}


# The three side by side


def compare_networks(run: Run, args: argparse.Namespace, train: Digits, test: Digits) -> Row:
    """Trains each network from each seed; one table and figure: accuracy, parameters, multiplications, time."""
    histories: dict[str, list[list[Row]]] = {name: [] for name in NETWORKS}
    uses: list[float] = []
    for seed in args.seeds:
        for name in NETWORKS:
            study = run.study(f"{name}-seed{seed}", {"model": name, "seed": seed}, seed)
            network, history = train_network(study, args, name, train, test)
            report_network(study, name, network, history, test)
            histories[name].append(history)
            if name == "inception":
                uses.append(study_branches(study, network, test)["use_and_weight"])
    metrics: Row = {"use_and_weight": min(uses)}
    blank = torch.zeros(1, 1, 28, 28)
    sizes, rows = {}, []
    for name, runs in histories.items():
        shares = [history[-1]["test_accuracy"] for history in runs]
        parameters = sum(p.numel() for p in NETWORKS[name]().parameters())
        multiplications = count_multiplications(NETWORKS[name](), blank)
        seconds = statistics.median(row["seconds"] for history in runs for row in history)
        sizes[name] = f"{parameters:,} parameters, {multiplications / 1e6:.1f} M mult."
        rows.append([name, f"{statistics.mean(shares):.2%}", f"{min(shares):.2%}", f"{max(shares):.2%}",
                     f"{parameters:,}", f"{multiplications:,}", f"{seconds:.1f}"])
        metrics |= {f"{name}_test_accuracy": statistics.mean(shares), f"{name}_seconds_per_epoch": seconds}
    print_table(f"Test accuracy after {args.epochs} epochs, seeds {', '.join(map(str, args.seeds))} "
                "(the course: about 98, 98 to 99 and 99%)",
                ["network", "mean", "least", "most", "parameters", "multiplications", "seconds an epoch"], rows)
    comparison_figure(histories, {"test_accuracy": "test accuracy (%)"}, sizes, run.folder / "comparison.png")
    return metrics


# The story


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--model", choices=(*NETWORKS, "all"), default="basic", help="which network, or all side by side (%(default)s)")
    add("--seeds", type=whole_numbers(0), default=None, metavar="N,N,…", help="seeds of --model all (that of --seed)")
    add_data_flag(parser)
    add_shared_flags(parser, epochs=COURSE_EPOCHS, batch_size=COURSE_BATCH, lr=COURSE_LR)
    args = parser.parse_args(argv)
    if args.seeds and args.model != "all":
        parser.error("--seeds belongs to --model all; one network takes --seed N")
    args.seeds = args.seeds or (args.seed,)
    return args


def not_tested(args: argparse.Namespace) -> set[str]:
    """The claims that a run with these settings does not test: those about the data and about a trained network."""
    course = (args.epochs, args.batch_size, args.lr, args.limit, args.precision) == (
        COURSE_EPOCHS, COURSE_BATCH, COURSE_LR, None, "fp32"
    )  # fmt: skip
    return set() if course else {"2.1a", "2.1b", "2.6b"}


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with start_run(__file__, args, argv) as run:
        train = Digits(*load_images("MNIST", "train", args.data_dir, args.limit))
        test = Digits(*load_images("MNIST", "test", args.data_dir, args.limit))
        metrics = show_data(train, test)
        metrics |= compare_bottleneck()
        metrics |= show_inception()
        metrics |= show_residual()
        if args.model == "all":
            metrics |= compare_networks(run, args, train, test)
        else:
            network, history = train_network(run, args, args.model, train, test)
            report_network(run, args.model, network, history, test)
            if args.model == "inception":
                metrics |= study_branches(run, network, test)
            metrics |= {"train_loss": history[-1]["train_loss"], "test_accuracy": history[-1]["test_accuracy"],
                        "seconds_per_epoch": statistics.median(row["seconds"] for row in history)}
        verdicts = judge(CLAIMS, metrics, not_tested(args))
        print_claims(CLAIMS, verdicts)
        run.finish(document=2, metrics=metrics, claims=verdicts)
        print(f"Everything is in {run.folder}")


if __name__ == "__main__":
    main()
