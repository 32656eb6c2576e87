"""Document 3: a convolutional network of two layers tells clothes apart.

    python fashion_cnn.py --epochs 6                     the document's run (6 epochs are the default)
    python fashion_cnn.py --kernel-size 3 --batch-norm   with the changes it proposes
    python fashion_cnn.py --compare                      each proposal against the document's network, three seeds

Fashion-MNIST: 60,000 pictures of 28×28 grey pixels to learn from, 10,000 to validate on, ten kinds of clothing. The
story is the document's ("CNNs with PyTorch", MLearning.ai): how large the picture is after each layer, training with
cost and accuracy side by side, which clothes are mistaken for which, and two proposals for more accuracy.

Measured on two cores, seeds 0 to 4: 89.6 ± 0.3% of the validation pictures after 6 epochs, in about a minute. Kernels
of 3×3 gave 0.4 points less in three quarters of the time, batch norm 0.7 points more, and after 3 epochs already more
than the plain network after 6 (seeds 0, 1, 2; `--compare` takes 16 minutes).

Where this differs from the document's notebook, and why:
* ReLU stands after max-pooling. The largest of four ReLUs is the ReLU of the largest, so the network computes the
  same, with a quarter of the work for ReLU.
* validation goes through the network 200 pictures at a time, not 5000: the same numbers in less memory.
* the cost is the mean over the training pictures as they are learned from; the notebook adds up its 600 batches.
As in the notebook the training pictures come in the same order in every epoch (`--shuffle` mixes them anew), and the
10,000 test pictures validate: no picture is left that no choice has seen.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from common.cli import add_data_flag, add_shared_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, load_images, make_loader
from common.device import seed_everything
from common.errors import UsageError
from common.metrics import accuracy, confusion_matrix, misclassified
from common.plots import comparison_figure, confusion_figure, error_gallery, image_grid, new_figure, save_figure
from common.report import Claim, judge, print_claims, print_table
from common.runs import Run, start_run
from common.training import Row, evaluate, fit, predict

NAMES = FashionMNIST.classes
PULLOVER, COAT, SANDAL, SNEAKER, BAG = 2, 4, 5, 7, 8
DOCUMENT_EPOCHS, DOCUMENT_BATCH, DOCUMENT_LR = 6, 100, 0.1
VALIDATION_BATCH = 200

# What the document states, each with its bound in words and in code.
CLAIMS = (
    Claim("3.1a", "layers whose real size is not the formula's", "none: 0",
          "sizes_off", lambda layers: layers == 0, "{:.0f}"),
    Claim("3.1b", "numbers that enter the last layer", "32·7·7 = 1568",
          "flat_features", lambda features: features == 1568, "{:.0f}"),
    Claim("3.1c", "stride of the max-pooling", "0, as printed",
          "pool_stride", lambda stride: stride == 0, "{:.0f}"),
    Claim("3.2", "validation accuracy after 6 epochs", "almost 90%: ≥ 88%",
          "val_accuracy", lambda share: share >= 0.88, "{:.1%}"),
    Claim("3.3a", "cost, from the first epoch to the last", "falls: < 0",
          "cost_change", lambda change: change < 0, "{:+.3f}"),
    Claim("3.3b", "accuracy, from the first epoch to the last", "rises: > 0 points",
          "accuracy_change", lambda change: change > 0, "{:+.1%}"),
    Claim("3.5a", "sandal and sneaker: place among the 45 pairs most confused", "hard: place 1 or 2",
          "rank_sandal_sneaker", lambda place: place <= 2, "{:.0f}"),
    Claim("3.5b", "pullover and coat: place among the 45 pairs most confused", "hard: place 1 or 2",
          "rank_pullover_coat", lambda place: place <= 2, "{:.0f}"),
    Claim("3.5c", "sneakers taken for a bag", "happens: ≥ 1",
          "sneakers_taken_for_bags", lambda count: count >= 1, "{:.0f}"),
    Claim("3.6a", "3×3 kernels: change in accuracy, the least of the seeds", "higher: > 0 points",
          "small_kernel_least_gain", lambda gain: gain > 0, "{:+.2%}"),
    Claim("3.6b", "3×3 kernels: seconds an epoch, times as many", "longer: > 1×",
          "small_kernel_time", lambda ratio: ratio > 1, "{:.2f}×"),
    Claim("3.6c", "batch norm: change in accuracy, the least of the seeds", "higher: > 0 points",
          "batch_norm_least_gain", lambda gain: gain > 0, "{:+.2%}"),
    Claim("3.6d", "batch norm: epochs to the plain network's last accuracy, the most of the seeds", "fewer: < 6",
          "batch_norm_most_epochs", lambda epochs: epochs < 6, "{:.0f}"),
)


# The network (3.1, 3.6)


@dataclass(frozen=True)
class Variant:
    """The document's network, or with what it proposes."""

    kernel_size: int = 5
    batch_norm: bool = False

    def network(self) -> nn.Sequential:
        """Pictures B×1×28×28 → logits B×10."""

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, self.kernel_size, padding=self.kernel_size // 2)
            return [convolution, *[nn.BatchNorm2d(outputs)] * self.batch_norm, nn.MaxPool2d(2), nn.ReLU()]

        last = [nn.Linear(32 * 7 * 7, 10), *[nn.BatchNorm1d(10)] * self.batch_norm]
        return nn.Sequential(*block(1, 16), *block(16, 32), nn.Flatten(), *last)


