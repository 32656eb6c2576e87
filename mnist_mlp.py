"""Document 4: a network of two linear layers classifies handwritten digits.

    python mnist_mlp.py                           the document's run
    python mnist_mlp.py --source tensor           the same without image files
    python mnist_mlp.py --show-errors             the document's run; lists every mistake
    python mnist_mlp.py --widths 128,256,512,999  does the width matter?
    python mnist_mlp.py --explain                 what activation, loss and softmax are
    python mnist_mlp.py --predict my_digit.jpg    your own images

You learn how a folder of image files becomes batches, the five steps in which
every network is trained, how a trained network is saved, loaded and tested, and
how it reads your own images. The document's run first writes 70,000 files (280 MB).

Measured: test accuracy 97.9 ± 0.1% after 10 epochs (seeds 0 to 4), half a minute.

The document (4 of five) is "从零编写一个神经网络完成手写数字的识别分类" ("Writing
a neural network from scratch that classifies handwritten digits"). It leaves open
the order of the images; here they are shuffled. A folder is sorted by class: the
run also shows what that order does. For training each file is decoded only once.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Grayscale, ToTensor

from common.checkpoint import load_weights, newest_weights
from common.cli import add_data_flag, add_shared_flags, guarded, make_parser, whole_numbers
from common.data import LabelledImages, load_images, to_unit_range
from common.device import autocast, can_fuse, seed_everything
from common.digits import read_digits
from common.errors import UsageError
from common.familiar import warnings_for
from common.given_files import as_batches, read_each
from common.image_folder import check_images, decode_images, export_image_folder
from common.metrics import accuracy
from common.parser import check_predict, study_seeds
from common.rows import Row
from common.runs import Run
from common.start import start_run
from common.terminal import track
from common.training import Metric, accuracy_on, evaluate, mean_loss, predict, train_one_epoch
from reports import mnist_mlp as report
from reports import mnist_mlp_questions as questions
from reports import own_images
from reports.mnist_mlp_widths import report_widths

WEIGHTS, TEST_BATCH = "mnist.pth", 1000


# 1. The data: 60,000 training and 10,000 test images, 28×28 grey pixels, the digits 0 to 9

def load_digits(options: Namespace) -> tuple[LabelledImages, LabelledImages, DataLoader[Any]]:
    """Training images, test images, and the batches of training images that the report shows."""
    if options.source == "tensor" or options.widths or options.explain:
        training = read_archive("train", options)
        test = read_archive("test", options)
        return training, test, training.batches(options.batch_size, shuffle=True, seed=options.seed)
    folder = options.data_dir / "MNIST" / "png"
    splits = {split: load_images("MNIST", split, options.data_dir) for split in ("train", "test")}
    export_image_folder(folder, splits)  # in the first run a file for each image
    training_files = open_folder(folder / "train", options.limit)
    test_files = open_folder(folder / "test", options.limit)
    order = torch.Generator().manual_seed(options.seed)
    # These batches read the files again each time. `train` makes equal ones from memory: faster.
    shown_batches = DataLoader(training_files, options.batch_size, shuffle=True, generator=order)
    training, test = decode(training_files), decode(test_files)
    check_images(training, splits["train"])  # the files show what the archives hold
    check_images(test, splits["test"])
    return training, test, shown_batches


def open_folder(folder: Path, limit: int | None) -> ImageFolder:
    """A subfolder for each digit; each file is read as a tensor (an array) of grey values 0..1."""
    dataset = ImageFolder(str(folder), transform=Compose([Grayscale(), ToTensor()]))
    if limit is not None:
        dataset.samples = [pair for pair in dataset.samples if int(Path(pair[0]).stem) < limit]
    return dataset


def decode(dataset: ImageFolder) -> LabelledImages:
    """The images of a folder in memory, in its order: sorted by digit, then by name."""
    files, labels = zip(*dataset.samples, strict=True)  # from pairs: all files, all labels
    return LabelledImages(decode_images(dataset), torch.tensor(labels), files)


def read_archive(split: str, options: Namespace) -> LabelledImages:
    """The same images in the same order, straight from MNIST's archives."""
    part = load_images("MNIST", split, options.data_dir, options.limit)
    order = part.labels.argsort(stable=True)
    names = [f"MNIST {split} image {number}" for number in order.tolist()]
    return LabelledImages(part.images[order], part.labels[order], names)


# 2. The model: 784 pixels → 256 hidden numbers → a score for each of 10 digits

