"""Document 2, networks: shapes and counts by hand, the chapter from end to end, wrong options."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor, nn
from torchvision.transforms import Normalize
from torchvision.transforms.functional import normalize

from common.data import LabelledImages
from common.layers import count_multiplications, count_parameters
from mnist_cnn import (
    BRANCHES,
    NETWORKS,
    READERS,
    Inception,
    ResidualBlock,
    basic,
    branch_uses,
    by_channel,
    inception,
    main,
    normalise,
    ways_to_convolve,
)
from reports import mnist_cnn_questions as questions
from reports.mnist_cnn import BY_HAND, CLAIMS, output_shapes
from reports.mnist_cnn_blocks import largest_difference, unequal_shapes, weighted_marks
from reports.mnist_cnn_branches import BRANCH_LAYERS, correlation, gain, most_needed_gain
from reports.mnist_cnn_losses import cross_entropy, cross_entropy_by_hand, distance, wrong_order
from tests.helpers import Call, make_run, numbers, read_summary, run_script

SMALL = ("--limit", 600, "--epochs", 2, "--lr", 0.1)
FIGURES = {"learning_curves", "misclassified", "confusion_matrix"}
OF_EXPLAIN = {"2.1c", "2.1d", "2.1e", "2.1f", "2.1g", "2.5d", "2.8a", "2.8b",
              *(f"2.4{letter}" for letter in "abcdefghi")}  # fmt: skip


def test_parameters_by_hand() -> None:
    def conv(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs

    def block(inputs: int) -> int:
        pool, one = conv(inputs, 24, 1), conv(inputs, 16, 1)
        five = one + conv(16, 24, 5)
        three = one + conv(16, 24, 3) + conv(24, 24, 3)
        return pool + one + five + three

    residual = 2 * conv(16, 16, 3) + 2 * conv(32, 32, 3)
    expected = {
        "basic": conv(1, 10, 5) + conv(10, 20, 5) + 320 * 10 + 10,
        "inception": conv(1, 10, 5) + block(10) + conv(88, 20, 5) + block(20) + 1408 * 10 + 10,
        "residual": conv(1, 16, 5) + conv(16, 32, 5) + residual + 512 * 10 + 10,
    }
    assert {name: count_parameters(network()) for name, network in NETWORKS.items()} == expected


def test_multiplications_by_hand() -> None:
    images = torch.zeros(1, 1, 28, 28)
    by_hand = 24 * 24 * 10 * 25 + 8 * 8 * 20 * 10 * 25 + 320 * 10
    assert count_multiplications(basic(), images) == by_hand


def test_the_document_s_products_are_what_the_layers_multiply() -> None:
    images = torch.zeros(1, 192, 28, 28)
    counted = {name: count_multiplications(way, images) for name, way in ways_to_convolve().items()}
    assert counted == {name: product for name, (_, product) in BY_HAND.items()}
    assert counted == {"direct": 120_422_400, "bottleneck": 12_443_648}
    shapes = {way(images).shape for way in ways_to_convolve().values()}
    assert shapes == {(1, 32, 28, 28)}


def test_the_shapes_in_the_chapter_s_comments() -> None:
    for name, (first, second) in {
        "basic": ((10, 12, 12), (20, 4, 4)),
        "inception": ((88, 12, 12), (88, 4, 4)),
        "residual": ((16, 12, 12), (32, 4, 4)),
    }.items():
        shapes = output_shapes(NETWORKS[name]())
        assert (shapes["block1"], shapes["block2"], shapes["classify"]) == (first, second, (10,))


def test_branches_stand_where_their_slices_say() -> None:
    torch.manual_seed(0)
    block = Inception(10)
    hidden = torch.randn(2, 10, 12, 12)
    together = block(hidden)
    assert together.shape == (2, 88, 12, 12)
    for name, channels in BRANCHES.items():
        assert torch.equal(together[:, channels], block.get_submodule(name)(hidden))
    assert [name for name, _ in block.named_children()] == list(BRANCHES) == list(BRANCH_LAYERS)
    assert list(BRANCHES.values())[-1].stop == 88


def test_a_residual_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 4)
    hidden = torch.randn(2, 4, 6, 6)
    change = block.conv2(torch.relu(block.conv1(hidden)))
    assert torch.equal(block(hidden), torch.relu(hidden + change))
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    same = "with F = 0 the block is the identity, but for ReLU"
    assert torch.equal(block(hidden), torch.relu(hidden)), same


def test_where_the_channels_change_x_is_transformed_or_left_out() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 4, 6, 6)
    for skip in ("transformed", "left out"):
        block = ResidualBlock(4, 8, skip)
        change = block.conv2(torch.relu(block.conv1(hidden)))
        added = block.transform(hidden) if skip == "transformed" else 0
        assert torch.equal(block(hidden), torch.relu(added + change))
        assert block(hidden).shape == (2, 8, 6, 6)
        assert isinstance(block.transform, nn.Conv2d) == (skip == "transformed")


def test_normalising_is_torchvision_s() -> None:
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    theirs = normalize(images.float() / 255, [0.1307], [0.3081])
    assert torch.allclose(normalise(images), theirs, atol=1e-6)


@pytest.mark.parametrize("weight", READERS.values(), ids=READERS)
def test_weights_read_the_channels_that_they_are_said_to_read(weight: str) -> None:
    """Zeroed by channel, they make the network blind to these channels and to no others."""
    torch.manual_seed(0)
    model = inception().to(memory_format=torch.channels_last)
    reader = model.get_submodule(weight.removesuffix(".weight"))
    assert isinstance(reader, nn.Conv2d | nn.Linear)
    by_channel(model.get_parameter(weight))[:, BRANCHES["branch1x1"]] = 0
    assert not reader.weight.all()

    def read(hidden: Tensor) -> Tensor:
        outputs: Tensor = reader(hidden if isinstance(reader, nn.Conv2d) else hidden.flatten(1))
        return outputs

    hidden = torch.rand(2, 88, 12, 12) if isinstance(reader, nn.Conv2d) else torch.rand(2, 88, 4, 4)
    for branch, channels in BRANCHES.items():
        changed = hidden.clone()
        changed[:, channels] += 1
        unmoved = torch.equal(read(changed), read(hidden))
        assert unmoved == (branch == "branch1x1")


def test_what_is_measured_of_each_branch(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    images = torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8)
    test = LabelledImages(images, torch.arange(20) % 10)
    torch.manual_seed(run.seed)
    model = inception()
    weights = {name: by_channel(model.get_parameter(weight)) for name, weight in READERS.items()}
    weights["block 2"][:] = 0
    weights["block 2"][:, BRANCHES["branch1x1"]] = 3
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    uses = branch_uses(run, model, test)
    assert list(uses) == list(READERS)
    assert [list(block) for block in uses.values()] == [list(BRANCHES)] * 2
    assert [gain(use) for use in uses["block 1"].values()] == [0, 0, 0, 0], "untrained"
    assert [use["after"] for use in uses["block 2"].values()] == [0, 3, 0, 0]
    lost = [use["lost"] for use in uses["block 2"].values()]
    assert (lost[0], lost[2], lost[3]) == (0, 0, 0), "the layer reads none of these"
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), "the model stays as it was"


def block(gains: list[float], lost: list[float]) -> dict[str, dict[str, float]]:
    """A block's branches with these gains in weight and these losses of accuracy."""
    pairs = zip(BRANCHES, gains, lost, strict=True)
    return {name: {"before": 1, "after": 1 + gain, "lost": lost} for name, gain, lost in pairs}