VARIANTS = {
    "5×5, as in the document": Variant(),
    "3×3": Variant(kernel_size=3),
    "5×5 and batch norm": Variant(batch_norm=True),
    "3×3 and batch norm": Variant(kernel_size=3, batch_norm=True),
}


def show_sizes(network: nn.Sequential) -> Row:
    """Prints the size after each layer by the document's formulas beside the real one; returns where they differ."""
    images = torch.zeros(2, 1, 28, 28)
    size = 28
    metrics: Row = {"sizes_off": 0}
    rows: list[list[object]] = []
    for layer in network:
        before, images = size, layer(images)
        arithmetic = ""
        if isinstance(layer, nn.Conv2d):
            kernel, padding = layer.kernel_size[0], int(layer.padding[0])
            size = before + 2 * padding - kernel + 1
            arithmetic = f"I + 2p − k + 1 = {before} + 2·{padding} − {kernel} + 1 = {size}"
        elif isinstance(layer, nn.MaxPool2d):
            pool_size, stride = cast(int, layer.kernel_size), cast(int, layer.stride)
            size = (before - pool_size) // stride + 1
            arithmetic = f"(I − k)/s + 1 = ({before} − {pool_size})/{stride} + 1 = {size}"
            metrics["pool_stride"] = stride
        elif isinstance(layer, nn.Flatten):
            size = 32 * before**2
            arithmetic = f"32·{before}·{before} = {size}"
            metrics["flat_features"] = images.shape[-1]
        metrics["sizes_off"] += bool(arithmetic) and images.shape[-1] != size
        parameters = sum(p.numel() for p in layer.parameters())
        rows.append([repr(layer), arithmetic, "×".join(map(str, images.shape[1:])), parameters])
    print_table("The size of a picture (I: side before the layer, k: kernel, p: padding, s: stride)",
                ["layer", "by the formula", "really", "parameters"], rows)
    print(f"The document prints the pool's stride as 0, by which nothing can be divided. It is {stride}, the kernel's.")
    return metrics


# The data (3.4)


@dataclass(frozen=True)
class Clothes:
    """Pictures (uint8, N×1×28×28, 0..255) and their classes (int64, N, 0..9)."""

    images: Tensor
    labels: Tensor

    def dataset(self) -> InMemoryDataset:
        """Examples for a network, pixels 0..1."""
        return InMemoryDataset(self.images, self.labels, transform=lambda images: images.float() / 255)


def show_classes(run: Run, train: Clothes) -> None:
    """Draws the first training picture of each of the ten classes, under its name."""
    labels = train.labels.tolist()
    present = sorted(set(labels))
    image_grid(train.images[[labels.index(label) for label in present]], run.folder / "classes.png", columns=5,
               titles=[NAMES[label] for label in present], heading="the classes of Fashion-MNIST")


# Training (3.2, 3.3)


