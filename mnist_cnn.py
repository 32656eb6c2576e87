"""Document 2, networks: three convolutional networks classify digits.

    python mnist_cnn.py                    the basic network
    python mnist_cnn.py --model inception  with Inception blocks
    python mnist_cnn.py --model residual   with residual blocks
    python mnist_cnn.py --model all        all three (--seeds 0,1,2 for several)
    python mnist_cnn.py --explain          the document's statements, tried out

You learn how a network is trained on batches of images, what a 1×1 convolution
saves, which of four branches a network uses, how a residual block adds its input.

Measured: test accuracy after 10 epochs, mean (min, max) of seeds 0 to 4:
    basic       98.7% (98.3, 98.9)
    inception   98.7% (98.5, 98.9), 5 times as long per epoch as basic
    residual    99.0% (98.9, 99.1), 2 times as long

Document 2 of five is notes on the PyTorch course of the lecturer 刘二大人. It gives
the batch size 64, the kinds of layers, the loss and Inception's 88 channels. The
other sizes, SGD (rate 0.01, momentum 0.5) and the 10 epochs are the course's. As
there, ReLU comes after max-pooling and every epoch is scored on the test images.
"""

from __future__ import annotations

import common.begin  # noqa: F401  first: Ctrl-C works while torch loads
import argparse
import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.cli import add_data_flag, add_shared_flags, guarded, make_parser, whole_numbers
from common.data import LabelledImages, load_images
from common.device import can_fuse, seed_everything
from common.errors import UsageError
from common.metrics import accuracy
from common.parser import all_seeds
from common.rows import Row
from common.runs import Run
from common.start import start_run
from common.terminal import track
from common.training import Metric, accuracy_on, evaluate, predict, train_one_epoch
from reports import mnist_cnn as report
from reports import mnist_cnn_questions as questions

TEST_BATCH = 500
MEAN, STANDARD_DEVIATION = 0.1307, 0.3081  # of the training images' pixels, 0..1


# 1. The data: 60,000 images to train on and 10,000 to test on, 28×28 grey pixels, ten digits

def load_digits(options: argparse.Namespace) -> tuple[LabelledImages, LabelledImages]:
    """MNIST's training images and its test images."""
    training = load_images("MNIST", "train", options.data_dir, options.limit)
    test = load_images("MNIST", "test", options.data_dir, options.limit)
    return training, test


def normalise(images: Tensor) -> Tensor:
    """Bytes 0..255 → floats of mean 0 and standard deviation 1 over the training images."""
    return (images.float() / 255 - MEAN) / STANDARD_DEVIATION


# 2. The model: the sides shrink 28 → 12 → 4; an Inception or residual block keeps them

def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """B×inputs×S×S → B×outputs×T×T, T = (S−4)/2: a 5×5 convolution, max-pooling, then ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 5), nn.MaxPool2d(2), nn.ReLU())


class Inception(nn.Module):
    """Four branches read the same input; their channels are concatenated. AvgPool2d: 3×3 means."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, 1, padding=1), nn.Conv2d(inputs, 24, 1))
        self.branch1x1 = nn.Conv2d(inputs, 16, 1)  # at each pixel 16 weighted sums of its channels
        self.branch5x5 = nn.Sequential(nn.Conv2d(inputs, 16, 1), nn.Conv2d(16, 24, 5, padding=2))
        self.branch3x3 = nn.Sequential(
            nn.Conv2d(inputs, 16, 1),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.Conv2d(24, 24, 3, padding=1),
        )

    def forward(self, hidden: Tensor) -> Tensor:  # B×inputs×S×S
        pool = self.branch_pool(hidden)  # B×24×S×S
        one = self.branch1x1(hidden)  # B×16×S×S
        five = self.branch5x5(hidden)  # B×24×S×S
        three = self.branch3x3(hidden)  # B×24×S×S
        return torch.cat([pool, one, five, three], dim=1)  # B×88×S×S


class ResidualBlock(nn.Module):
    """relu(F(x) + x), F: two convolutions; `skip`: x "as it is", "transformed" or "left out"."""

    def __init__(self, inputs: int, outputs: int, skip: str = "as it is") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = skip
        self.transform = nn.Conv2d(inputs, outputs, 1) if skip == "transformed" else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:  # B×inputs×S×S
        change = self.conv2(torch.relu(self.conv1(hidden)))  # F(x): B×outputs×S×S; x is `hidden`
        total = change if self.skip == "left out" else self.transform(hidden) + change
        return torch.relu(total)  # B×outputs×S×S