class Network(nn.Module):
    """Images B×1×28×28, pixels 0..1, B of them in a batch → logits B×10: for each digit a score.

    The higher a score, the likelier the digit. The loss function makes probabilities of them.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.layer1 = nn.Linear(28 * 28, width)  # an output: sum of inputs × weights, plus a bias
        self.layer2 = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:  # B×1×28×28: the 1 is one grey value per pixel
        pixels = images.flatten(1)  # B×784: each image as one row of pixels
        hidden = torch.relu(self.layer1(pixels))  # B×256; ReLU, an activation: negative → 0
        logits: Tensor = self.layer2(hidden)  # B×10; without ReLU both layers could be one
        return logits


# 3. Training: the five steps, written out; elsewhere mostly `train_one_epoch` does the same five

def train(
    run: Run, options: Namespace, width: int, training: LabelledImages, test: LabelledImages
) -> None:
    """Trains a network, saves it as `mnist.pth`, and shows the loss of every hundredth batch."""
    seed_everything(run.seed)
    model = Network(width).to(run.device)  # the device: this computer's processor, or a GPU
    loss_function = nn.CrossEntropyLoss()  # −log of the probability given to the true digit
    # Adam is a rule for the size of each step; lr, the learning rate, scales it. fused: faster.
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=can_fuse(run.device))
    batches = training.batches(options.batch_size, shuffle=True, seed=run.seed)
    # The training images are sorted by digit: every sixth one is a sample of all digits.
    training_sample = LabelledImages(training.images[::6], training.labels[::6]).batches(TEST_BATCH)
    scores: dict[str, Metric] = {"test_loss": loss_function, "test_accuracy": accuracy}
    # An epoch: each image once. At the end `run.epochs` saves model.state_dict() as mnist.pth.
    for epoch in run.epochs(options.epochs, model, optimizer, batches, weights=WEIGHTS):
        losses, sizes = [], []
        for images, labels in epoch.batches:
            images, labels = images.to(run.device), labels.to(run.device)
            # autocast: does nothing unless --precision asks for shorter numbers.
            with autocast(run.device, run.dtype):
                logits = model(images)  # 1. forward: what the model answers
            loss = loss_function(logits.float(), labels)  # 2. loss: how wrong the answers are
            loss.backward()  # 3. backward: for each parameter the slope of the loss (its gradient)
            optimizer.step()  # 4. step: change each parameter a little, so that the loss falls
            optimizer.zero_grad()  # 5. zero: forget the gradients before the next batch
            losses.append(loss.item())
            sizes.append(len(images))
            if len(losses) % 100 == 0:
                epoch.log_batch(len(losses), losses[-1])
        # record: into metrics.csv; log: printed too.
        epoch.record({"train_accuracy": accuracy_on(model, training_sample, run.dtype)})
        epoch.record(evaluate(model, test.batches(TEST_BATCH), scores, run.dtype))
        epoch.log(train_loss=mean_loss(losses, sizes), test_accuracy=epoch.row["test_accuracy"])


# 4. Evaluation: the saved network is loaded and tested; with --predict it reads your own images

def load_network(path: Path) -> Network:
    """The network, of any width, whose weights are in a file; UsageError where there are none."""
    weights = load_weights(path, "mnist_mlp.py")
    try:
        model = Network(len(weights["layer1.bias"]))
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, TypeError):
        raise UsageError(f"{path} holds no network of mnist_mlp.py") from None
    return model


def answer(run: Run, test: LabelledImages) -> Tensor:
    """The saved network's logits (N×10) for all test images, in their order."""
    model = load_network(run.folder / WEIGHTS).to(run.device)
    logits, _ = predict(model, test.batches(TEST_BATCH), run.dtype)
    return logits


def recognise(options: Namespace, argv: Sequence[str] | None) -> None:
    """Reads the digits in your own images."""
    own = read_each(options.predict, read_digits)
    model = load_network(options.weights or newest_weights("mnist_mlp", WEIGHTS))
    warnings = warnings_for(own, "MNIST", options.data_dir)
    # The run starts only now: nothing is left behind for an image that cannot be read.
    with start_run(__file__, options, argv, threads=1) as run:
        logits, _ = predict(model.to(run.device), as_batches(own))
        ending = own_images.answers(run, own, logits, report.DIGITS, warnings)
        run.finish(document=4, claims=(), ending=ending)


# 5. Further experiments: the order of the images, the width of the hidden layer, the activation

