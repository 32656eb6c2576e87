"""The ladder of a recipe: its recipes, its trainings, its table; options of recipes."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from common.claims import judge
from common.cli import make_parser
from common.data import LabelledImages
from common.errors import RunError, UsageError
from common.jobs import Job
from common.rows import Row
from common.runs import Run
from recipes import ladder
from recipes import training as recipe_training
from recipes.ladder import as_chosen, climb, everything, parse_recipe, without_each
from recipes.training import one_cycle, save_weights, seconds_of_training, split
from reports import recipes as recipes_report
from reports.ladder import ladder as ladder_report
from tests.helpers import make_run, no_processes
from tests.toy_trainings import Still


@dataclass(frozen=True)
class Recipe:
    epochs: int = 1
    batch_size: int = 100
    lr: float = 0.1
    channels: tuple[int, ...] = (8, 16)
    norm: bool = False


BASE = Recipe()
STEPS: ladder.Steps = {
    "longer": {"epochs": 3},
    "norm": {"norm": True, "lr": 0.5},
    "wider": {"channels": (16, 32), "lr": 0.4},
}


def test_a_ladder_by_hand() -> None:
    complete = Recipe(3, 100, 0.4, (16, 32), True)
    assert everything(BASE, STEPS) == complete
    assert climb(BASE, STEPS) == {
        "document": Recipe(),
        "longer": Recipe(epochs=3),
        "norm": Recipe(epochs=3, lr=0.5, norm=True),
        "wider": complete,
    }
    assert without_each(BASE, STEPS) == {
        "without longer": replace(complete, epochs=1),
        "without norm": replace(complete, norm=False),
        "without wider": replace(complete, lr=0.5, channels=(8, 16)),
    }


def test_what_else_changes_without_a_step() -> None:
    """"wider" chose a rate that fits only with the norm."""
    changed = without_each(BASE, STEPS, {"norm": {"lr": 0.2}})
    assert changed["without norm"] == Recipe(3, 100, 0.2, (16, 32))
    assert changed["without longer"] == without_each(BASE, STEPS)["without longer"]


def test_16_bits_are_no_step_where_numbers_have_32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two equal trainings would pass for a measurement that it gives nothing."""
    run = make_run(tmp_path, epochs=3, seeds=(0,), jobs=1)
    steps: ladder.Steps = {"longer": {"epochs": 3}, "bfloat16": {"norm": True}}
    with no_processes():
        trainings = ladder.run_ladder(run, run.options, train_one, BASE, steps)
        assert list(trainings) == ["document", "longer", "without longer"]
        assert "that step is left out" in " ".join(capsys.readouterr().out.split())
        run.dtype = torch.bfloat16
        trainings = ladder.run_ladder(run, run.options, train_one, BASE, steps)
    assert "without bfloat16" in trainings


def test_a_step_that_a_later_one_undoes_is_named() -> None:
    with pytest.raises(ValueError, match="step 'longer': later steps overwrite"):
        without_each(BASE, {"longer": {"epochs": 3}, "longest": {"epochs": 9}})


def train_one(run: Run, recipe: Recipe) -> None:
    """Stands for a training: no step, and a score that follows from recipe, seed and epoch."""
    batches = DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4, 1)), 2)
    optimizer = cast(Optimizer, Still())
    for epoch in run.epochs(recipe.epochs, nn.Linear(1, 1), optimizer, batches):
        diverges = recipe.channels == (16, 32) and not recipe.norm
        epoch.log(train_loss=math.nan if diverges else 1.0, val_accuracy=score(run.seed, recipe))


def score(seed: int, recipe: Recipe) -> float:
    """The digits are the points: 50%, 10 more for the norm, 1 for the width, 0.1 for a seed."""
    return 0.5 + 0.1 * recipe.norm + 0.01 * (recipe.channels == (16, 32)) + 0.001 * seed