class DigitsCNN(nn.Module):
    """Images B×1×28×28 → logits B×10: for each digit a score, the higher the likelier."""

    def __init__(self, block1: nn.Module, block2: nn.Module, features: int) -> None:
        super().__init__()
        self.block1 = block1
        self.block2 = block2
        self.classify = nn.Linear(features, 10)

    def forward(self, images: Tensor) -> Tensor:  # B×1×28×28
        hidden = self.block1(images)  # B×10×12×12 (inception 88 channels, residual 16)
        hidden = self.block2(hidden)  # B×20×4×4 (inception 88 channels, residual 32)
        features = hidden.flatten(1)  # B×320 (inception 1408, residual 512)
        logits: Tensor = self.classify(features)  # B×10
        return logits


def basic() -> DigitsCNN:
    return DigitsCNN(convolution(1, 10), convolution(10, 20), features=20 * 4 * 4)


def inception() -> DigitsCNN:
    """The basic network with an Inception block after each pooling."""
    block1 = nn.Sequential(convolution(1, 10), Inception(10))  # 28×28 → 10×12×12 → 88×12×12
    block2 = nn.Sequential(convolution(88, 20), Inception(20))  # → 20×4×4 → 88×4×4
    return DigitsCNN(block1, block2, features=88 * 4 * 4)


def residual() -> DigitsCNN:
    """The basic network with more channels and residual blocks (why: see gradient_demo.py)."""
    block1 = nn.Sequential(convolution(1, 16), ResidualBlock(16, 16))  # 28×28 → 16×12×12 → 16×12×12
    block2 = nn.Sequential(convolution(16, 32), ResidualBlock(32, 32))  # → 32×4×4 → 32×4×4
    return DigitsCNN(block1, block2, features=32 * 4 * 4)


NETWORKS = {"basic": basic, "inception": inception, "residual": residual}


# 3. Training

def train(
    run: Run, options: argparse.Namespace, name: str, training: LabelledImages, test: LabelledImages
) -> DigitsCNN:
    """Trains a network; after each epoch scores it on as many training images as test images."""
    seed_everything(run.seed)
    # channels_last: a memory layout in which convolutions are faster; only rounding differs.
    model = NETWORKS[name]().to(run.device).to(memory_format=torch.channels_last)
    loss_function = nn.CrossEntropyLoss()
    fused = can_fuse(run.device)  # fused: faster; momentum: half of each step is added to the next
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.5, fused=fused)
    batches = training.batches(options.batch_size, shuffle=True, seed=run.seed, transform=normalise)
    training_sample = training.first(len(test)).batches(TEST_BATCH, transform=normalise)
    test_batches = test.batches(TEST_BATCH, transform=normalise)
    scores: dict[str, Metric] = {"test_loss": loss_function, "test_accuracy": accuracy}
    for epoch in run.epochs(options.epochs, model, optimizer, batches):
        loss = train_one_epoch(model, epoch.batches, loss_function, optimizer, dtype=run.dtype)
        epoch.log(
            train_loss=loss,
            train_accuracy=accuracy_on(model, training_sample, run.dtype),
            **evaluate(model, test_batches, scores, run.dtype),
        )
    return model


# 4. Evaluation: the answers for all test images; the report shows which are wrong

def answer(run: Run, model: nn.Module, test: LabelledImages) -> Tensor:
    """The logits (N×10) for all test images, in their order."""
    return predict(model, test.batches(TEST_BATCH, transform=normalise), run.dtype)[0]


# 5. Further experiments: a 1×1 convolution, the branches of Inception, three networks

def ways_to_convolve() -> dict[str, nn.Module]:
    """A 5×5 convolution from 192 to 32 channels: directly, and after a 1×1 convolution to 16."""
    direct = nn.Conv2d(192, 32, 5, padding=2)  # 192·32·25 = 153,600 weights
    bottleneck = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))  # 15,872
    return {"direct": direct, "bottleneck": bottleneck}


def look_inside(run: Run) -> dict[str, DigitsCNN]:
    """Before training: the layers, what the convolutions cost, the shapes in the blocks."""
    networks = {name: network() for name, network in NETWORKS.items()}
    report.layers(run, networks)
    report.costs(run, ways_to_convolve())
    report.inception(run, networks["inception"])
    report.residual(run, networks["residual"], ResidualBlock)
    return networks