def train_network(
    run: Run, variant: Variant, args: argparse.Namespace, train: Clothes, validation: Clothes
) -> tuple[nn.Module, list[Row]]:
    """Trains by the options; each epoch's row has the cost and the accuracy on the validation pictures."""
    seed_everything(run.seed)
    # On this memory layout convolutions are faster; the numbers differ by rounding alone.
    network = variant.network().to(run.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=args.lr, fused=run.device.type in ("cpu", "cuda"))
    loader = make_loader(train.dataset(), args.batch_size, shuffle=args.shuffle, seed=run.seed)
    held_out = make_loader(validation.dataset(), VALIDATION_BATCH)
    history = fit(network, loader, nn.CrossEntropyLoss(), optimizer, epochs=args.epochs, run=run,
                  validate=lambda network: evaluate(network, held_out, {"val_accuracy": accuracy}, run.dtype),
                  show={"train_loss": "cost", "val_accuracy": "validation accuracy"})
    return network, history


def draw_cost_and_accuracy(run: Run, history: Sequence[Row]) -> None:
    """The document's figure: the cost on the left axis, the validation accuracy on the right."""
    figure, (left,) = new_figure()
    right = left.twinx()
    for axes, column, label, colour in ((left, "train_loss", "cost (mean cross-entropy in training)", "tab:red"),
                                        (right, "val_accuracy", "validation accuracy (%)", "tab:blue")):
        scale = 100 if axes is right else 1
        axes.plot([row["epoch"] for row in history], [scale * row[column] for row in history], "o-", color=colour)
        axes.set_ylabel(label, color=colour)
        axes.tick_params(axis="y", labelcolor=colour)
    left.set(xlabel="epoch", xticks=[row["epoch"] for row in history], title="cost and accuracy of each epoch")
    left.grid(alpha=0.3)
    save_figure(figure, run.folder / "cost_and_accuracy.png")


# Mistakes (3.5)


def confused_pairs(counts: Tensor) -> list[tuple[int, int, int]]:
    """All pairs of classes with how often one was taken for the other, most often first: (count, class, class).

    `counts` is a confusion matrix; both directions are added up.
    """
    both = counts + counts.T
    pairs = [(int(both[a, b]), a, b) for a, b in combinations(range(len(counts)), 2)]
    return sorted(pairs, key=lambda pair: -pair[0])


def show_mistakes(run: Run, network: nn.Module, validation: Clothes) -> Row:
    """Gallery of the worst errors, confusion matrix, and the pairs of classes most often confused."""
    logits, labels = predict(network, make_loader(validation.dataset(), VALIDATION_BATCH), run.dtype)
    error_gallery(validation.images, labels, misclassified(logits, labels), NAMES, run.folder / "misclassified.png")
    counts = confusion_matrix(labels, logits.argmax(1), len(NAMES))
    confusion_figure(counts, NAMES, run.folder / "confusion_matrix.png")
    pairs = confused_pairs(counts)
    place = {frozenset((a, b)): number for number, (_, a, b) in enumerate(pairs, 1)}
    print_table("The pairs most often confused, of 45", ["pair", "confused", "first taken for second"],
                [[f"{NAMES[a]} and {NAMES[b]}", count, int(counts[a, b])] for count, a, b in pairs[:8]])
    return {
        "rank_sandal_sneaker": place[frozenset((SANDAL, SNEAKER))],
        "rank_pullover_coat": place[frozenset((PULLOVER, COAT))],
        "sneakers_taken_for_bags": int(counts[SNEAKER, BAG]),
    }


# The proposals (3.6)


