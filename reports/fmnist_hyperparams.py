"""Document 5's claims, and what is printed and drawn of the results of `fmnist_hyperparams.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.bounds import about, above, at_least, at_most, below, exactly
from common.claims import Claim, Including, judge
from common.data import LabelledImages
from common.runs import Run
from common.terminal import say
from hyperparams import demonstrations, features, figures, measures, tables
from hyperparams.answers import CORRECTIONS, QUESTIONS, answered
from hyperparams.results import TRAINING, VALIDATION, Results, by_name, median_seconds


@dataclass(frozen=True)
class Statement(Claim):
    """A claim and how it is measured: a function of the results of the experiments it needs."""

    measure: Callable[..., float] = field(kw_only=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of these experiments, in the order in which `measure` takes their results."""
        experiments = self.settings.get("experiments")
        return tuple(map(str, experiments.values)) if isinstance(experiments, Including) else ()


def trained(*names: str) -> dict[str, object]:
    """The settings of a run that tests a claim about these experiments."""
    return {"experiments": Including(names), "quick": False, "limit": None}


# Directions are judged for every seed, the experiments compared within it.
CLAIMS = (
    Statement("5.4a", "unscaled: training accuracy", "12%",
              "claim_5.4a", about(0.12, 0.02), "{:.1%}", trained("unscaled"),
              measure=measures.training_accuracy),
    Statement("5.4b", "unscaled: loss of the last epoch as a share of the first's",
              "does not fall significantly",
              "claim_5.4b", at_least(0.9), "{:.1%}", trained("unscaled"),
              measure=measures.loss_left),
    Statement("5.5a", "scaled: training accuracy", "about 85%",
              "claim_5.5a", about(0.85, 0.02), "{:.1%}", trained("scaled"),
              measure=measures.training_accuracy),
    Statement("5.5b", "scaled: epochs in which the loss rises", "falls steadily",
              "claim_5.5b", exactly(0), "{:.0f}", trained("scaled"), True,
              measure=measures.rises),
    Statement("5.6a", "sigmoid(255·w): change from w = 0.1 to 1", "does not change above 0.1",
              "claim_5.6a", at_most(1e-3), "{:.4f}",
              measure=demonstrations.sigmoid_change_unscaled),
    Statement("5.6b", "sigmoid(w), scaled: change from w = 0.1 to 1", "changes a lot",
              "claim_5.6b", at_least(0.1), "{:.4f}",
              measure=demonstrations.sigmoid_change_scaled),
    Statement("5.6c", "sigmoid(0.0001·w): change from w = 0.1 to 1", "changes slightly",
              "claim_5.6c", at_most(1e-3), "{:.4f}",
              measure=demonstrations.sigmoid_change_tiny),
    Statement("5.7a", "batches of 32: training accuracy", "about 85%",
              "claim_5.7a", about(0.85, 0.02), "{:.1%}", trained("batch-32"),
              measure=measures.training_accuracy),
    Statement("5.7b", "batches of 32: validation accuracy", "about 85%",
              "claim_5.7b", about(0.85, 0.02), "{:.1%}", trained("batch-32"),
              measure=measures.validation_accuracy),
    Statement("5.7c", "batches of 10,000: validation accuracy minus that of 32",
              "not the same level",
              "claim_5.7c", below(0), "{:+.1f} points", trained("batch-10000", "batch-32"), True,
              measure=measures.accuracy_gain),
    Statement("5.7d", "updates per epoch with batches of 32", "1,875",
              "claim_5.7d", exactly(1875), "{:.0f}",
              measure=demonstrations.updates_with_32),
    Statement("5.7e", "updates per epoch with batches of 10,000", "6",
              "claim_5.7e", exactly(6), "{:.0f}",
              measure=demonstrations.updates_with_10000),
    Statement("5.8a", "Adam, ten epochs: validation accuracy", "very close to 85%",
              "claim_5.8a", about(0.85, 0.02), "{:.1%}", trained("adam"),
              measure=measures.validation_accuracy),
    Statement("5.8b", "Adam: validation accuracy after one epoch minus that of SGD",
              "optimal sooner",
              "claim_5.8b", above(0), "{:+.1f} points", trained("adam", "sgd"), True,
              measure=measures.first_epoch_gain),
    Statement("5.9a", "learning rate 0.1: validation accuracy", "about 25%",
              "claim_5.9a", about(0.25, 0.02), "{:.1%}", trained("lr-high"),
              measure=measures.validation_accuracy),
    Statement("5.9b", "learning rate 0.001: validation accuracy after 5 epochs",
              "trains well",
              "claim_5.9b", at_least(0.85), "{:.1%}", trained("lr-medium"),
              measure=measures.validation_accuracy_after_5),
    Statement("5.9c", "learning rate 0.001: validation accuracy after 8 epochs",
              "about 89%",
              "claim_5.9c", about(0.89, 0.02), "{:.1%}", trained("lr-medium"),
              measure=measures.validation_accuracy_after_8),
    Statement("5.9d", "learning rate 0.00001: validation accuracy after 100 epochs",
              "about 89%",
              "claim_5.9d", about(0.89, 0.02), "{:.1%}", trained("lr-low"),
              measure=measures.validation_accuracy),
    Statement("5.9e", "validation loss minus training loss: learning rate 0.00001 after 100 "
              "epochs, minus the same of 0.001 after 8", "a much smaller gap",
              "claim_5.9e", below(0), "{:+.3f}", trained("lr-low", "lr-medium"), True,
              measure=measures.loss_gap_change),
    Statement("5.10a", "standard deviation of the parameters: learning rate 0.1 ÷ 0.001, minimum "
              "of the four groups", "much wider",
              "claim_5.10a", at_least(2), "{:.1f}×", trained("lr-high", "lr-medium"), True,
              measure=measures.smallest_width_ratio),
    Statement("5.10b", "the same: learning rate 0.001 ÷ 0.00001", "wider",
              "claim_5.10b", above(1), "{:.1f}×", trained("lr-medium", "lr-low"), True,
              measure=measures.smallest_width_ratio),
    Statement("5.10c", "training minus validation accuracy: learning rate 0.1 minus 0.001",
              "wide: overfitting occurs",
              "claim_5.10c", above(0), "{:+.1f} points", trained("lr-high", "lr-medium"), True,
              measure=measures.gap_change),
    Statement("5.11a", "unscaled, learning rate 0.1: validation accuracy",
              "no accurate model",
              "claim_5.11a", below(0.5), "{:.1%}", trained("unscaled-lr-high"),
              measure=measures.validation_accuracy),
    Statement("5.11b", "learning rate 0.001: validation accuracy unscaled minus scaled",
              "not as high",
              "claim_5.11b", below(0), "{:+.1f} points",
              trained("unscaled-lr-medium", "lr-medium"), True,
              measure=measures.accuracy_gain),
    Statement("5.11c", "unscaled, learning rate 0.00001: validation accuracy",
              "able to learn",
              "claim_5.11c", at_least(0.8), "{:.1%}", trained("unscaled-lr-low"),
              measure=measures.validation_accuracy),
    Statement("5.11d", "learning rate 0.00001: training minus validation accuracy, unscaled "
              "minus scaled", "overfits",
              "claim_5.11d", above(0), "{:+.1f} points",
              trained("unscaled-lr-low", "lr-low"), True,
              measure=measures.gap_change),
    Statement("5.11e", "unscaled, learning rate 0.00001: weights within ± 0.05", "usually",
              "claim_5.11e", at_least(0.95), "{:.1%}", trained("unscaled-lr-low"),
              measure=measures.weights_within),
    Statement("5.11f", "validation accuracy: unscaled at 0.00001 minus scaled at 0.001",
              "equivalent",
              "claim_5.11f", about(0, 0.02), "{:+.1f} points",
              trained("unscaled-lr-low", "lr-medium"),
              measure=measures.accuracy_gain),
    Statement("5.12a", "annealing: the learning rate was halved at how many of the seven epochs",
              "5, 8, 11, 12, 13, 15, 16",
              "claim_5.12a", exactly(7), "{:.1f}", trained("lr-annealing"),
              measure=measures.halvings_as_stated),
    Statement("5.12b", "annealing: halvings although validation loss had not risen by 0.001",
              "when it increases by at least 0.001",
              "claim_5.12b", exactly(0), "{:.0f}", trained("lr-annealing"), True,
              measure=measures.halved_without_rise),
    Statement("5.12c", "100 epochs: training minus validation accuracy, with annealing minus "
              "without", "a smaller gap",
              "claim_5.12c", below(0), "{:+.1f} points",
              trained("lr-annealing-100", "no-annealing-100"), True,
              measure=measures.gap_change),
    Statement("5.12d", "100 epochs without annealing: training accuracy", "close to 100%",
              "claim_5.12d", at_least(0.98), "{:.1%}", trained("no-annealing-100"),
              measure=measures.training_accuracy),
    Statement("5.12e", "100 epochs without annealing: validation accuracy", "about 89%",
              "claim_5.12e", about(0.89, 0.02), "{:.1%}", trained("no-annealing-100"),
              measure=measures.validation_accuracy),
    Statement("5.13a", "no hidden layer: validation accuracy", "cannot learn",
              "claim_5.13a", below(0.5), "{:.1%}", trained("hidden-0"),
              measure=measures.validation_accuracy),
    Statement("5.13b", "validation loss: two hidden layers minus one", "overfits more",
              "claim_5.13b", above(0), "{:+.3f}", trained("hidden-2", "hidden-1"), True,
              measure=measures.validation_loss_change),
    Statement("5.14a", "tiny inputs, 100 epochs: validation accuracy", "about 85%",
              "claim_5.14a", about(0.85, 0.02), "{:.1%}", trained("tiny-input"),
              measure=measures.validation_accuracy),
    Statement("5.14b", "normal inputs, 10 epochs: validation accuracy", "about 90%",
              "claim_5.14b", about(0.90, 0.02), "{:.1%}", trained("no-annealing-100"),
              measure=measures.validation_accuracy_after_10),
    Statement("5.14c", "standard deviation of the hidden values: tiny ÷ normal inputs",
              "a very small range",
              "claim_5.14c", below(1), "{:.2g}×", trained("tiny-input", "no-annealing-100"), True,
              measure=measures.hidden_width_ratio),
    Statement("5.14d", "100 epochs, validation accuracy: tiny inputs with batch norm minus normal "
              "inputs", "very similar",
              "claim_5.14d", about(0, 0.02), "{:+.1f} points",
              trained("tiny-input-batchnorm", "no-annealing-100"),
              measure=measures.accuracy_gain),
    Statement("5.14e", "validation accuracy after one epoch: tiny inputs with batch norm minus "
              "normal inputs without", "high faster",
              "claim_5.14e", above(0), "{:+.1f} points",
              trained("tiny-input-batchnorm", "no-annealing-100"), True,
              measure=measures.first_epoch_gain),
    Statement("5.14f", "standard deviation of the hidden values, tiny inputs: with batch norm ÷ "
              "without", "wider",
              "claim_5.14f", above(1), "{:.2g}×",
              trained("tiny-input-batchnorm", "tiny-input"), True,
              measure=measures.hidden_width_ratio),
    Statement("5.14g", "standard deviation of the output weights, tiny inputs: with batch norm ÷ "
              "without", "narrower",
              "claim_5.14g", below(1), "{:.2g}×",
              trained("tiny-input-batchnorm", "tiny-input"), True,
              measure=measures.output_weight_ratio),
    Statement("5.14h", "batch norm and (x − mean) ÷ variance: largest difference",
              "divides by the variance",
              "claim_5.14h", at_most(1e-3), "{:.2g}",
              measure=demonstrations.batch_norm_error_by_variance),
    Statement("5.15a", "training minus validation accuracy: with dropout minus without",
              "less overfitting",
              "claim_5.15a", below(0), "{:+.1f} points", trained("dropout", "no-dropout"), True,
              measure=measures.gap_change),
    Statement("5.15b", "dropout: size of the weights in prediction as a share of that in training",
              "scaled down",
              "claim_5.15b", below(1), "{:.0%}",
              measure=demonstrations.dropout_weights),
    Statement("5.15c", "training mode: different answers in ten predictions of one input",
              "different",
              "claim_5.15c", above(1), "{:.0f}",
              measure=demonstrations.dropout_answers_in_training),
    Statement("5.15d", "the same in evaluation mode", "the same output",
              "claim_5.15d", exactly(1), "{:.0f}",
              measure=demonstrations.dropout_answers_in_evaluation),
    Statement("5.15e", "30 epochs without dropout: training accuracy", "often over 95%",
              "claim_5.15e", above(0.95), "{:.1%}", trained("no-dropout"),
              measure=measures.training_accuracy),
    Statement("5.15f", "30 epochs without dropout: validation accuracy", "about 89%",
              "claim_5.15f", about(0.89, 0.02), "{:.1%}", trained("no-dropout"),
              measure=measures.validation_accuracy),
    Statement("5.16a", "training minus validation accuracy: l1 minus none", "not as high",
              "claim_5.16a", below(0), "{:+.1f} points", trained("l1", "no-dropout"), True,
              measure=measures.gap_change),
    Statement("5.16b", "training minus validation accuracy: l2-norm minus none",
              "close to each other",
              "claim_5.16b", below(0), "{:+.1f} points", trained("l2-norm", "no-dropout"), True,
              measure=measures.gap_change),
    Statement("5.16c", "training minus validation accuracy: l2-square minus none",
              "close to each other",
              "claim_5.16c", below(0), "{:+.1f} points", trained("l2-square", "no-dropout"), True,
              measure=measures.gap_change),
    Statement("5.16d", "standard deviation of the weights: l1 ÷ none, maximum of both layers",
              "very small",
              "claim_5.16d", below(1), "{:.2g}×", trained("l1", "no-dropout"), True,
              measure=measures.largest_weight_ratio),
    Statement("5.16e", "standard deviation of the weights: l2-norm ÷ none, maximum of both layers",
              "very small",
              "claim_5.16e", below(1), "{:.2g}×", trained("l2-norm", "no-dropout"), True,
              measure=measures.largest_weight_ratio),
    Statement("5.16f", "standard deviation of the weights: l2-square ÷ none, maximum of both "
              "layers", "very small",
              "claim_5.16f", below(1), "{:.2g}×", trained("l2-square", "no-dropout"), True,
              measure=measures.largest_weight_ratio),
)  # fmt: skip

