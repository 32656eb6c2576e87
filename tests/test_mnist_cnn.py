"""Document 2's networks: shapes, counts and skips by hand, the story from end to end, and what a user may get wrong."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import normalize

import mnist_cnn
from common.report import count_multiplications
from mnist_cnn import (
    BRANCHES,
    CLAIMS,
    NETWORKS,
    Inception,
    ResidualBlock,
    accuracy_without,
    inception_blocks,
    main,
    normalise,
    reading_weights,
)
from tests.conftest import Call, numbers, read_summary

SMALL = ("--limit", 600, "--epochs", 2, "--lr", 0.1)


def test_parameters_by_hand() -> None:
    def conv(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs

    def block(c: int) -> int:
        pool, one = conv(c, 24, 1), conv(c, 16, 1)
        return pool + one + (one + conv(16, 24, 5)) + (one + conv(16, 24, 3) + conv(24, 24, 3))

    expected = {
        "basic": conv(1, 10, 5) + conv(10, 20, 5) + 320 * 10 + 10,
        "inception": conv(1, 10, 5) + block(10) + conv(88, 20, 5) + block(20) + 1408 * 10 + 10,
        "residual": conv(1, 16, 5) + 2 * conv(16, 16, 3) + conv(16, 32, 5) + 2 * conv(32, 32, 3) + 512 * 10 + 10,
    }
    assert {name: sum(p.numel() for p in network().parameters()) for name, network in NETWORKS.items()} == expected


def test_multiplications_by_hand() -> None:
    images = torch.zeros(1, 1, 28, 28)
    assert count_multiplications(NETWORKS["basic"](), images) == 24 * 24 * 10 * 25 + 8 * 8 * 20 * 10 * 25 + 320 * 10
    direct = nn.Conv2d(192, 32, 5, padding=2)
    assert count_multiplications(direct, torch.zeros(1, 192, 28, 28)) == 120_422_400
    grouped = nn.Conv2d(4, 8, 3, groups=2)
    assert count_multiplications(grouped, torch.zeros(1, 4, 5, 5)) == 8 * 3 * 3 * (2 * 9)


def test_branches_stand_where_their_slices_say() -> None:
    torch.manual_seed(0)
    block = Inception(10)
    images = torch.randn(2, 10, 12, 12)
    together = block(images)
    assert together.shape == (2, 88, 12, 12)
    for branch, channels in zip(block.branches, BRANCHES.values(), strict=True):
        assert torch.equal(together[:, channels], branch(images))
    assert [*BRANCHES.values()][-1].stop == 88


def test_a_residual_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 4)
    images = torch.randn(2, 4, 6, 6)
    change = block.conv2(torch.relu(block.conv1(images)))
    assert torch.equal(block(images), torch.relu(images + change))
    for convolution in (block.conv1, block.conv2):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    assert torch.equal(block(images), torch.relu(images)), "with F = 0 the block is the identity, but for ReLU"
    changed, left_out = ResidualBlock(4, 8, "transformed"), ResidualBlock(4, 8, "left out")
    assert changed(images).shape == left_out(images).shape == (2, 8, 6, 6)
    assert isinstance(changed.skip, nn.Conv2d)
    assert left_out.skip is None


def test_normalising_is_torchvision_s() -> None:
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.allclose(normalise(images), normalize(images.float() / 255, [0.1307], [0.3081]), atol=1e-6)


def test_weights_are_read_by_branch() -> None:
    network = NETWORKS["inception"]()
    (first, convolution), (second, linear) = inception_blocks(network)
    assert isinstance(first, Inception)
    assert isinstance(second, Inception)
    assert (convolution.weight.shape, linear.weight.shape) == ((20, 88, 5, 5), (10, 1408))
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight.view(10, 88, 4, 4)[:, 24:40] = 3
    assert [reading_weights(linear, channels) for channels in BRANCHES.values()] == [0, 3, 0, 0]
    logits = torch.zeros(1)

    def keep(_: nn.Module, inputs: tuple[torch.Tensor], __: object) -> None:
        nonlocal logits
        logits = inputs[0]

    hook = linear.register_forward_hook(keep)
    accuracy_without(network, second, BRANCHES["1×1"], [(torch.rand(2, 1, 28, 28), torch.zeros(2))], torch.float32)
    hook.remove()
    silenced = logits.view(2, 88, 4, 4)
    assert not silenced[:, 24:40].any()
    assert silenced[:, :24].any()
    assert not second._forward_hooks


@pytest.mark.parametrize("model", ["basic", "inception"])
def test_the_story_leaves_a_complete_run(model: str, tmp_path: Path, call: Call) -> None:
    code, out, _ = call(main, "--model", model, *SMALL, "--out-dir", tmp_path)
    assert code == 0
    figures = {"learning_curves", "confusion_matrix", "errors"} | ({"branches"} if model == "inception" else set())
    assert {path.stem for path in tmp_path.glob("*.png")} == figures
    summary = read_summary(tmp_path)
    assert (summary["script"], summary["document"]) == ("mnist_cnn.py", 2)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert [*verdicts] == [claim.id for claim in CLAIMS]
    reproduced = {"2.1c", "2.5a", "2.6a", "2.8"}
    assert {claim for claim, verdict in verdicts.items() if verdict == "reproduced"} == reproduced
    assert {claim for claim, verdict in verdicts.items() if verdict == "not reproduced"} == {"2.5b", "2.5c"}
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert "12,443,648" in out
    assert "24 + 16 + 24 + 24 = 88" in out
    if model == "basic":
        assert summary["metrics"]["test_accuracy"] > 0.5, "chance is 0.1"
    else:
        assert -1 <= summary["metrics"]["use_and_weight"] <= 1


def test_all_side_by_side(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_cnn, "report_network", lambda *_: None)  # its figures are the other test's
    code, out, _ = call(main, "--model", "all", "--limit", 100, "--epochs", 1, "--seeds", "1,2", "--out-dir", tmp_path)
    assert code == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {f"{name}-seed{seed}" for name in NETWORKS for seed in (1, 2)}
    assert (tmp_path / "comparison.png").exists()
    assert "467,200" in out
    assert -1 <= numbers(tmp_path)["use_and_weight"] <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--model", "vgg"), "choose from"), (("--seeds", "0,1"), "--seeds belongs to --model all")],
)
def test_a_value_that_cannot_work_ends_in_one_line(
    arguments: tuple[object, ...], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(main, *arguments)


@pytest.mark.full
def test_the_course_s_run(tmp_path: Path, call: Call) -> None:
    code, _, _ = call(main, "--out-dir", tmp_path)
    assert code == 0
    assert numbers(tmp_path)["test_accuracy"] > 0.98
