"""What the reports of all recipes share: our targets as claims, and the seeds' final scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.bounds import at_least, at_most
from common.claims import Target
from common.data import LabelledImages
from common.layers import count_parameters
from common.metrics import accuracy
from common.runs import Run, in_shell
from common.terminal import print_table, say
from recipes.ladder import SEEDS
from recipes.training import WEIGHTS, seconds_of_training
from reports.classification import learning_curves, mistakes_figure, right_and_confused

CORES = 2  # the targets' seconds are those of two cores
SCORE = "test images classified correctly"  # of those that classify images
# The options of the run that the targets are about; with --epochs, --batch-size and --lr as the
# recipe has them, which each recipe adds.
STATED = {"seeds": SEEDS, "limit": None, "ladder": False, "validate": False}


def targets(
    name: str,
    score: str,
    *,
    at_least_: float,
    stretch: float,
    within: float,
    settings: dict[str, object],
    parameters: int | None = None,
) -> tuple[Target, ...]:
    """A recipe's targets: `name`.1 its score, .2 the stretch target, .3 seconds, .4 parameters.

    `score` says what `test_score` is, a fraction; `within` is in seconds; `settings` are the
    recipe's own `epochs`, `batch_size` and `lr`.
    """
    stated = {**STATED, **settings}
    target, further = "our target", "our stretch target"
    claims = [
        Target(f"{name}.1", f"{score}, mean of the seeds", target,
              "test_score", at_least(at_least_), "{:.2%}", stated),
        Target(f"{name}.2", f"{score}, mean of the seeds", further,
              "test_score", at_least(stretch), "{:.2%}", stated),
        Target(f"{name}.3", f"seconds of training on {CORES} cores at most, mean of the seeds",
              target, "seconds_of_training", at_most(within), "{:.0f} s", stated),
    ]  # fmt: skip
    if parameters is not None:
        claims.append(Target(f"{name}.4", "parameters", target, "parameters",
                            at_most(parameters), "{:,.0f}"))  # fmt: skip
    return tuple(claims)


def judged(run: Run, claims: Sequence[Target]) -> list[Target]:
    """The claims that this machine can judge: those about seconds only on two cores at most."""
    if run.device.type == "cpu" and torch.get_num_threads() <= CORES:
        return list(claims)
    say(f"The targets' seconds are those of {CORES} cores, and are not judged here.")
    return [claim for claim in claims if not claim.metric.endswith("seconds_of_training")]


def measure_scores(run: Run, scores: Sequence[float]) -> None:
    """Puts the seeds' test scores (fractions) among the metrics: their mean, and each."""
    run.metrics["test_score"] = list(scores)
    for seed, score in zip(run.options.seeds, scores, strict=True):
        run.metrics[f"test_score_seed{seed}"] = score


def final(run: Run, scores: Sequence[float], seconds: Sequence[float], score: str) -> str:
    """Prints what each seed's network scores on the test set; returns the closing sentence.

    `scores` are fractions and `seconds` those of the training, one for each of `options.seeds`.
    """
    measure_scores(run, scores)
    run.metrics["seconds_of_training"] = list(seconds)
    if len(scores) > 1:
        rows = [
            [seed, f"{100 * share:.2f}", f"{time:.0f}"]
            for seed, share, time in zip(run.options.seeds, scores, seconds, strict=True)
        ]
        spread = [f"{100 * statistics.stdev(scores):.2f}", f"{statistics.stdev(seconds):.0f}"]
        rows.append(["mean", f"{100 * statistics.mean(scores):.2f}",
                     f"{statistics.mean(seconds):.0f}"])  # fmt: skip
        rows.append(["±", *spread])
        title = f"{score}, of networks trained from {len(scores)} seeds (±: standard deviation)"
        print_table(title, ["seed", "%", "seconds of training"], rows)
    mean = f" (means of {len(scores)} seeds)" if len(scores) > 1 else ""
    return (
        f"{score}: {statistics.mean(scores):.2%} after {statistics.mean(seconds):.0f} s of "
        f"training{mean}."
    )


# Of the recipes that classify images


def validated(run: Run, runs: Sequence[Run], soft_labels: bool = True) -> str:
    """Draws one seed's curves; measures all seeds on the images held out; the closing sentences.

    `soft_labels`: with these the loss of the training images stays above that of unseen ones.
    """
    last = [one.history[-1] for one in runs]
    shares = [row["val_accuracy"] for row in last]
    run.metrics |= {
        "val_accuracy": shares,
        "val_loss": [row["val_loss"] for row in last],
        "train_accuracy": [row["train_accuracy"] for row in last],
        "seconds_of_training": [seconds_of_training(one) for one in runs],
    }
    learning_curves(
        runs[0].history,
        run.file("loss_and_accuracy.png"),
        title="Would a longer training help? The images held out, epoch by epoch",
        unseen="validation",
        trained="training images, varied" + (", soft labels" if soft_labels else ""),
    )
    seeds = f", mean of {len(shares)} seeds" if len(shares) > 1 else ""
    seconds = statistics.mean(seconds_of_training(one) for one in runs)
    return (
        f"{statistics.mean(shares):.2%} of the images held out are classified correctly after "
        f"{seconds:.0f} seconds of training{seeds}; {gap(runs)} Open loss_and_accuracy.png."
    )


def gap(runs: Sequence[Run]) -> str:
    """What the accuracy on training images says about what may help."""
    trained = statistics.mean(one.history[-1]["train_accuracy"] for one in runs)
    held_out = statistics.mean(one.history[-1]["val_accuracy"] for one in runs)
    share = f"of the training images, shown as they are, {trained:.2%}."
    if trained - held_out > (1 - held_out) / 2:  # most of the mistakes are not made in training
        return f"{share} It knows those better: more varied images may help."
    return f"{share} It knows those not much better: longer training or a larger network may help."


def tested(
    run: Run,
    runs: Sequence[Run],
    network: nn.Module,
    test: LabelledImages,
    logits: Sequence[Tensor],
    names: Sequence[str],
) -> str:
    """Prints each seed's score, draws the first seed's mistakes; returns the closing sentences.

    `logits` (N×10) are those of each seed for the test images, `names` those of the classes;
    `network` is one of theirs.
    """
    shares = [accuracy(one, test.labels) for one in logits]
    seconds = [seconds_of_training(one) for one in runs]
    run.metrics["parameters"] = count_parameters(network)
    path = run.file("misclassified.png")
    opened = mistakes_figure(test.images, test.labels, logits[0], names, path)
    ending = final(run, shares, seconds, SCORE.capitalize())
    first = "" if len(runs) == 1 else f" Seed {run.options.seeds[0]}:"
    return (
        f"{ending}{first} {right_and_confused(test.labels, logits[0], names)} {opened}\n"
        f"{next_commands(run, runs[0])}"
    )


def next_commands(run: Run, trained: Run) -> str:
    """What to do after a training: its ladder, or an image of one's own; each command a line."""
    return (
        "Next, what each step gives (an hour or more):\n"
        f"{in_shell(['python', run.command, '--ladder'])}\n"
        "Or show this network an image of your own:\n"
        f"{predict_command(run, trained)}"
    )


def predict_command(run: Run, trained: Run, example: str = "photo.jpg") -> str:
    """The command that shows a file to the network of a training, by the weights it saved."""
    weights = str(trained.folder / WEIGHTS)
    return in_shell(["python", run.command, "--predict", example, "--weights", weights])