PARAMETER_SECTIONS = ("5.10", "5.11", "5.14", "5.16")  # which look at the parameters too
COLUMNS = (TRAINING, VALIDATION, "train_loss", "validation_loss")


def contents(experiments: Mapping[str, Any], base: Any) -> None:
    """Prints the chapter's table of experiments, and what each changes from the base."""
    tables.print_contents(experiments, base)


def without_training(run: Run, clothes: LabelledImages) -> None:
    """Shows what the chapter shows without training: the chosen section's part, or with all
    experiments the whole; nothing beside experiments chosen by name.
    """
    section: str | None = run.options.section
    if run.options.names:
        return
    if section in (None, "5.1"):
        features.show_arrays(run)
    if section in (None, "5.2"):
        features.show_features(run)
    if section in (None, "5.3"):
        features.show_classes(run, clothes)
    if section in (None, "5.6"):
        demonstrations.show_sigmoids(run)
    if section in (None, "5.14"):
        demonstrations.show_batch_norm()
    if section in (None, "5.15"):
        demonstrations.show_dropout()


def experiments(run: Run, results: Results, sections: Mapping[str, Sequence[str]]) -> str:
    """Draws, prints and measures all about the experiments; returns the closing sentence.

    `sections` has for each section its experiments and those compared with them.
    """
    finished = [name for name in next(iter(results.values())) if in_all(results, name)]
    run.options.experiments = finished  # which the claims' settings ask for
    for section, names in sections.items():
        if run.options.section in (None, section):
            draw(run, section, [name for name in names if name in finished], results)
    measure_experiments(run, results)
    tables.print_results(results)
    measure_claims(run, results)
    short = run.options.quick or run.options.limit is not None
    length = ", at this length" if short else ""
    print_lines(f"The document's closing questions (5.17){length}:", answered(QUESTIONS, results))
    corrections = answered(CORRECTIONS, results)
    print_lines(f"What the document says, and what was measured{length}:", corrections)
    if short:
        print_effects(run)
    return ending(run, results)