@pytest.fixture(scope="module")
def climbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Run, ladder.Trainings]:
    """A run whose ladder was trained with two seeds."""
    run = make_run(tmp_path_factory.mktemp("ladder"), epochs=2, seeds=(0, 4), jobs=1)
    with no_processes():
        return run, ladder.run_ladder(run, run.options, train_one, BASE, STEPS)


def test_every_recipe_is_trained_with_every_seed(
    climbed: tuple[Run, ladder.Trainings],
) -> None:
    run, trainings = climbed
    assert list(trainings) == [
        "document", "longer", "norm", "wider", "without longer", "without norm", "without wider",
    ]  # fmt: skip
    assert [len(rows) for rows in trainings["norm"].values()] == [2, 2], "2 of 3 --epochs"
    assert [len(rows) for rows in trainings["without longer"].values()] == [1, 1]
    assert dict(trainings["without norm"]) == {0: [], 4: []}, "it diverged"
    assert trainings["wider"][4][-1]["val_accuracy"] == pytest.approx(0.614)
    # Without the last step: the recipe up to the last step but one, so it is trained once.
    assert trainings["without wider"] == trainings["norm"]
    folders = {path.name for path in run.folder.iterdir() if path.is_dir()}
    assert "norm-seed4" in folders
    assert "without-wider-seed4" not in folders
    config = json.loads((run.folder / "norm-seed4" / "config.json").read_text())
    assert config["options"]["epochs"] == 2
    assert not list(run.folder.glob("*/checkpoint.pt"))[1:], "only the diverged may keep theirs"


def test_what_is_finished_is_not_trained_again(
    climbed: tuple[Run, ladder.Trainings], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainings = climbed
    left: list[str] = []

    def note(jobs: Sequence[Job], *_: object) -> dict[str, str]:
        left.extend(job.run.name for job in jobs)
        return {}

    monkeypatch.setattr(ladder, "run_on_all_ranks", note)
    again = ladder.run_ladder(run, run.options, train_one, BASE, STEPS)
    assert again == trainings
    assert left == ["without-norm-seed0", "without-norm-seed4"]


def test_a_failure_is_named_and_does_not_pass_for_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(jobs: Sequence[Job], *_: object) -> dict[str, str]:
        return {jobs[0].run.name: "ValueError: thirteen", jobs[1].run.name: "Diverged: NaN"}

    monkeypatch.setattr(ladder, "run_on_all_ranks", fail)
    run = make_run(tmp_path, epochs=1, seeds=(0,), jobs=1)
    steps: ladder.Steps = {"high": {"lr": 9.0}}
    with pytest.raises(RunError, match=r"ValueError: thirteen; python script\.py --out") as failure:
        ladder.run_ladder(run, run.options, train_one, BASE, steps)
    assert "high" not in str(failure.value)

    def fail_all(jobs: Sequence[Job], *_: object) -> dict[str, str]:
        return {job.run.name: "RunError: no archive" for job in jobs}

    monkeypatch.setattr(ladder, "run_on_all_ranks", fail_all)
    run = make_run(tmp_path / "many", epochs=1, seeds=(0, 1, 2, 3), jobs=1)
    with pytest.raises(RunError) as failure:
        ladder.run_ladder(run, run.options, train_one, BASE, steps)
    assert str(failure.value).count("no archive") == 3
    assert "; and 5 more; python script.py --out-dir" in str(failure.value)


def test_gains_losses_and_seconds_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(share: float, time: float) -> list[Row]:
        return [
            {"epoch": 1, "seconds": time / 2, "val_accuracy": 0.1},
            {"epoch": 2, "seconds": time / 2, "val_accuracy": share},
        ]

    trainings = {
        "document": {0: row(0.80, 10), 1: row(0.82, 14)},
        "longer": {0: row(0.85, 30), 1: row(0.83, 30)},
        "norm": {0: row(0.90, 20), 1: []},
        "without longer": {0: row(0.70, 8), 1: row(0.7, 8)},
        "without norm": {0: row(0.91, 25), 1: row(0.91, 25)},
    }
    run = make_run(tmp_path, jobs=2)
    ending = ladder_report(run, trainings)
    metrics = run.metrics
    assert metrics["ladder_document"] == [0.80, 0.82]
    assert metrics["gain_of_longer"] == pytest.approx([0.05, 0.01])
    assert metrics["gain_of_norm"] == pytest.approx([0.05]), "of the seed that did not diverge"
    assert metrics["change_without_longer"] == pytest.approx([-0.2])
    assert metrics["change_without_norm"] == pytest.approx([0.01])
    assert (metrics["ladder_document_seconds"], metrics["ladder_norm_seconds"]) == (12, 20)
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert lines["document"] == ["81.00", "1.41", "12.0"]
    longer = ["84.00", "1.41", "+3.00", "2.83", "30", "+18.0", "-20.00", "+12.0"]
    assert lines["longer"] == longer
    assert lines["norm"] == ["90.00", "+5.00", "20", "-10.0", "+1.00", "-5.0"]
    assert "left out of the means: norm (1 of 2)." in " ".join(out.split())
    assert ending.startswith("From 81.00% to 90.00%: validation accuracy. ")
    assert "No worse without: norm (5.0 s slower)." in ending
    trainings["without norm"][1] = []
    assert "No worse" not in ladder_report(run, trainings), "no step is useless that prevents that"
    assert (tmp_path / "ladder.png").stat().st_size > 2000
    assert max(len(line) for line in out.splitlines() if "ladder.png" not in line) <= 80


def test_a_sixth_is_held_out_whatever_the_seed() -> None:
    images = LabelledImages(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), torch.arange(60))
    torch.manual_seed(1)
    to_train, to_choose = split(images)
    torch.manual_seed(2)
    assert torch.equal(split(images)[1].labels, to_choose.labels)
    assert (len(to_train), len(to_choose)) == (50, 10)
    assert sorted([*to_train.labels.tolist(), *to_choose.labels.tolist()]) == list(range(60))
    assert to_choose.labels.tolist() != list(range(50, 60)), "not those that come last"


