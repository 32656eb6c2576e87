"""Document 2's "meets saddle points": the Hessian of the small network along its trainings.

A training met a saddle, in the sense of this project, at a place on its path where three things
hold, each by a tenth:
1. flat: the gradient's norm is below a tenth of that before training;
2. bent both ways: the Hessian's smallest eigenvalue is negative, and in size at least a tenth of
   its largest;
3. left again: later in the training the loss is lower by at least a tenth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from common.rows import write_rows
from common.runs import Run
from common.terminal import print_table, track

if TYPE_CHECKING:
    from gradient_demo import Descent, Digits

A_TENTH = 0.1

# 1. The Hessian of a network's loss: its smallest and its largest eigenvalue


def extreme_eigenvalues(model: nn.Module, data: Digits) -> tuple[float, float, float]:
    """The Hessian's smallest and largest eigenvalue on 2,000 samples at most; the gradient's norm.

    The Hessian itself, 25,450×25,450 numbers, is never computed: Lanczos' method (ARPACK, through
    SciPy) needs only its products with vectors, the derivative of the gradient along each vector.
    Both eigenvalues are NaN where the method does not settle on them.
    """
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    loss = nn.functional.cross_entropy(model(data.images[:2000]), data.labels[:2000])
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)

    def hessian_times(vector: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
        pieces = torch.from_numpy(vector.astype(np.float32)).to(loss.device).split(sizes)
        along = [piece.view_as(part) for piece, part in zip(pieces, gradient, strict=True)]
        product = torch.autograd.grad(gradient, parameters, along, retain_graph=True)
        return torch.cat([part.flatten() for part in product]).cpu().double().numpy()

    start = np.random.default_rng(0).normal(size=sum(sizes))
    hessian = LinearOperator((start.size, start.size), matvec=hessian_times, dtype=np.float64)
    try:
        ends = eigsh(
            hessian, 2, which="BE", v0=start, tol=1e-3, maxiter=300, return_eigenvectors=False
        )
    except ArpackNoConvergence:
        ends = np.full(2, np.nan)
    norm = torch.cat([part.detach().flatten() for part in gradient]).norm().item()
    return float(ends.min()), float(ends.max()), norm


def gradient_norm(model: nn.Module, data: Digits) -> float:
    """The norm of the gradient of the loss over all samples."""
    loss = nn.functional.cross_entropy(model(data.images), data.labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    return float(torch.cat([part.flatten() for part in gradient]).norm())


# 2. Where the trainings end


def ends(
    run: Run,
    descents: Mapping[str, Descent],
    training: Digits,
    by_the_rule: Callable[[Tensor], str],
) -> None:
    """Prints what the Hessian says about the places where the trainings end.

    The metric is the smallest eigenvalue where the second training, with one sample, ends.
    """
    rows = []
    smallest_of = {}
    for name, descent in descents.items():
        smallest, largest, gradient = extreme_eigenvalues(descent.models[-1], training)
        answer = by_the_rule(torch.tensor([smallest, largest]))
        rows.append([name, signed(smallest), signed(largest), f"{gradient:.3f}", answer])
        smallest_of[name] = smallest
    print_table(
        "Where the trainings end, on at most 2,000 samples: the Hessian's smallest and largest "
        "eigenvalue, and the norm of the gradient, which is 0 only at a critical point",
        ["update with", "smallest", "largest", "gradient", "signs suggest"],
        rows,
    )
    _, single, _ = descents
    run.metrics["single_smallest_eigenvalue"] = smallest_of[single]


def signed(eigenvalue: float) -> str:
    """An eigenvalue with its sign, or that it was not found."""
    return "not found" if math.isnan(eigenvalue) else f"{eigenvalue:+.3f}"


# 3. Places on the way: flat, bent both ways, left again


@dataclass(frozen=True)
class Place:
    """A place on the path of a training, after `updates` updates."""

    updates: float
    flatness: float  # the gradient's norm, as a fraction of that before training
    bend: float  # minus the smallest eigenvalue, as a fraction of the largest; NaN if not computed
    fall: float  # by how much the loss is lower later, as a fraction of the loss here

    @property
    def is_flat(self) -> bool:
        return self.flatness < A_TENTH

    @property
    def is_saddle(self) -> bool:
        return self.is_flat and self.bend >= A_TENTH and self.fall >= A_TENTH


def places_of(descent: Descent, norm_before: float, training: Digits, name: str) -> list[Place]:
    """The evaluated places of a training; eigenvalues (half a second each) only where it is flat.

    `norm_before` is the norm of the gradient before training.
    """
    losses = [row["loss"] for row in descent.history]
    places = []
    for number, model in enumerate(track(descent.models, f"{name}, places")):
        flatness = gradient_norm(model, training) / norm_before
        bend = math.nan
        if flatness < A_TENTH:
            smallest, largest, _ = extreme_eigenvalues(model, training)
            bend = -smallest / largest
        fall = 1 - min(losses[number:]) / losses[number]
        places.append(Place(descent.history[number]["updates"], flatness, bend, fall))
    return places


def met(
    run: Run, descents: Mapping[str, Descent], untrained: nn.Module, training: Digits
) -> None:
    """Prints, writes and measures how many places of each training were at a saddle.

    `untrained` is the network before training, with which all three begin.
    """
    norm_before = gradient_norm(untrained, training)
    rows, counts, measured = [], {}, []
    for name, descent in descents.items():
        places = places_of(descent, norm_before, training, name)
        flat = [place for place in places if place.is_flat]
        saddles = [place for place in places if place.is_saddle]
        counts[name] = len(saddles)
        measured += [{"update_with": name, **asdict(place)} for place in places]
        rows.append([
            name, len(places), f"{min(place.flatness for place in places):.3f}", len(flat),
            sum(place.bend >= A_TENTH for place in flat), len(saddles), when(saddles),
        ])  # fmt: skip
    print_table(
        "Saddles on the way: places where the gradient is below a tenth of that before training "
        "(flat), of these those whose smallest eigenvalue is negative and at least a tenth of the "
        "largest (bent), and of these those after which the loss still falls by a tenth (at a "
        "saddle; several places may be one saddle)",
        ["update with", "places", "least\ngradient", "flat", "bent", "at a\nsaddle", "at updates"],
        rows,
    )
    write_rows(run.file("saddles.csv"), measured)
    full, single, mini = descents
    run.metrics |= {
        "full_saddles": counts[full],
        "single_saddles": counts[single],
        "mini_saddles": counts[mini],
        "more_saddles": counts[single] - counts[full],
    }


def when(saddles: Sequence[Place]) -> str:
    """The first and the last of the saddles: `100–5,000`."""
    if not saddles:
        return "none"
    return f"{saddles[0].updates:,.0f}–{saddles[-1].updates:,.0f}"