def in_all(results: Results, name: str) -> bool:
    """Whether an experiment was trained with every seed."""
    return all(name in found for found in results.values())


def draw(run: Run, section: str, names: Sequence[str], results: Results) -> None:
    """Saves the figures of a section's finished experiments, with the first seed."""
    first = next(iter(results.values()))
    shown = {name: first[name] for name in names}
    own = [name for name in names if first[name].section == section]
    if own:
        figures.curves(run, section, shown, own)
    if section in PARAMETER_SECTIONS and len(shown) > 1 and (own or section == "5.10"):
        hidden = section == "5.14"
        figures.parameters(run, section, shown, hidden)
        tables.print_widths(section, shown, hidden)


def measure_experiments(run: Run, results: Results) -> None:
    """Puts every experiment's last numbers, one for each seed, among the run's metrics."""
    for name, found in by_name(results).items():
        for column in COLUMNS:
            run.metrics[f"{name}_{column}"] = [result.last(column) for result in found]
        run.metrics[f"{name}_seconds_per_epoch"] = median_seconds(found)


def measure_claims(run: Run, results: Results) -> None:
    """Measures every claim for each seed with the experiments it needs; once if it needs none."""
    for claim in CLAIMS:
        values = []
        for found in results.values():
            if all(name in found for name in claim.needs):
                values.append(float(claim.measure(*(found[name] for name in claim.needs))))
            if not claim.needs:
                break
        if values:
            run.metrics[claim.metric] = values


