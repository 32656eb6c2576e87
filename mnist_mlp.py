"""Document 4: a network of two linear layers reads handwritten digits.

    python mnist_mlp.py                            the document's run
    python mnist_mlp.py --source tensor            the same numbers without the folder of pictures
    python mnist_mlp.py --widths 128,256,512,999   is the hidden layer's width important?
    python mnist_mlp.py --explain                  its opening questions, answered by a few lines that run
    python mnist_mlp.py --predict my_digit.jpg     reads your own pictures with the newest network

MNIST: 60,000 pictures of 28×28 grey pixels to learn from, 10,000 to test on. The story is the document's ("从零编写一个
神经网络完成手写数字的识别分类"): the digits as a folder of picture files, a data set and batches from it, the network
784→256→10, the five steps of training, the saved weights, the test, and what was read wrongly.

Measured on two cores, seeds 0 to 4: 97.9 ± 0.1% of the test pictures after 10 epochs; the document has 97.8%. A run
takes 29 to 35 s once the pictures are written (15 to 30 s more, 280 MB, the first time).

What the document leaves open, and what is chosen here:
* the order: shuffled. An image folder is sorted by class, and trained in that order the network ends by calling
  nearly everything a nine; the run shows it.
* files are named by their number in MNIST (the document's have random names).
Each picture file is decoded once, not once an epoch: the numbers are the same, the learner waits less.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Grayscale, ToTensor
from tqdm import tqdm

from common.checkpoint import write_whole
from common.cli import add_data_flag, add_shared_flags, guarded, make_parser, whole_numbers
from common.data import InMemoryDataset, load_images, make_loader
from common.device import seed_everything
from common.errors import UsageError
from common.image_folder import decode_images, export_image_folder
from common.metrics import accuracy, misclassified
from common.pictures import as_mnist_digit, read_picture
from common.plots import error_gallery, image_grid, new_figure, save_figure, use_log_scale
from common.report import Claim, judge, print_claims, print_table
from common.runs import Run, start_run
from common.training import Row, fit, predict, train_one_epoch

DOCUMENT_EPOCHS, DOCUMENT_BATCH, DOCUMENT_LR, DOCUMENT_WIDTH = 10, 64, 1e-3, 256
DOCUMENT_WIDTHS = (128, 256, 512, 999)
WEIGHTS = "mnist.pth"
DIGITS = [str(digit) for digit in range(10)]

# What the document states, each with its bound in words and in code.
CLAIMS = (
    Claim("4.1a", "pictures to train on", "60000", "train_pictures", lambda count: count == 60000, "{:.0f}"),
    Claim("4.1b", "pictures to test on", "10000", "test_pictures", lambda count: count == 10000, "{:.0f}"),
    Claim("4.1c", "batches of 64", "938", "batches", lambda count: count == 938, "{:.0f}"),
    Claim("4.1d", "pictures in the last batch", "fewer than 64", "last_batch", lambda count: count < 64, "{:.0f}"),
    Claim("4.3", "mean loss, from the first epoch to the last", "falls: < 0",
          "loss_change", lambda change: change < 0, "{:+.3f}"),
    Claim("4.4", "share of the test pictures read correctly", "0.978 (± 0.005)",
          "test_accuracy", lambda share: abs(share - 0.978) <= 0.005, "{:.4f}"),
    Claim("4.6", "widths 128 to 999: best mean accuracy less the worst", "little: ≤ 1 point",
          "width_spread", lambda spread: spread <= 0.01, "{:.2%}"),
    Claim("4.7a", "softmax: how far its ten numbers are from a sum of 1", "1: ≤ 0.000001",
          "softmax_sum_error", lambda error: error <= 1e-6, "{:.1e}"),
    Claim("4.7b", "CrossEntropyLoss less the loss computed with softmax", "contains it: ≤ 0.000001",
          "cross_entropy_difference", lambda error: error <= 1e-6, "{:.1e}"),
    Claim("4.7c", "hidden layers of its network", "2, as the document counts",
          "hidden_layers", lambda count: count == 2, "{:.0f}"),
)


# The network (4.2)


class Network(nn.Module):
    """Pictures B×1×28×28, 0..1 → logits B×10. No softmax at the end: the loss contains it."""

    def __init__(self, width: int = DOCUMENT_WIDTH) -> None:
        super().__init__()
        self.layer1 = nn.Linear(28 * 28, width)
        self.layer2 = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.view(-1, 28 * 28)
        hidden = torch.relu(self.layer1(pixels))
        logits: Tensor = self.layer2(hidden)
        return logits


# The data (4.1)


@dataclass(frozen=True)
class Digits:
    """Pictures (uint8, N×1×28×28, 0..255), their digits (int64, N), and where each one comes from."""

    images: Tensor
    labels: Tensor
    places: list[str]

    def dataset(self) -> InMemoryDataset:
        """Examples for a network, pixels 0..1."""
        return InMemoryDataset(self.images, self.labels, transform=lambda images: images.float() / 255)


def read_archives(data_dir: Path, limit: int | None) -> dict[str, Digits]:
    """The digits from MNIST's archives, in an image folder's order: sorted by digit, then by number."""
    digits = {}
    for split, file in (("train", "train-images"), ("test", "t10k-images")):
        images, labels = load_images("MNIST", split, data_dir, limit)
        order = labels.argsort(stable=True)
        digits[split] = Digits(images[order], labels[order], [f"{file}, picture {n}" for n in order.tolist()])
    return digits


def read_folder(data_dir: Path, limit: int | None) -> tuple[dict[str, Digits], ImageFolder]:
    """The digits from the image folder, which is written first where it is missing; and the document's data set.

    The data set is `ImageFolder` with `Grayscale` and `ToTensor`, of the training pictures.
    """
    folder = data_dir / "MNIST" / "png"
    export_image_folder(folder, {split: load_images("MNIST", split, data_dir) for split in ("train", "test")})
    digits = {}
    for split in ("test", "train"):
        dataset = ImageFolder(str(folder / split), transform=Compose([Grayscale(), ToTensor()]))
        if limit is not None:
            dataset.samples = [sample for sample in dataset.samples if int(Path(sample[0]).stem) < limit]
        places, labels = zip(*dataset.samples, strict=True)
        digits[split] = Digits(decode_images(dataset), torch.tensor(labels), list(places))
    return digits, dataset


def show_data(run: Run, digits: dict[str, Digits], loader: DataLoader[Any]) -> Row:
    """Prints how many pictures and batches there are and what the first three batches hold; draws the first 30."""
    metrics: Row = {f"{split}_pictures": len(part.labels) for split, part in digits.items()}
    size = loader.batch_size or 1
    metrics |= {"batches": len(loader), "last_batch": (len(digits["train"].labels) - 1) % size + 1}
    print(f"{len(digits['train'].labels)} pictures to train on, {len(digits['test'].labels)} to test on")
    print(f"{len(loader)} batches of {size}; the last one has {metrics['last_batch']:.0f}")
    for number, (images, labels) in zip(range(3), loader, strict=False):
        print(f"batch {number}: pictures {tuple(images.shape)}, labels {' '.join(map(str, labels.tolist()))}")
        if number == 0:
            image_grid(images[:30], run.folder / "first_batch.png", columns=10, width=1.2,
                       titles=[*map(str, labels[:30].tolist())], heading="from the first batch: pictures and labels")
    return metrics


# Training (4.3)


def train_network(run: Run, args: argparse.Namespace, width: int, train: Digits) -> list[Row]:
    """Trains by the options and saves `mnist.pth`; an epoch's row holds the loss after every 100 batches."""
    seed_everything(run.seed)
    network = Network(width).to(run.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=args.lr, fused=run.device.type in ("cpu", "cuda"))
    losses: list[Tensor] = []

    def every_100_batches(_: nn.Module) -> Row:
        row = {f"loss_at_batch_{n}": losses[n - 1].item() for n in range(100, len(losses) + 1, 100)}
        losses.clear()
        if row:
            shown = " ".join(f"{loss:.3f}" for loss in row.values())
            tqdm.write(f"loss at batch 100, 200, …: {shown}")
        return row

    loader = make_loader(train.dataset(), args.batch_size, shuffle=True, seed=run.seed)
    return fit(network, loader, nn.CrossEntropyLoss(), optimizer, epochs=args.epochs, run=run,
               on_step=lambda _, loss: losses.append(loss), validate=every_100_batches,
               show={"train_loss": "mean loss"}, weights_name=WEIGHTS)