def compare_orders(run: Run, training: LabelledImages, test: LabelledImages) -> None:
    """Trains two networks for one epoch: in a shuffled order, and in the folder's order."""
    for order, shuffle in (("shuffled", True), ("sorted", False)):
        seed_everything(run.seed)
        model = Network().to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), fused=can_fuse(run.device))
        batches = training.batches(64, shuffle=shuffle, seed=run.seed)
        shown = track(batches, f"batches of {order} images")
        train_one_epoch(model, shown, nn.CrossEntropyLoss(), optimizer)
        logits, labels = predict(model, test.batches(TEST_BATCH))
        report.order(run, order, labels, logits)


def compare_widths(
    run: Run, options: Namespace, training: LabelledImages, test: LabelledImages
) -> dict[int, list[list[Row]]]:
    """Trains each width with every seed, each in a subfolder; returns histories by width."""
    histories: dict[int, list[list[Row]]] = {width: [] for width in options.widths}
    for seed in options.seeds:
        for width in options.widths:
            subrun = run.subrun(f"width-{width}-seed{seed}", {"width": width, "seed": seed}, seed)
            train(subrun, options, width, training, test)
            histories[width].append(subrun.history)
    return histories


# Position of ReLU in the list [flatten, first layer, last layer].
RELU_PLACES = {"nowhere": None, "before the first layer": 1, "between the layers": 2,
               "after the last layer": 3}


def compare_activations(
    run: Run, training: LabelledImages, test: LabelledImages
) -> list[tuple[str, float, float]]:
    """Two epochs with ReLU in each place; returns place, last epoch's loss, test accuracy."""
    results = []
    for place, position in RELU_PLACES.items():
        seed_everything(run.seed)
        layers = [nn.Flatten(), nn.Linear(28 * 28, 256), nn.Linear(256, 10)]
        if position is not None:
            layers.insert(position, nn.ReLU())
        model = nn.Sequential(*layers).to(run.device)
        optimizer = torch.optim.Adam(model.parameters(), fused=can_fuse(run.device))
        batches = training.batches(64, shuffle=True, seed=run.seed)
        losses = []
        for number in (1, 2):
            shown = track(batches, f"ReLU {place}, epoch {number}, batches")
            losses.append(train_one_epoch(model, shown, nn.CrossEntropyLoss(), optimizer))
            questions.epoch(place, number, losses[-1])
        results.append((place, losses[-1], accuracy_on(model, test.batches(TEST_BATCH))))
        if position is None:
            questions.two_layers_are_one(run, model, to_unit_range(test.images[:1]))
    return results


# 6. Options and main

def parse(argv: Sequence[str] | None) -> Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--source", choices=("folder", "tensor"), default="folder",
        help="folder: image files; tensor, --widths, --explain: archives (default %(default)s)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--widths", type=whole_numbers(1, 100_000), metavar="N,N,…",
        help="train one network for each width and seed, instead of the document's run")
    group.add_argument("--explain", action="store_true", help="answer the document's questions")
    group.add_argument("--show-errors", action="store_true", help="print each mistake and its file")
    group.add_argument("--predict", type=Path, nargs="+", metavar="FILE",
        help="read the digits in your own images")
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="random seeds of --widths (default: five, from --seed on)")
    add("--weights", type=Path, metavar="FILE",
        help=f"the network for --predict (default: {WEIGHTS} of the newest finished run)")
    add_data_flag(parser)
    add_shared_flags(parser, epochs=10, batch_size=64, lr=1e-3, device="cpu")
    options = parser.parse_args(argv)
    check_predict(options, parser)
    options.seeds = study_seeds(options, "widths")
    return options


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.predict:
        recognise(options, argv)
        return
    with start_run(__file__, options, argv, threads=1) as run:
        training, test, shown_batches = load_digits(options)
        if options.explain:
            questions.activations(run, compare_activations(run, training, test))
            images, labels = next(iter(shown_batches))
            ending = questions.without_training(run, Network, images, labels)
        elif options.widths:
            ending = report_widths(run, compare_widths(run, options, training, test))
        else:
            report.data(run, training, test, shown_batches, Network())
            train(run, options, 256, training, test)
            report.training(run, len(shown_batches))
            ending = report.mistakes(run, test, answer(run, test))
            compare_orders(run, training, test)
        run.finish(document=4, claims=report.CLAIMS, ending=ending)


if __name__ == "__main__":
    main()