def claims_of(run: Run) -> list[Statement]:
    """The claims that this run is about: those of its section, of its experiments, or all."""
    names, section = run.options.names, run.options.section
    if section:
        return [claim for claim in CLAIMS if claim.id.rstrip("abcdefgh") == section]
    if names:
        return [claim for claim in CLAIMS if claim.needs and set(claim.needs) <= set(names)]
    return list(CLAIMS)


def print_effects(run: Run) -> None:
    """Says which claims hold as they stand in a run that is too short to judge them."""
    measured = [replace(claim, settings={}) for claim in claims_of(run)
                if claim.needs and claim.metric in run.metrics]  # fmt: skip
    verdicts = judge(measured, run.metrics, {})
    hold = [one.claim.id for one in verdicts if one.verdict == "reproduced"]
    others = [one.claim.id for one in verdicts if one.verdict != "reproduced"]
    if measured:
        say(
            "This run is too short to judge what the document says about training. Statements "
            f"that hold at this length too ({len(hold)}): {', '.join(hold) or 'none'}. Those that "
            f"do not ({len(others)}): {', '.join(others) or 'none'}."
        )


def print_lines(title: str, lines: Sequence[str]) -> None:
    if lines:
        say(title)
        for line in lines:
            say(f"* {line}")
        say()


