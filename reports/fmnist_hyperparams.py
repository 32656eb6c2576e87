"""What is printed, drawn and judged of the results of `fmnist_hyperparams.py`, document 5."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.claims import judge
from common.data import LabelledImages
from common.runs import Run
from common.terminal import say
from hyperparams import demonstrations, distributions, features, figures, schedule, tables
from hyperparams.answers import QUESTIONS, answered
from hyperparams.corrections import CORRECTIONS
from hyperparams.results import TRAINING, VALIDATION, Results, by_name, median_seconds
from hyperparams.statements import Statement, measure_claims
from reports import fmnist_claims_networks, fmnist_claims_rates

CLAIMS = (*fmnist_claims_rates.CLAIMS, *fmnist_claims_networks.CLAIMS)
PARAMETER_SECTIONS = ("5.10", "5.11", "5.14", "5.16")  # which look at the parameters too
NOT_DRAWN = {"5.16": ("hidden-1",)}  # a section's claims need it, its figures do not
COLUMNS = (TRAINING, VALIDATION, "train_loss", "validation_loss")


def contents(experiments: Mapping[str, Any], further: Mapping[str, Any], base: Any) -> None:
    """Prints the chapter's tables of experiments, and what each changes from the base."""
    tables.print_contents(experiments, further, base)


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
    for section, names in sections.items():
        if run.options.section in (None, section):
            draw(run, section, [name for name in names if name in finished], results)
    measure_experiments(run, results)
    tables.print_results(results)
    measure_claims(run, CLAIMS, results)
    short = run.options.quick or run.options.limit is not None
    length = ", at this length" if short else ""
    answers = answered(QUESTIONS, results, run.device.type)
    print_lines(f"The document's closing questions (5.17){length}:", answers)
    corrections = answered(CORRECTIONS, results, run.device.type)
    print_lines(f"What the document says, and what was measured{length}:", corrections)
    if short:
        print_effects(run)
    return ending(run, results)


def in_all(results: Results, name: str) -> bool:
    """Whether an experiment was trained with every seed."""
    return all(name in found for found in results.values())


def draw(run: Run, section: str, names: Sequence[str], results: Results) -> None:
    """Saves and prints what a section shows of its finished experiments, with the first seed."""
    first = next(iter(results.values()))
    shown = {name: first[name] for name in names if name not in NOT_DRAWN.get(section, ())}
    hidden = section == "5.14"
    for part, together in figures.parts(section, shown).items():
        own = [name for name, result in together.items() if result.section == section]
        if own:
            figures.curves(run, section, together, own, part)
        if section in PARAMETER_SECTIONS and len(together) > 1 and (own or section == "5.10"):
            figures.parameters(run, section, together, hidden, part)
            distributions.signed(run, section, together, hidden, part)
            tables.print_widths(figures.heading(section, part), together, hidden)
    schedule.print_rates(section, shown)
    if any(result.section == section for result in shown.values()):
        distributions.batch_norm(run, section, shown)


def measure_experiments(run: Run, results: Results) -> None:
    """Puts every experiment's last numbers, one for each seed, among the run's metrics."""
    for name, found in by_name(results).items():
        for column in COLUMNS:
            run.metrics[f"{name}_{column}"] = [result.last(column) for result in found]
        run.metrics[f"{name}_seconds_per_epoch"] = median_seconds(found)


def claims_of(run: Run) -> list[Statement]:
    """The claims that this run is about: those of its section, of its experiments, or all.

    A shortened run of all leaves some experiments out, and so the claims that need them.
    """
    names, section = run.options.names, run.options.section
    if section:
        return [claim for claim in CLAIMS if claim.section == section]
    if names:
        return [claim for claim in CLAIMS if claim.needs and set(claim.needs) <= set(names)]
    if run.options.quick:
        return [claim for claim in CLAIMS if set(claim.needs) <= set(run.options.experiments)]
    return list(CLAIMS)


def print_effects(run: Run) -> None:
    """Says which claims hold as they stand in a run that is too short to judge them."""
    measured = [replace(claim, settings={}) for claim in claims_of(run)
                if claim.needs and claim.metric in run.metrics]  # fmt: skip
    verdicts = [one for one in judge(measured, run.metrics, {})
                if one.measured is not None and not math.isnan(one.measured)]  # fmt: skip
    hold = [one.claim.id for one in verdicts if one.verdict == "reproduced"]
    others = [one.claim.id for one in verdicts if one.verdict != "reproduced"]
    if verdicts:
        say(
            "This shortened run cannot judge what the document says about training: the table "
            "below calls its statements 'not judged' (epochs they name are a full run's). As a "
            f"hint only: its numbers agree with {len(hold)} of them ({', '.join(hold) or 'none'}) "
            f"and disagree with {len(others)} ({', '.join(others) or 'none'})."
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
            f"Highest validation accuracy: {best}, {right[best]:.1%} "
            f"({result.changed}; {result.epochs} epochs{seeds})."
        )
        if best != worst:
            sentences.append(f"Lowest: {worst}, {right[worst]:.1%}.")
        (part,) = figures.parts(result.section, {best: result})
        opened = figures.file_name("curves", result.section, part)
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
            "length; --all is everything. The next chapter: python rnn_demo.py, networks that read "
            "sequences."
        )
    if options.quick:
        return "Next: the same without --quick, at full length."
    if options.all:
        return "Next: add a line of your own to EXPERIMENTS and train it by its name."
    return "Next: python fmnist_hyperparams.py --list, which shows all experiments."


def failed(run: Run, failures: Mapping[str, str]) -> str:
    """Which experiments failed and why, and how to train them again, in one line."""
    named = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    return f"experiments that failed: {named}; {run.continued()} trains them again"
