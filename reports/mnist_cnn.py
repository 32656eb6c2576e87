"""The claims, figures and tables of document 2's networks, from what `mnist_cnn.py` measures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn

from common.bounds import about, above, exactly
from common.claims import Claim, OneOf
from common.data import LabelledImages
from common.layers import count_multiplications, count_parameters, layer_table, sides
from common.metrics import confusion_matrix
from common.rows import Row
from common.runs import Run
from common.terminal import print_table, say
from reports import mnist_cnn_blocks, mnist_cnn_losses, mnist_cnn_questions
from reports.classification import (
    comparison_figure,
    confusion_figure,
    learning_curves,
    mistakes_figure,
    right_and_confused,
)
from reports.mnist_cnn_branches import (
    BRANCH_LAYERS,
    correlation,
    draw_branches,
    gain,
    most_needed_gain,
)

NAMES = [str(digit) for digit in range(10)]

# The options of the course's run (the document's own is the batch size), and of Inception's.
COURSE = {
    "epochs": 10, "batch_size": 64, "lr": 0.01, "limit": None, "precision": "fp32",
    "explain": False,
}  # fmt: skip
INCEPTION = {**COURSE, "model": OneOf(("inception", "all"))}
ALL_IMAGES = {"limit": None}
ANY_NETWORK = {"explain": False}

OF_THE_NETWORKS = (
    Claim("2.1a", "images to train on", "60,000",
          "train_pictures", exactly(60_000), "{:,.0f}", ALL_IMAGES),
    Claim("2.1b", "images to test on", "10,000",
          "test_pictures", exactly(10_000), "{:,.0f}", ALL_IMAGES),
    Claim("2.5a", "multiplications of a 5×5 convolution, 192→32 channels",
          "5·5·32·192·28·28", "direct_multiplications", exactly(120_422_400), "{:,.0f}",
          ANY_NETWORK),
    Claim("2.5b", "multiplications with the bottleneck, the product as printed", "12,433,648",
          "bottleneck_multiplications", exactly(12_433_648), "{:,.0f}", ANY_NETWORK),
    Claim("2.5c", "multiplications that remain with the bottleneck",
          "“reduced by 1/10”, meaning to a tenth",
          "bottleneck_share", about(0.1, 0.02), "{:.1%}", ANY_NETWORK),
    Claim("2.5e", "multiplications with the bottleneck, by the document's formula",
          "1·1·28·28·192·16 + 5·5·28·28·16·32",
          "bottleneck_multiplications", exactly(12_443_648), "{:,.0f}", ANY_NETWORK),
    Claim("2.6a", "channels out of an Inception block", "24·3 + 16",
          "inception_channels", exactly(88), "{:.0f}", ANY_NETWORK),
    Claim("2.6b", "rank correlation between a branch's gain in weight and the accuracy lost "
          "without it, mean of blocks, minimum of the seeds", "a better branch gets more weight",
          "use_and_weight", above(0), "{:+.2f}", INCEPTION),
    Claim("2.6c", "gain in weight of the branch that is needed most, minus the mean gain of the "
          "others, minimum of blocks and seeds", "a better branch gets more weight",
          "most_needed_gain", above(0), "{:+.1f} points", INCEPTION),
    Claim("2.8", "blocks of the residual network whose output shape differs from their input "
          "shape", "the shape must stay the same",
          "residual_shape_changes", exactly(0), "{:.0f}", ANY_NETWORK),
)  # fmt: skip
CLAIMS = tuple(sorted(
    (*OF_THE_NETWORKS, *mnist_cnn_questions.CLAIMS, *mnist_cnn_losses.CLAIMS,
     *mnist_cnn_blocks.CLAIMS),
    key=attrgetter("id"),
))  # fmt: skip

# The document's arithmetic for 28×28 pixels.
BY_HAND = {
    "direct": ("5·5·28·28·192·32", 5 * 5 * 28 * 28 * 192 * 32),
    "bottleneck": (
        "1·1·28·28·192·16 + 5·5·28·28·16·32",
        1 * 1 * 28 * 28 * 192 * 16 + 5 * 5 * 28 * 28 * 16 * 32,
    ),
}
NEXT = {
    "basic": "python mnist_cnn.py --model inception, which asks which branch is used.",
    "inception": "python mnist_cnn.py --model residual, whose blocks add their input.",
    "residual": "python mnist_cnn.py --model all, which compares the three networks.",
    "all": "python line_regression.py, the next chapter: a network that predicts numbers.",
}


def digits(run: Run, training: LabelledImages, test: LabelledImages, pixels: Tensor) -> None:
    """Prints how many images there are, and what normalising made of the training pixels."""
    say(
        f"Images to train on: {len(training):,}, to test on: {len(test):,}. Normalised, the "
        f"training pixels have mean {pixels.mean():.4f} and standard deviation {pixels.std():.4f}."
    )
    run.metrics |= {"train_pictures": len(training), "test_pictures": len(test)}


def costs(run: Run, ways: Mapping[str, nn.Module]) -> None:
    """Counts and times the 5×5 convolution, `direct` and with a 1×1 `bottleneck` before it."""
    images = torch.randn(8, 192, 28, 28)
    seconds = median_seconds(ways, images)
    rows, counted = [], {}
    for name, (formula, product) in BY_HAND.items():
        counted[name] = count_multiplications(ways[name], images[:1])
        milliseconds = 1000 * seconds[name] / len(images)
        rows.append([name, formula, product, counted[name], f"{milliseconds:.2f}"])
    print_table(
        "A 5×5 convolution from 192 to 32 channels of 28×28 pixels; the bottleneck has 16 channels",
        ["way", "formula", "product", "counted", "ms per image"], rows,
    )  # fmt: skip
    share = counted["bottleneck"] / counted["direct"]
    share_of_time = seconds["bottleneck"] / seconds["direct"]
    say(
        f"The bottleneck needs {share:.1%} of the direct way's multiplications and "
        f"{share_of_time:.0%} of its time. The document says “reduced by 1/10”: to a tenth, not by "
        "a tenth. It prints 12,433,648 multiplications; its formula gives "
        f"{28 * 28 * 192 * 16:,} + {5 * 5 * 28 * 28 * 16 * 32:,} = {BY_HAND['bottleneck'][1]:,}: "
        "one digit is wrong. Its 192 channels are an example: no network here has so many."
    )
    run.metrics |= {f"{name}_multiplications": count for name, count in counted.items()}
    run.metrics |= {
        "bottleneck_share": share,
        "bottleneck_time": share_of_time,
    }


def median_seconds(ways: Mapping[str, nn.Module], images: Tensor, rounds: int = 15) -> Row:
    """The median seconds of each way's forward pass.

    They are timed in turn, so that another program slows them all alike; a first round does not
    count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(images)
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(timed[1:]) for name, timed in seconds.items()}