def ending(run: Run, results: Results) -> str:
    """The best experiment, what to open and to run next; returns the closing sentence."""
    figures_made = sorted(path.name for path in run.folder.glob("*.png"))
    found = by_name(results)
    sentences = []
    if found:
        right = {name: statistics.fmean(one.last(VALIDATION) for one in several)
                 for name, several in found.items()}  # fmt: skip
        best, worst = max(right, key=right.__getitem__), min(right, key=right.__getitem__)
        result = found[best][0]
        seeds = f", mean of {len(found[best])} seeds" if len(found[best]) > 1 else ""
        sentences.append(
            f"Highest validation accuracy of {len(found)} experiments: {best}, {right[best]:.1%} "
            f"({result.changed}; {result.epochs} epochs{seeds})."
        )
        if best != worst:
            sentences.append(f"Lowest: {worst}, {right[worst]:.1%}.")
        opened = f"curves_{result.section}.png"
        if opened in figures_made:
            figures_made = [opened]
    if figures_made:
        sentences.append(f"Open {figures_made[0]}.")
    sentences.append(next_command(run))
    return " ".join(sentences)


def next_command(run: Run) -> str:
    """What to run next."""
    options = run.options
    if options.quick and not options.section and not options.names:
        return (
            "Next: python fmnist_hyperparams.py --section 5.9, one section at the document's "
            "length; --all is everything."
        )
    if options.quick:
        return "Next: the same without --quick, at the document's length."
    if options.all:
        return "Next: add a line of your own to EXPERIMENTS and train it by its name."
    return "Next: python fmnist_hyperparams.py --list, which shows all experiments."


def failed(run: Run, failures: Mapping[str, str]) -> str:
    """Which experiments failed and why, and how to train them again, in one line."""
    named = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    return f"experiments that failed: {named}; --out-dir {run.folder} --resume trains them again"