def draw_losses(run: Run, history: Sequence[Row], batches: int) -> None:
    """The loss of every hundredth batch, and the mean of each epoch."""
    figure, (axes,) = new_figure(width=8)
    points = [(row["epoch"] - 1 + int(name.rsplit("_", 1)[1]) / batches, loss)
              for row in history for name, loss in row.items() if name.startswith("loss_at_batch_")]
    if points:
        axes.plot(*zip(*points, strict=True), ".", color="tab:gray", label="a single batch, every 100th")
    axes.plot([row["epoch"] - 0.5 for row in history], [row["train_loss"] for row in history], "o-", color="tab:blue",
              label="mean of the epoch, at its middle")
    axes.set(xlabel="epochs done", ylabel="cross-entropy")
    use_log_scale(axes)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, run.folder / "loss.png")


def train_sorted(run: Run, train: Digits, test: Digits) -> Row:
    """One epoch in the image folder's own order against one in a shuffled order: shares of test pictures read."""
    metrics: Row = {}
    for name, shuffle in (("shuffled", True), ("sorted", False)):
        seed_everything(run.seed)
        network = Network().to(run.device)
        optimizer = torch.optim.Adam(network.parameters(), fused=run.device.type in ("cpu", "cuda"))
        loader = make_loader(train.dataset(), DOCUMENT_BATCH, shuffle=shuffle, seed=run.seed)
        train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer)
        logits, labels = predict(network, make_loader(test.dataset(), 1000))
        metrics[f"{name}_accuracy_after_1_epoch"] = accuracy(logits, labels)
        metrics[f"{name}_called_nine"] = (logits.argmax(1) == 9).double().mean().item()
    print(f"After one epoch in a shuffled order {metrics['shuffled_accuracy_after_1_epoch']:.1%} of the test pictures "
          f"are read; in the folder's order, zeros first, nines last, {metrics['sorted_accuracy_after_1_epoch']:.1%}, "
          f"and {metrics['sorted_called_nine']:.0%} of all pictures are called a nine.")
    return metrics


