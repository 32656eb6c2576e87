"""The result of one training: a row for each epoch, the network and its hidden values."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from common.rows import Row

GROUPS = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")
TRAINING, VALIDATION = "train_accuracy", "validation_accuracy"
LAST = 1000  # more epochs than any training has: `at` then takes the last one


@dataclass(frozen=True)
class Result:
    """A finished experiment, its network in evaluation mode.

    `number` is its place in the table of experiments, from 0; `changes` says what differs from the
    base, and is empty where nothing does; `hidden_values` (N×1000) is what the last hidden layer
    gives after its activation for N images; without one it is the inputs (N×784).
    """

    name: str
    section: str
    changes: str
    number: int
    history: list[Row]
    network: nn.Module
    hidden_values: Tensor

    @property
    def changed(self) -> str:
        """What differs from the base, in words: `changed: lr 0.01` or `no changes`."""
        return f"changed: {self.changes}" if self.changes else "no changes"

    @property
    def epochs(self) -> int:
        return len(self.history)

    def column(self, name: str) -> list[float]:
        """A quantity after each epoch."""
        return [row[name] for row in self.history]

    def last(self, name: str) -> float:
        """A quantity after the last epoch."""
        return self.history[-1][name]

    def at(self, epoch: int, name: str) -> float:
        """A quantity after that epoch, or after the last where there are fewer."""
        return self.history[min(epoch, self.epochs) - 1][name]

    def accuracy_gap(self, epoch: int = LAST) -> float:
        """Training accuracy minus validation accuracy."""
        return self.at(epoch, TRAINING) - self.at(epoch, VALIDATION)

    def loss_gap(self, epoch: int = LAST) -> float:
        """Validation loss minus training loss."""
        return self.at(epoch, "validation_loss") - self.at(epoch, "train_loss")

    def best_epoch(self) -> int:
        """The epoch, from 1, after which validation loss was lowest."""
        losses = self.column("validation_loss")
        return 1 + losses.index(min(losses))

    def halvings(self) -> list[int]:
        """The epochs after which the learning rate was halved."""
        rates = self.column("lr")
        return [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]

    def seconds_per_epoch(self) -> float:
        """The median over the epochs, training alone."""
        return statistics.median(self.column("seconds"))

    def parameters(self) -> dict[str, Tensor]:
        """Weights and biases of the first and the last layer, by name, where there are any."""
        named = self.network.named_parameters()
        return {name: parameter.detach() for name, parameter in named if name in GROUPS}

    def width(self, parameter: str) -> float:
        """Standard deviation of a layer's weights or biases."""
        return self.parameters()[parameter].std().item()

    def hidden_width(self) -> float:
        """Standard deviation of the hidden values."""
        return self.hidden_values.std().item()


# The results of each random seed, by the experiment's name, in the order of the chapter's table.
Results = Mapping[int, Mapping[str, Result]]


def by_seed(seeds: Sequence[int], finished: Sequence[tuple[int, Result]]) -> Results:
    """For each seed its results by name, in the order of the chapter; `finished`: seed, result."""
    results: dict[int, dict[str, Result]] = {seed: {} for seed in seeds}
    for seed, result in sorted(finished, key=lambda pair: pair[1].number):
        results[seed][result.name] = result
    return results


def by_name(results: Results) -> dict[str, list[Result]]:
    """Each experiment's results, one for each seed that has it, in the order of the chapter."""
    found: dict[str, list[Result]] = {}
    for of_seed in results.values():
        for name, result in of_seed.items():
            found.setdefault(name, []).append(result)
    return dict(sorted(found.items(), key=lambda item: item[1][0].number))


def median_seconds(found: Sequence[Result]) -> float:
    return statistics.median(value for result in found for value in result.column("seconds"))


def shared_epochs(one: Result, other: Result) -> int:
    """For how many epochs from the first both have the same losses and accuracies."""
    columns = ("train_loss", TRAINING, "validation_loss", VALIDATION)
    epochs = 0
    for row, other_row in zip(one.history, other.history, strict=False):
        if any(row[name] != other_row[name] for name in columns):
            break
        epochs += 1
    return epochs


def differences(experiment: Any, base: Any) -> str:
    """What differs between two experiments, section and epochs apart: `optimizer sgd, lr 0.01`.

    Empty if nothing does.
    """
    changes = []
    for field in dataclasses.fields(experiment):
        value, name = getattr(experiment, field.name), field.name.replace("_", " ")
        if field.name in ("section", "epochs") or value == getattr(base, field.name):
            continue
        if isinstance(value, bool):
            changes.append(name if value else f"no {name}")
        elif isinstance(value, str):
            changes.append(f"{name} {value}")
        else:
            changes.append(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:g}")
    return ", ".join(changes)
