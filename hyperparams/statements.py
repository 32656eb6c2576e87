"""What a claim of document 5 has besides: the experiments that it needs, and how it is measured."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.claims import Claim, Including
from common.runs import Run
from hyperparams.results import Results


@dataclass(frozen=True)
class Statement(Claim):
    """A claim and how it is measured: a function of the results of the experiments it needs."""

    measure: Callable[..., float] = field(kw_only=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of these experiments, in the order in which `measure` takes their results."""
        experiments = self.settings.get("experiments")
        return tuple(map(str, experiments.values)) if isinstance(experiments, Including) else ()

    @property
    def section(self) -> str:
        """The section it stands in: that of 5.10a is 5.10."""
        return self.id.rstrip(string.ascii_lowercase)


def trained(*names: str) -> dict[str, object]:
    """The settings of a run that tests a claim about these experiments."""
    return {"experiments": Including(names), "quick": False, "limit": None}


def measure_claims(run: Run, claims: Sequence[Statement], results: Results) -> None:
    """Measures every claim whose experiments were chosen, for each seed; once if it needs none.

    Where one of them failed with a seed, the number is NaN: then the claim is not reproduced.
    """
    for claim in claims:
        if not set(claim.needs) <= set(run.options.experiments):
            continue
        values = []
        for found in results.values():
            if all(name in found for name in claim.needs):
                values.append(float(claim.measure(*(found[name] for name in claim.needs))))
            else:
                values.append(math.nan)
            if not claim.needs:
                break
        run.metrics[claim.metric] = values