# Testing (4.4)


def load_network(path: Path) -> Network:
    """The network whose weights `path` holds, of whatever width. Raises UsageError for a file that holds none."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network = Network(len(weights["layer1.bias"]))
        network.load_state_dict(weights)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except Exception:  # torch raises many types for what is not its file; all mean the same to the user
        raise UsageError(f"{path} holds no network of this script; --weights takes a {WEIGHTS} that it saved") from None
    return network


def test_network(run: Run, test: Digits) -> Row:
    """Loads the saved weights, reads the test pictures; each error in `errors.csv`, the surest ones in a picture."""
    network = load_network(run.folder / WEIGHTS).to(run.device)
    logits, labels = predict(network, make_loader(test.dataset(), 1000), run.dtype)
    errors = misclassified(logits, labels)
    rows = [[predicted, int(labels[index]), f"{confidence:.4f}", test.places[index]]
            for index, predicted, confidence in zip(*(column.tolist() for column in errors), strict=True)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["prediction", "truth", "confidence", "path"], *rows])
    write_whole(run.folder / "errors.csv", lambda file: file.write(text.getvalue().encode()))
    share = accuracy(logits, labels)
    print_table("The surest of the errors", ["prediction", "truth", "confidence", "path"], rows[:10])
    print(f"{len(labels) - len(rows)} of {len(labels)} test pictures are read correctly: {share:.4f}. "
          f"All {len(rows)} errors: {run.folder / 'errors.csv'}")
    error_gallery(test.images, labels, errors, DIGITS, run.folder / "errors.png")
    return {"test_accuracy": share, "test_errors": len(rows)}


# Your own pictures (4.5)


def newest_weights() -> Path:
    """The weights of the newest finished run below `runs/mnist_mlp`. Raises UsageError where there is none."""
    finished = [path for path in Path("runs/mnist_mlp").glob(f"*/{WEIGHTS}") if (path.parent / "summary.json").exists()]
    if not finished:
        raise UsageError("no finished run in runs/mnist_mlp; run `python mnist_mlp.py` first, or give --weights FILE")
    return max(finished, key=lambda path: path.stat().st_mtime)


def read_pictures(paths: Iterable[Path]) -> list[Tensor]:
    """Each picture as MNIST would show it. Raises UsageError, naming the first that cannot be read or shows nothing."""
    digits = []
    for path in paths:
        try:
            digits.append(as_mnist_digit(read_picture(path)))
        except ValueError as error:
            raise UsageError(f"{path} shows no digit: {error}") from None
    return digits


def recognise(run: Run, network: Network, digits: Sequence[Tensor], paths: Sequence[Path]) -> Row:
    """Prints the three likeliest digits for each picture; saves the 28×28 pixels that the network saw."""
    with torch.inference_mode():
        likely = network.to(run.device)(torch.stack([*digits]).to(run.device)).softmax(1).cpu().topk(3)
    rows, titles = [], []
    for number, path in enumerate(paths):
        guesses = [f"{digit} ({share:.1%})" for share, digit in
                   zip(likely.values[number].tolist(), likely.indices[number].tolist(), strict=True)]
        rows.append([str(path), *guesses])
        titles.append(f"{path.name}\n{guesses[0]}")
        saw = Image.fromarray((digits[number][0] * 255).round().byte().numpy())
        saw.save(run.folder / f"seen-{number + 1}-{path.stem}.png")
    print_table("What the network reads", ["picture", "first", "second", "third"], rows)
    image_grid(torch.stack([*digits]), run.folder / "seen.png", columns=min(5, len(paths)), width=2.4, titles=titles,
               heading="what the network saw")
    return {f"prediction_{number}": int(digit) for number, digit in enumerate(likely.indices[:, 0].tolist(), 1)}


# How wide? (4.6)


def compare_widths(run: Run, args: argparse.Namespace, digits: dict[str, Digits]) -> Row:
    """Trains each width from each seed; table, figure, and how far apart the widths' mean accuracies are."""
    shares: dict[int, list[float]] = {width: [] for width in args.widths}
    seconds: dict[int, list[float]] = {width: [] for width in args.widths}
    for seed in args.seeds:
        for width in args.widths:
            study = run.study(f"width-{width}-seed{seed}", {"width": width, "seed": seed}, seed)
            history = train_network(study, args, width, digits["train"])
            network = load_network(study.folder / WEIGHTS).to(run.device)
            shares[width].append(accuracy(*predict(network, make_loader(digits["test"].dataset(), 1000), run.dtype)))
            seconds[width] += [row["seconds"] for row in history]
    print_table(f"Test accuracy by the hidden layer's width, seeds {', '.join(map(str, args.seeds))}",
                ["width", "parameters", "mean", "least", "most", "seconds an epoch"],
                [[width, sum(p.numel() for p in Network(width).parameters()), f"{statistics.mean(shares[width]):.2%}",
                  f"{min(shares[width]):.2%}", f"{max(shares[width]):.2%}", f"{statistics.median(seconds[width]):.1f}"]
                 for width in args.widths])
    figure, (axes,) = new_figure()
    positions = range(len(args.widths))
    means = [100 * statistics.mean(shares[width]) for width in args.widths]
    axes.plot(positions, means, "-", color="tab:gray", label="mean")
    for number, seed in enumerate(args.seeds):
        axes.plot(positions, [100 * shares[width][number] for width in args.widths], "o", label=f"seed {seed}")
    axes.set(xlabel="width of the hidden layer", ylabel="test accuracy (%)", title=f"after {args.epochs} epochs")
    axes.set_xticks(positions, [str(width) for width in args.widths])
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, run.folder / "widths.png")
    return {"width_spread": (max(means) - min(means)) / 100}