# The channels of each branch's output, and the weights with which the next layer reads them.
BRANCHES = {
    "branch_pool": slice(0, 24), "branch1x1": slice(24, 40),
    "branch5x5": slice(40, 64), "branch3x3": slice(64, 88),
}
READERS = {"block 1": "block2.0.0.weight", "block 2": "classify.weight"}  # of each block's output
Uses = dict[str, dict[str, Row]]  # by block and branch: before, after, lost


def by_channel(weight: Tensor) -> Tensor:
    """A view of the weights, outputs×88×…, that read the 88 channels of an Inception block."""
    return weight.detach().view(len(weight), 88, -1)


def branch_uses(run: Run, model: nn.Module, test: LabelledImages) -> Uses:
    """For each block and branch: how strongly the next layer reads it, and what is lost without it.

    The strength, before and after training, is the root mean square of the weights; the accuracy
    lost is the model's minus that of a copy in which these weights are zero.
    """
    seed_everything(run.seed)
    untrained = inception()  # the same seed gives the weights from before training
    batches = test.batches(TEST_BATCH, transform=normalise)
    full_accuracy = accuracy_on(model, batches, run.dtype)
    uses: Uses = {place: {} for place in READERS}
    for place, reader in READERS.items():
        for branch, channels in track([*BRANCHES.items()], f"Inception {place} without a branch"):
            row = {}
            for moment, network in (("before", untrained), ("after", model)):
                weights = by_channel(network.get_parameter(reader))[:, channels]
                row[moment] = weights.square().mean().sqrt().item()
            without = copy.deepcopy(model)
            by_channel(without.get_parameter(reader))[:, channels] = 0  # a view: changes `without`
            row["lost"] = full_accuracy - accuracy_on(without, batches, run.dtype)
            uses[place][branch] = row
    return uses


def compare(
    run: Run, options: argparse.Namespace, training: LabelledImages, test: LabelledImages
) -> tuple[dict[str, list[list[Row]]], list[Uses]]:
    """Trains every network with every seed, each in a subfolder: histories, uses of branches."""
    histories: dict[str, list[list[Row]]] = {name: [] for name in NETWORKS}
    uses: list[Uses] = []
    for seed in options.seeds:
        for name in NETWORKS:
            subrun = run.subrun(f"{name}-seed{seed}", {"model": name, "seed": seed}, seed)
            model = train(subrun, options, name, training, test)
            report.training(subrun)
            report.mistakes(subrun, test, answer(subrun, model, test))
            histories[name].append(subrun.history)
            if name == "inception":
                uses.append(branch_uses(subrun, model, test))
                report.branches(subrun, uses[-1])
    return histories, uses


# 6. Options and main

def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--model", choices=(*NETWORKS, "all"), default="basic",
        help="network, or all of them to compare (default %(default)s)")  # fmt: skip
    group.add_argument("--explain", action="store_true", help="try out the document's statements")
    add("--seeds", type=whole_numbers(0), metavar="N,N,…",
        help="random seeds of --model all (default: that of --seed)")  # fmt: skip
    add_data_flag(parser)
    add_shared_flags(parser, epochs=10, batch_size=64, lr=0.01)
    options = parser.parse_args(argv)
    options.seeds = all_seeds(options)
    if len(options.seeds) > 1 and options.model != "all":
        raise UsageError("--seeds belongs to --model all; one network takes --seed N")
    return options


@guarded
def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    with start_run(__file__, options, argv) as run:
        training, test = load_digits(options)
        report.digits(run, training, test, normalise(training.images))
        if options.explain:
            ending = questions.try_out(run, basic, training.batches(64, transform=normalise))
        elif options.model == "all":
            networks = look_inside(run)
            histories, uses = compare(run, options, training, test)
            ending = report.comparison(run, histories, uses, networks)
        else:
            look_inside(run)
            model = train(run, options, options.model, training, test)
            report.training(run)
            if options.model == "inception":
                report.branches(run, branch_uses(run, model, test))
            ending = report.mistakes(run, test, answer(run, model, test))
        run.finish(document=2, claims=report.CLAIMS, ending=ending)


if __name__ == "__main__":
    main()