def test_rank_correlation_of_a_block() -> None:
    assert correlation(block([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 9])) == pytest.approx(1)
    assert correlation(block([0.1, 0.2, 0.3, 0.4], [9, 3, 2, 1])) == pytest.approx(-1)
    assert correlation(block([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])) == 0


def test_gain_of_the_branch_that_is_needed_most() -> None:
    """Against the mean of the other three, also where another one gains more or all lose."""
    assert most_needed_gain(block([0.1, 0.2, 0.9, 0.6], [1, 2, 3, 9])) == pytest.approx(0.2)
    assert most_needed_gain(block([0.1, 0.2, 0.9, 0.6], [9, 3, 2, 1])) < 0
    assert most_needed_gain(block([-0.1, -0.4, -0.4, -0.4], [9, 3, 2, 1])) == pytest.approx(0.3)
    assert most_needed_gain(block([0.1, 0.2, 0.3, 0.4], [5, 0, 0, 5])) == 0, "none is needed most"


@pytest.fixture(scope="module", params=["basic", "inception"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, named after its network, of a finished run; `out.txt` beside it is its output."""
    folder: Path = tmp_path_factory.mktemp("digits") / request.param
    if request.param == "basic":
        out, run = run_script(folder.parent, "mnist_cnn.py", "--model", "basic", *SMALL)
        run.rename(folder)
    else:
        with redirect_stdout(io.StringIO()) as printed:
            main(["--model", request.param, *map(str, SMALL), "--out-dir", str(folder)])
        out = printed.getvalue()
    (folder.parent / "out.txt").write_text(out, encoding="utf-8")
    return folder


def test_the_chapter_leaves_a_complete_run(finished: Path) -> None:
    branches = {"branches"} if finished.name == "inception" else set()
    assert {path.stem for path in finished.glob("*.png")} == FIGURES | branches
    summary = read_summary(finished)
    assert (summary["script"], summary["document"], summary["seed"]) == ("mnist_cnn.py", 2, 0)
    verdicts = {claim["id"]: claim["verdict"] for claim in summary["claims"]}
    assert list(verdicts) == [claim.id for claim in CLAIMS]
    by_verdict = {
        verdict: {name for name, given in verdicts.items() if given == verdict}
        for verdict in ("reproduced", "not reproduced", "not run")
    }
    assert by_verdict["reproduced"] == {"2.5a", "2.5c", "2.5e", "2.6a", "2.8"}
    assert by_verdict["not reproduced"] == {"2.5b"}
    assert by_verdict["not run"] == {"2.1a", "2.1b", "2.6b", "2.6c"} | OF_EXPLAIN
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {"train_accuracy", "test_loss", "test_accuracy"} <= set(rows[0])
    assert summary["metrics"]["test_accuracy"] == float(rows[-1]["test_accuracy"])
    if finished.name == "basic":
        assert summary["metrics"]["test_accuracy"] > 0.5, "chance is 0.1"
    else:
        assert -1 <= summary["metrics"]["use_and_weight"] <= 1
        assert -1 < summary["metrics"]["most_needed_gain"] < 1
    weights = torch.load(finished / "model.pt", weights_only=True)
    NETWORKS[finished.name]().load_state_dict(weights)


def test_a_run_prints_its_arithmetic_and_ends_with_what_the_learner_came_for(
    finished: Path,
) -> None:
    out = (finished.parent / "out.txt").read_text(encoding="utf-8")
    before, ending = " ".join(out.split()).split("Your network classified")
    assert "2,408,448 + 10,035,200 = 12,443,648" in before
    assert "24 + 16 + 24 + 24 = 88" in before
    assert "What the document states" in before
    assert "of 600 unseen images correctly" in ending
    assert "Open misclassified.png. Next: python mnist_cnn.py --model" in ending


def test_all_side_by_side(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for figures in ("training", "mistakes", "draw_branches"):  # theirs are the other tests'
        monkeypatch.setattr(f"reports.mnist_cnn.{figures}", lambda *_: "")
    options = ("--model", "all", "--limit", 100, "--epochs", 1, "--seeds", "1,2")
    code, out, _ = call(main, *options, "--out-dir", tmp_path)
    assert code == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {f"{name}-seed{seed}" for name in NETWORKS for seed in (1, 2)}
    assert (tmp_path / "comparison.png").exists()
    assert "467,200" in out
    assert "Most accurate, on average over 2 seeds" in " ".join(out.split())
    found = numbers(tmp_path)
    assert -1 <= found["use_and_weight"] <= 1
    assert -1 < found["most_needed_gain"] < 1
    for name in NETWORKS:
        last = []
        for seed in (1, 2):
            with (tmp_path / f"{name}-seed{seed}" / "metrics.csv").open() as file:
                last.append(float(list(csv.DictReader(file))[-1]["test_accuracy"]))
        assert found[f"{name}_test_accuracy"] == statistics.mean(last)


# The document's statements, tried out


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with --explain; `out.txt` beside it is its output."""
    folder: Path = tmp_path_factory.mktemp("explained") / "run"
    with (folder.parent / "out.txt").open("w", encoding="utf-8") as file, redirect_stdout(file):
        main(["--explain", "--limit", "100", "--out-dir", str(folder)])
    return folder


def test_explain_judges_what_the_document_says_of_pytorch(explained: Path) -> None:
    verdicts = {claim["id"]: claim["verdict"] for claim in read_summary(explained)["claims"]}
    assert {name for name, given in verdicts.items() if given == "reproduced"} == OF_EXPLAIN
    assert {name for name, given in verdicts.items() if given == "not reproduced"} == set()
    assert {path.name for path in explained.glob("*.png")} == {"cross_entropy.png"}
    found = numbers(explained)
    assert (found["shared_by_view"], found["shared_with_view"]) == (6, 6)
    assert found["clearing_order_difference"] == 0
    assert 0 < found["wrong_order_for_shares"] < 0.5


def test_explain_prints_its_arithmetic(explained: Path) -> None:
    words = " ".join((explained.parent / "out.txt").read_text(encoding="utf-8").split())
    assert "1 204 0.8000 0.4 0.25 1.6000 1.6000" in words, "(204 ÷ 255 − 0.4) ÷ 0.25"
    assert "[100, 101, 102, 103, 104, 105]: 6 of 6 changed" in words
    assert "Normalize refuses: a PIL image, an ndarray, a tensor of bytes." in words
    assert "wrong 0.8 0.1 0.1 0.90 2.3026 2.3026" in words, "−log 0.1"
    assert "The mean of the squares is 1.4167, nn.MSELoss gives 1.4167." in words
    assert "hidden[0].weight 2×2 4 no" in words
    assert "Collected: 23 of 29 numbers." in words
    assert "Ann 90 60 70 77.0 77.0" in words, "0.5·90 + 0.3·60 + 0.2·70"
    assert "The size of tensor a (16) must match the size of tensor b (32)" in words
    assert "Next: python mnist_cnn.py" in words


def test_cross_entropy_is_entropy_plus_divergence() -> None:
    """Against SciPy's entropy and relative entropy."""
    generator = np.random.default_rng(0)
    expected, *predicted = generator.dirichlet([1.0, 2.0, 3.0], size=6)
    for prediction in predicted:
        theirs = entropy(expected) + entropy(expected, prediction)
        assert cross_entropy_by_hand(expected, prediction) == pytest.approx(theirs)
        ours = cross_entropy(torch.tensor(expected), torch.tensor(prediction)[None])
        assert ours.item() == pytest.approx(theirs)
    assert cross_entropy_by_hand((0, 1), (0.25, 0.75)) == pytest.approx(-np.log(0.75))


def test_pairs_in_the_wrong_order_by_hand() -> None:
    expected = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    # Cross-entropies 0.83, 1.11, 0.89: the second is last, though it is nearest.
    predicted = torch.tensor(
        [[0.6, 0.3, 0.1], [0.7, 0.298, 0.002], [0.5, 0.3, 0.2]], dtype=torch.float64
    )
    assert distance(expected, predicted).tolist() == pytest.approx([0.1, 0.098, 0.2])
    assert wrong_order(expected, predicted) == pytest.approx(2 / 3)
    label = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert wrong_order(label, predicted) == 0


def test_a_parameter_that_is_not_collected_is_counted() -> None:
    assert questions.left_out(basic()) == 0
    assert questions.left_out(questions.Nested()) == 2, "weight and bias of the layer in the list"
    hidden = nn.Module()
    hidden.layers = {"a": [questions.Nested()]}  # type: ignore[assignment]
    assert questions.left_out(hidden) == 6


def test_a_parameter_without_a_gradient_is_counted(tmp_path: Path) -> None:
    class Detached(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self[2](self[1](images).detach())
            return logits

    run = make_run(tmp_path)
    model = Detached(nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2))
    questions.template(run, model, (torch.randn(5, 4), torch.zeros(5, dtype=torch.long)))
    assert run.metrics["without_gradient"] == 4


def test_gradients_add_up_until_they_are_cleared() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    first, second = ((torch.randn(5, 1, 2, 2), torch.arange(5) % 3) for _ in range(2))
    alone = [questions.gradient(model, batch) for batch in (first, second, first)]
    assert torch.equal(alone[0], alone[2]), "cleared before"
    together = questions.gradient(model, second, clear=False)
    assert torch.allclose(together, alone[0] + alone[1])
    assert not torch.allclose(together, alone[1], rtol=0.01)


def copy_instead_of_view(numbers: Tensor, *shape: int) -> Tensor:
    return numbers.clone().reshape(shape)


def accept_anything(_: object, image: object) -> object:
    return image


def add_what_fits(x: Tensor, other: Tensor) -> Tensor:
    return other


def test_statements_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a PyTorch that copies, accepts every image, or adds unequal shapes."""
    run = make_run(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "view", copy_instead_of_view)
        questions.views(run)
    assert (run.metrics["shared_by_view"], run.metrics["shared_with_view"]) == (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Normalize, "forward", accept_anything)
        questions.normalising(run)
    assert run.metrics["normalize_accepts"] == 3
    assert run.metrics["normalize_difference"] > 0.1  # type: ignore[operator]
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__add__", add_what_fits)
        unequal_shapes(run)
    assert run.metrics["unequal_shapes_added"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", lambda layer, hidden: hidden[:, : layer.out_channels])
        weighted_marks(run)
    assert run.metrics["weighted_sum_difference"] > 0.1  # type: ignore[operator]


def test_largest_difference_is_relative() -> None:
    reference = torch.tensor([1.0, -200.0])
    values = reference + torch.tensor([2.0, 1.0])
    assert largest_difference(values, reference) == pytest.approx(2 / 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "vgg"), "choose from"),
        (("--model", "all", "--explain"), "not allowed with argument"),
        (("--seeds", "0,1"), "--seeds belongs to --model all"),
    ],
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