# The opening questions (4.7)


def explain(run: Run, digits: dict[str, Digits]) -> Row:
    """Answers the document's questions one by one, each by something that is run and a number."""
    metrics = explain_activation(run, digits["train"], digits["test"])
    explain_losses()
    images, labels = next(iter(make_loader(digits["train"].dataset(), DOCUMENT_BATCH, shuffle=True, seed=run.seed)))
    explain_passes(images, labels)
    return metrics | explain_softmax(images, labels)


def explain_activation(run: Run, train: Digits, test: Digits) -> Row:
    """Is an activation needed, and where? Two epochs with ReLU in each place."""
    places = ("nowhere", "before the first layer", "between the layers", "after the last layer")
    metrics: Row = {}
    rows: list[list[object]] = []
    for place in places:
        seed_everything(run.seed)
        first, last = nn.Linear(784, DOCUMENT_WIDTH), nn.Linear(DOCUMENT_WIDTH, 10)
        before, between, after = ([nn.ReLU()] * (place == name) for name in places[1:])
        network = nn.Sequential(nn.Flatten(), *before, first, *between, last, *after).to(run.device)
        optimizer = torch.optim.Adam(network.parameters())
        loader = make_loader(train.dataset(), DOCUMENT_BATCH, shuffle=True, seed=run.seed)
        loss = [train_one_epoch(network, loader, nn.CrossEntropyLoss(), optimizer) for _ in range(2)][-1]
        share = accuracy(*predict(network, make_loader(test.dataset(), 1000)))
        metrics[f"accuracy_relu_{place.replace(' ', '_')}"] = share
        rows.append([place, f"{loss:.4f}", f"{share:.2%}"])
        if place == "nowhere":
            pixels = test.dataset()[0][0].view(1, 784).to(run.device)
            with torch.inference_mode():
                both, one = last(first(pixels)), pixels @ (last.weight @ first.weight).T + last(first.bias)
            metrics["two_layers_less_one"] = ((both - one).abs().max() / both.abs().max()).item()
    print_table("Is an activation needed, and where? Two epochs with ReLU …", ["place", "loss", "test accuracy"], rows)
    print("Without one, two linear layers are one: layer2(layer1(x)) and (W2·W1)·x + b differ by "
          f"{metrics['two_layers_less_one']:.0e} of their size, which is rounding. Before the first layer it does "
          "nothing, for no pixel is negative. It belongs between the layers.")
    return metrics