def parsed(*arguments: str) -> argparse.Namespace:
    return parse_recipe(make_parser("docstring"), arguments, everything(BASE, STEPS))


def test_options() -> None:
    options = parsed()
    assert (options.seeds, options.seed, options.epochs, options.lr) == ((0,), 0, 3, 0.4)
    assert (options.precision, options.jobs) == ("auto", torch.get_num_threads())
    tiny = parse_recipe(make_parser(None), [], BASE, precision="fp32")
    assert tiny.precision == "fp32"
    assert parsed("--seed", "3").seeds == (3,)
    assert parsed("--seeds", "3").seed == 3
    assert parsed("--seeds", "3,5").seeds == (3, 5)
    assert parsed("--ladder").seeds == (0, 1, 2, 3, 4)
    assert parsed("--ladder", "--seed", "3").seeds == (3, 4, 5, 6, 7)
    assert parsed().recipe["channels"] == (16, 32)
    assert parsed("--ladder", "--seeds", "1", "--jobs", "7").jobs == 7
    chosen = as_chosen(everything(BASE, STEPS), parsed("--epochs", "9", "--batch-size", "50"))
    assert chosen == Recipe(9, 50, 0.4, (16, 32), True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ladder", "--validate"), "no --validate"),
        (("--ladder", "--lr", "0.3"), "no --batch-size, no --lr"),
        (("--ladder", "--batch-size", "7"), "no --batch-size, no --lr"),
        (("--ladder", "--limit", "5"), "--limit 5: too few .* accepted: 6 or more"),
        (("--validate", "--limit", "5"), "--limit 5: too few .* accepted: 6 or more"),
        (("--jobs", "2"), "--jobs belongs to --ladder"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*arguments)


def test_torchrun_is_for_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    assert parsed("--ladder").ladder
    with pytest.raises(UsageError, match="torchrun shares the trainings of --ladder"):
        parsed()


def test_a_schedule_is_not_resumed_with_other_epochs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"options": {"epochs": 4}}')
    folder = ("--out-dir", str(tmp_path), "--resume")
    with pytest.raises(UsageError, match="--epochs was 4"):
        parsed(*folder, "--epochs", "6")
    assert parsed(*folder).epochs == 4
    (tmp_path / "config.json").write_text('{"options": {}}')  # another script's: said by start_run
    parsed(*folder)