def compare_variants(run: Run, args: argparse.Namespace, train: Clothes, validation: Clothes) -> Row:
    """Trains every variant from the same seeds, the variants in turn; table, figure, and what each proposal gains."""
    histories: dict[str, list[list[Row]]] = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        for name, variant in VARIANTS.items():
            label = f"{variant.kernel_size}x{variant.kernel_size}{'-batch-norm' * variant.batch_norm}-seed{seed}"
            study = run.study(label, {**vars(variant), "seed": seed}, seed)
            histories[name].append(train_network(study, variant, args, train, validation)[1])

    def last(name: str) -> list[float]:
        return [history[-1]["val_accuracy"] for history in histories[name]]

    def gains(name: str) -> list[float]:
        return [a - b for a, b in zip(last(name), last(plain), strict=True)]

    plain, small, normed, _ = VARIANTS
    seconds = {name: [row["seconds"] for history in runs for row in history] for name, runs in histories.items()}
    parameters = {name: sum(p.numel() for p in variant.network().parameters()) for name, variant in VARIANTS.items()}
    print_table(
        f"Validation accuracy after {args.epochs} epochs, seeds {', '.join(map(str, args.seeds))}",
        ["network", "accuracy, mean", "least", "most", "gain, mean", "after 1 epoch", "seconds an epoch", "parameters"],
        [[name, f"{statistics.mean(last(name)):.2%}", f"{min(last(name)):.2%}", f"{max(last(name)):.2%}",
          f"{statistics.mean(gains(name)):+.2%}",
          f"{statistics.mean(history[0]['val_accuracy'] for history in histories[name]):.2%}",
          f"{statistics.median(seconds[name]):.1f}", f"{parameters[name]:,}"] for name in VARIANTS])
    sizes = {name: f"{count:,} parameters" for name, count in parameters.items()}
    comparison_figure(histories, {"val_accuracy": "validation accuracy (%)"}, sizes, run.folder / "comparison.png")
    needed = [next((row["epoch"] for row in history if row["val_accuracy"] >= goal), args.epochs + 1)
              for history, goal in zip(histories[normed], last(plain), strict=True)]
    return {
        "small_kernel_least_gain": min(gains(small)),
        "small_kernel_time": statistics.median(a / b for a, b in zip(seconds[small], seconds[plain], strict=True)),
        "batch_norm_least_gain": min(gains(normed)),
        "batch_norm_most_epochs": max(needed),
    }


# The story


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--kernel-size", type=int, choices=(3, 5, 7), default=5, help="side of the convolutions' kernels (%(default)s)")
    add("--batch-norm", action="store_true", help="batch norm after each convolution and after the last layer")
    add("--shuffle", action="store_true", help="mix the training pictures anew in every epoch")
    add("--compare", action="store_true", help="instead of one network train all four variants on --seeds")
    add("--seeds", type=whole_numbers(0), default=(0, 1, 2), metavar="N,N,…", help="seeds of --compare (0,1,2)")
    add_data_flag(parser)
    add_shared_flags(parser, epochs=DOCUMENT_EPOCHS, batch_size=DOCUMENT_BATCH, lr=DOCUMENT_LR)
    args = parser.parse_args(argv)
    if args.compare and Variant(args.kernel_size, args.batch_norm) != Variant():
        raise UsageError("--compare trains every variant; --kernel-size and --batch-norm are for one network alone")
    return args


def not_tested(args: argparse.Namespace) -> set[str]:
    """The claims that a run with these settings does not test."""
    settings = (args.epochs, args.batch_size, args.lr, args.limit, args.precision, args.shuffle)
    document = settings == (DOCUMENT_EPOCHS, DOCUMENT_BATCH, DOCUMENT_LR, None, "fp32", False)
    document &= Variant(args.kernel_size, args.batch_norm) == Variant()
    return {claim.id for claim in CLAIMS if not (document or claim.id.startswith("3.1"))}


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with start_run(__file__, args, argv) as run:
        train = Clothes(*load_images("FashionMNIST", "train", args.data_dir, args.limit))
        validation = Clothes(*load_images("FashionMNIST", "test", args.data_dir, args.limit))
        variant = Variant(args.kernel_size, args.batch_norm)
        metrics = show_sizes(variant.network())
        show_classes(run, train)
        if args.compare:
            metrics |= compare_variants(run, args, train, validation)
        else:
            network, history = train_network(run, variant, args, train, validation)
            draw_cost_and_accuracy(run, history)
            first, last = history[0], history[-1]
            metrics |= {"train_loss": last["train_loss"], "cost_change": last["train_loss"] - first["train_loss"],
                        "val_accuracy": last["val_accuracy"],
                        "accuracy_change": last["val_accuracy"] - first["val_accuracy"],
                        "seconds_per_epoch": statistics.median(row["seconds"] for row in history)}
            metrics |= show_mistakes(run, network, validation)
        verdicts = judge(CLAIMS, metrics, not_tested(args))
        print_claims(CLAIMS, verdicts)
        run.finish(document=3, metrics=metrics, claims=verdicts)
        print(f"Everything is in {run.folder}")


if __name__ == "__main__":
    main()