def explain_losses() -> None:
    """What is a loss for, and which for what? Two losses and their slopes for right, unsure and wrong answers."""
    rows = []
    for answer, logits in (("surely right", [8.0, 0, 0]), ("unsure", [0.0, 0, 0]), ("surely wrong", [0.0, 8, 0])):
        row: list[object] = [answer]
        for name in ("cross-entropy", "squared error"):
            scores = torch.tensor([logits], requires_grad=True)
            truth = torch.tensor([0])
            if name == "cross-entropy":
                loss = nn.functional.cross_entropy(scores, truth)
            else:
                loss = nn.functional.mse_loss(scores.softmax(1), nn.functional.one_hot(truth, 3).float())
            (slope,) = torch.autograd.grad(loss, scores)
            row += [f"{loss.item():.4f}", f"{slope[0, 0].item():+.4f}"]
        rows.append(row)
    print_table("Which loss? Three classes, the first is true; slope: how the loss changes with the true class's score",
                ["answer", "cross-entropy", "slope", "squared error of the probabilities", "slope"], rows)
    print("A loss says how wrong an answer is, and its slope what to do about it. For classes: cross-entropy, whose "
          "slope is steepest where the answer is surely wrong; that of the squared error is all but flat there. For "
          "numbers (regression): the squared error, (22 − 20)² = 4, or the absolute error, |22 − 20| = 2.")


def explain_passes(images: Tensor, labels: Tensor) -> None:
    """Forward and backward: when are gradients computed, and why is there a function `forward`?"""
    network = Network()
    weight = network.layer1.weight
    print("\nWhen are gradients computed?")
    logits = network(images)
    loss = nn.functional.cross_entropy(logits, labels)
    notes = f"{type(loss.grad_fn).__name__} ← {type(logits.grad_fn).__name__} ← …"
    print(f"  forward: network(images) calls Network.forward; the loss is {loss.item():.4f}. PyTorch has noted what "
          f"was computed ({notes}); weight.grad is {weight.grad}")
    loss.backward()  # type: ignore[no-untyped-call]
    size = weight.grad.norm().item() if weight.grad is not None else 0
    print(f"  backward: the notes are read from their end; now weight.grad has a norm of {size:.4f}")
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    after = nn.functional.cross_entropy(network(images), labels).item()
    print(f"  a step of 0.1 against the gradients: loss {after:.4f}")