def test_a_run_for_each_seed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one", seeds=(0,))
    assert ladder.each_seed(run, run.options, BASE) == [run]
    run = make_run(tmp_path / "two", seeds=(3, 5))
    runs = ladder.each_seed(run, run.options, BASE)
    assert [one.seed for one in runs] == [3, 5]
    assert [one.folder.name for one in runs] == ["seed3", "seed5"]
    run.history = [{"seconds": 1.5}, {"seconds": 2.0}]
    assert seconds_of_training(run) == 3.5


@pytest.mark.parametrize(("steps", "top"), [(20, 4), (8, 1), (5, 1), (3, 1), (2, 1), (1, 0)])
def test_one_cycle_rises_and_falls_also_in_few_steps(steps: int, top: int) -> None:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5, momentum=0.9)
    schedule = one_cycle(optimizer, steps, 0.25)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates.index(max(rates)) == top
    if steps > 1:
        assert max(rates) == pytest.approx(0.5)
    if steps > 2:
        assert rates[-1] < 1e-4
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    def network(width: int) -> nn.Module:
        convolution = nn.Conv2d(3, width, 3).to(memory_format=torch.channels_last)
        return nn.Sequential(convolution, nn.BatchNorm2d(width))

    saved, loaded = network(4), network(4)
    run = make_run(tmp_path)
    before = {name: value.clone() for name, value in saved.state_dict().items()}
    save_weights(run, saved)
    path = tmp_path / "model.safetensors"
    recipe_training.load_weights(path, loaded)
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
        assert torch.equal(value, before[name].half().to(value.dtype)), f"{name} is rounded"
    numbers = sum(value.numel() for value in before.values())
    assert path.stat().st_size < 2 * numbers + 1000
    with pytest.raises(UsageError, match="not hold the weights of this network"):
        recipe_training.load_weights(path, network(5))
    with pytest.raises(UsageError, match="not hold the weights of this network"):
        recipe_training.load_weights(tmp_path / "config.json", loaded)
    with pytest.raises(UsageError, match="absent cannot be read"):
        recipe_training.load_weights(tmp_path / "absent", loaded)


TARGETS = recipes_report.targets(
    "clothes", "test images classified correctly", at_least_=0.9, stretch=0.95, within=60,
    settings={"epochs": 3}, parameters=100,
)  # fmt: skip


@pytest.mark.parametrize(
    ("share", "time", "parameters", "verdicts"),
    [
        (0.9001, 60.0, 100, ["reproduced", "not reproduced", "reproduced", "reproduced"]),
        (0.8999, 60.1, 101, ["not reproduced"] * 4),
        (0.95, 1.0, 1, ["reproduced"] * 4),
    ],
)
def test_targets_on_both_sides(
    share: float, time: float, parameters: int, verdicts: list[str], tmp_path: Path
) -> None:
    seeds = (0, 1, 2, 3, 4)
    options = {"seeds": seeds, "limit": None, "ladder": False, "validate": False, "epochs": 3}
    run = make_run(tmp_path, **options)
    ending = recipes_report.final(run, [share] * 5, [time] * 5, "test images classified correctly")
    run.metrics["parameters"] = parameters
    assert [one.verdict for one in judge(TARGETS, run.metrics, options)] == verdicts
    assert f"{share:.2%}" in ending
    few = judge(TARGETS, run.metrics, {**options, "seeds": (0, 1)})
    assert [one.verdict for one in few[:3]] == ["not run"] * 3
    assert few[0].reason == "with --seeds 0,1,2,3,4"


def test_seconds_are_judged_on_two_cores_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert recipes_report.judged(run, TARGETS) == list(TARGETS)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [claim.id for claim in recipes_report.judged(run, TARGETS)] == [
        "clothes.1", "clothes.2", "clothes.4"]  # fmt: skip