def output_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each module's output, without the batch, for an image of zeros."""
    names = {module: name for name, module in model.named_modules()}
    shapes: dict[str, tuple[int, ...]] = {}

    def record(module: nn.Module, _: object, output: Tensor) -> None:
        shapes[names[module]] = tuple(output.shape[1:])

    hooks = [module.register_forward_hook(record) for module in names]
    with torch.inference_mode():
        model(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return shapes


def inception(run: Run, model: nn.Module) -> None:
    """Prints the output shape of each branch of the first Inception block, and its channels."""
    shapes = output_shapes(model)
    branches = {name: shapes[f"block1.1.{name}"] for name in BRANCH_LAYERS}
    print_table(
        f"Inception: {sides(shapes['block1.0'])} goes into each branch of the first block",
        ["branch", "layers", "output"],
        [[name, BRANCH_LAYERS[name], sides(shape)] for name, shape in branches.items()],
    )
    channels = shapes["block1"][0]
    terms = " + ".join(str(shape[0]) for shape in branches.values())
    (features,) = model.get_parameter("classify.weight").shape[1:]
    say(
        f"Side by side: {terms} = {channels} channels. The second block's "
        f"{sides(shapes['block2'])} are {features:,} numbers for the last layer."
    )
    run.metrics["inception_channels"] = channels


def residual(
    run: Run, model: nn.Module, make_block: Callable[[int, int, str], nn.Module]
) -> None:
    """Prints the shapes before and after residual blocks, of the network and with more channels.

    `make_block` takes the channels that go in, those that come out, and what becomes of x.
    """
    shapes = output_shapes(model)
    rows: list[list[object]] = []
    changes = 0
    for place in ("block1", "block2"):
        before, after = shapes[f"{place}.0"], shapes[f"{place}.1"]
        changes += before != after
        parameters = count_parameters(model.get_submodule(f"{place}.1"))
        rows.append(["as it is", sides(before), sides(after), parameters])
    example = torch.zeros(1, *shapes["block1.0"])
    for skip in ("transformed", "left out"):
        block = make_block(16, 32, skip)
        after = tuple(block(example).shape[1:])
        rows.append([skip, sides(shapes["block1.0"]), sides(after), count_parameters(block)])
    print_table(
        "A residual block adds its input x to its output. Where channels change, x does not fit",
        ["x is added", "input", "output", "parameters"], rows,
    )  # fmt: skip
    run.metrics["residual_shape_changes"] = changes


def layers(run: Run, models: Mapping[str, nn.Module]) -> None:
    """Prints the layers of each network that the run trains, and how large the network is."""
    example = torch.zeros(1, 1, 28, 28)
    for name, model in models.items():
        if run.options.model not in (name, "all"):
            continue
        rows = []
        for layer, shape, parameters in layer_table(model, example):
            rows.append([without_defaults(layer), shape.removeprefix("1×"), parameters])
        title = f"The {name} network: what each layer makes of an image"
        print_table(title, ["layer", "output", "parameters"], rows)
        say(
            f"The {name} network has {count_parameters(model):,} parameters and does "
            f"{count_multiplications(model, example):,} multiplications per image."
        )
    say()


def without_defaults(layer: str) -> str:
    """A layer as PyTorch prints it, without the options that nobody has chosen."""
    for default in ("stride=(1, 1)", "padding=0", "dilation=1", "ceil_mode=False", "bias=True"):
        layer = layer.replace(f", {default}", "")
    return layer


def training(run: Run) -> None:
    """Saves loss and accuracy by epoch, on training and on test images."""
    last = run.history[-1]
    learning_curves(
        run.history,
        run.file("learning_curves.png"),
        title="Loss and accuracy by epoch: how far apart are training and test images?",
        unseen="test",
    )
    run.metrics |= {
        "train_loss": last["train_loss"],
        "test_accuracy": last["test_accuracy"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in run.history),
    }


def mistakes(run: Run, test: LabelledImages, logits: Tensor) -> str:
    """Draws the most confident mistakes and the confusion matrix; returns closing sentences."""
    labels = test.labels
    path = run.file("misclassified.png")
    opened = mistakes_figure(test.images, labels, logits, NAMES, path)
    counts = confusion_matrix(labels, logits.argmax(1), len(NAMES))
    confusion_figure(counts, NAMES, run.file("confusion_matrix.png"))
    return (
        f"{right_and_confused(labels, logits, NAMES)} {opened} "
        f"Next: {NEXT[run.options.model]}"
    )


def branches(run: Run, uses: Mapping[str, Mapping[str, Row]]) -> None:
    """Prints and draws how strongly each branch is read, and the accuracy lost without it."""
    rows: list[list[object]] = []
    for place, block in uses.items():
        for name, use in block.items():
            rows.append([place, name, f"{use['before']:.4f}", f"{use['after']:.4f}",
                         f"{100 * gain(use):+.1f}", f"{100 * use['lost']:.2f}"])  # fmt: skip
    print_table(
        "How strongly the next layer reads each branch, before and after training "
        "(root mean square of its weights), and how much accuracy is lost without it",
        ["Inception", "branch", "before", "after", "gain (%)", "lost (points)"], rows,
    )  # fmt: skip
    by_block = {place: correlation(block) for place, block in uses.items()}
    words = ", ".join(f"{value:+.2f} in {place}" for place, value in by_block.items())
    needed = {place: most_needed_gain(block) for place, block in uses.items()}
    points = ", ".join(f"{100 * value:+.1f} points in {place}" for place, value in needed.items())
    say(
        f"Rank correlation of gain and lost accuracy: {words}. It is +1 where both put the "
        "branches in the same order, -1 where the orders are opposite. Gain of the branch that is "
        f"needed most, minus the mean gain of the others: {points}."
    )
    draw_branches(run, uses)
    run.metrics |= {
        "use_and_weight": statistics.mean(by_block.values()),
        "most_needed_gain": min(needed.values()),
    }


def comparison(
    run: Run,
    histories: Mapping[str, Sequence[Sequence[Row]]],
    uses: Sequence[Mapping[str, Mapping[str, Row]]],
    models: Mapping[str, nn.Module],
) -> str:
    """Prints and draws each network's accuracy, time and size; returns the closing sentence."""
    last = {name: [rows[-1]["test_accuracy"] for rows in runs] for name, runs in histories.items()}
    example = torch.zeros(1, 1, 28, 28)
    rows: list[list[object]] = []
    sizes = {}
    for name, runs in histories.items():
        mean = statistics.mean(last[name])
        seconds = statistics.median(row["seconds"] for history in runs for row in history)
        parameters = count_parameters(models[name])
        multiplications = count_multiplications(models[name], example)
        rows.append([
            name, f"{mean:.2%}", f"{min(last[name]):.2%}", f"{max(last[name]):.2%}",
            f"{seconds:.1f}", parameters, multiplications,
        ])  # fmt: skip
        sizes[name] = f"{parameters:,} parameters,\n{multiplications / 1e6:.1f} M multiplications"
        run.metrics[f"{name}_test_accuracy"] = mean
        run.metrics[f"{name}_seconds_per_epoch"] = seconds
    epochs, seeds = len(histories["basic"][0]), len(histories["basic"])
    print_table(
        f"Test accuracy after {epochs} epochs; seeds: {', '.join(map(str, run.options.seeds))}",
        ["network", "mean", "min", "max", "s per epoch", "parameters", "multiplications"],
        rows,
    )  # fmt: skip
    say(
        "The course reports after 10 epochs: basic about 98%, Inception 98 to 99%, residual 99%."
    )
    comparison_figure(
        histories,
        run.file("comparison.png"),
        title="Do Inception or residual blocks help, and do they take longer to train?",
        column="test_accuracy",
        label="test accuracy (%)",
        sizes=sizes,
    )
    correlations, gains = [], []
    for blocks in uses:
        correlations.append(statistics.mean(correlation(block) for block in blocks.values()))
        gains += [most_needed_gain(block) for block in blocks.values()]
    run.metrics |= {"use_and_weight": min(correlations), "most_needed_gain": min(gains)}
    best = max(last, key=lambda name: statistics.mean(last[name]))
    average = f", on average over {seeds} seeds" if seeds > 1 else ""
    return (
        f"Most accurate{average}: {best} "
        f"({statistics.mean(last[best]):.1%} of the test images). Open comparison.png."
    )