def explain_softmax(images: Tensor, labels: Tensor) -> Row:
    """The softmax's sum, where it is in this network, and how many layers that has."""
    network = Network()
    with torch.inference_mode():
        logits = network(images)
        shares = logits.softmax(1)
        by_hand = -shares[torch.arange(len(labels)), labels].log().mean()
        difference = (nn.functional.cross_entropy(logits, labels) - by_hand).abs().item()
    metrics: Row = {
        "softmax_sum_error": (shares.sum(1) - 1).abs().max().item(),
        "cross_entropy_difference": difference,
        "hidden_layers": sum(isinstance(layer, nn.Linear) for layer in network.modules()) - 1,
    }
    print("\nSoftmax")
    print(f"  makes numbers above 0 that sum to 1: {' + '.join(f'{share:.3f}' for share in shares[0].tolist())} = "
          f"{shares[0].sum().item():.6f}")
    print(f"  CrossEntropyLoss contains it: −log of the true digit's softmax differs from it by {difference:.0e}")
    print("\nLayers\n  The document says three layers, two of them hidden. Input, hidden and output layer make three, "
          f"of which {metrics['hidden_layers']:.0f} is hidden; layers with weights there are two.")
    return metrics


# The story


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--source", choices=("folder", "tensor"), default="folder",
        help="read the folder of pictures, written once, or MNIST's archives (%(default)s)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--widths", type=whole_numbers(1, 100_000), metavar="N,N,…",
                         help="instead of one network train one of each width on --seeds")
    instead.add_argument("--explain", action="store_true", help="instead answer the document's opening questions")
    instead.add_argument("--predict", type=Path, nargs="+", metavar="FILE", help="instead read digits in your pictures")
    add("--seeds", type=whole_numbers(0), default=(0, 1, 2), metavar="N,N,…", help="seeds of --widths (0,1,2)")
    add("--weights", type=Path, metavar="FILE",
        help=f"the network for --predict ({WEIGHTS} of the newest finished run in runs/mnist_mlp)")
    add_data_flag(parser)
    add_shared_flags(parser, epochs=DOCUMENT_EPOCHS, batch_size=DOCUMENT_BATCH, lr=DOCUMENT_LR)
    args = parser.parse_args(argv)
    if args.weights and not args.predict:
        parser.error("--weights names the network for --predict FILE")
    return args


def not_tested(args: argparse.Namespace) -> set[str]:
    """The claims that a run with these settings does not test."""
    settings = (args.epochs, args.batch_size, args.lr, args.limit, args.precision)
    document = settings == (DOCUMENT_EPOCHS, DOCUMENT_BATCH, DOCUMENT_LR, None, "fp32")
    untested = {claim.id for claim in CLAIMS if not (document or claim.id.startswith("4.7"))}
    return untested if args.widths == DOCUMENT_WIDTHS else untested | {"4.6"}


def train_and_test(run: Run, args: argparse.Namespace) -> Row:
    """The document's own story: data, training, the saved network, the test."""
    if args.source == "folder":
        digits, dataset = read_folder(args.data_dir, args.limit)
        order = torch.Generator().manual_seed(run.seed)
        first_batches = DataLoader(dataset, args.batch_size, shuffle=True, generator=order)
    else:
        digits = read_archives(args.data_dir, args.limit)
        first_batches = make_loader(digits["train"].dataset(), args.batch_size, shuffle=True, seed=run.seed)
    metrics = show_data(run, digits, first_batches)
    metrics |= train_sorted(run, digits["train"], digits["test"])
    history = train_network(run, args, DOCUMENT_WIDTH, digits["train"])
    draw_losses(run, history, len(first_batches))
    metrics["train_loss"] = history[-1]["train_loss"]
    metrics["loss_change"] = history[-1]["train_loss"] - history[0]["train_loss"]
    metrics["seconds_per_epoch"] = statistics.median(row["seconds"] for row in history)
    return metrics | test_network(run, digits["test"])


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.predict:  # before a folder is made for a run that cannot be
        pictures, network = read_pictures(args.predict), load_network(args.weights or newest_weights())
    with start_run(__file__, args, argv) as run:
        if args.predict:
            metrics = recognise(run, network, pictures, args.predict)
        elif args.widths:
            metrics = compare_widths(run, args, read_archives(args.data_dir, args.limit))
        elif args.explain:
            metrics = explain(run, read_archives(args.data_dir, args.limit))
        else:
            metrics = train_and_test(run, args)
        claims = () if args.predict else CLAIMS
        verdicts = judge(claims, metrics, not_tested(args))
        if claims:
            print_claims(claims, verdicts)
        run.finish(document=4, metrics=metrics, claims=verdicts)
        print(f"Everything is in {run.folder}")


if __name__ == "__main__":
    main()
