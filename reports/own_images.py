"""The learner's own images: what a network answered, each beside what the network saw of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from common.figures import UNSEEN, new_figure, save_figure
from common.image_files import OwnImage
from common.labels import drawable, shortened
from common.runs import Run, in_shell
from common.terminal import print_table, say
from reports.classification import confidence

PAIRS_IN_A_ROW = 3  # the original, and what the network saw
SHOWN = 30  # images in the figure: hundreds would take minutes to draw
LONGEST_NAME = 40  # in the table, in letters


def answers(
    run: Run,
    own: Sequence[OwnImage],
    logits: Tensor,
    names: Sequence[str],
    warnings: Sequence[str] = (),
) -> str:
    """Prints the three likeliest classes for each image and the warnings; returns the ending.

    Saves the first 30 images beside what the network saw, and what it saw of each. `logits`
    N×classes; a warning is "" for an image that is like those the network was trained on. Without
    warnings the images' notes take their place.
    """
    warnings = warnings or [one.note for one in own]
    # float32 rounds 0.99999999 to 1
    likely = logits.double().softmax(1).topk(min(3, len(names)))
    rows, captions = [], []
    for number, one in enumerate(own):
        row = [shortened(one.name, LONGEST_NAME)]
        for label, share in zip(likely.indices[number], likely.values[number], strict=True):
            row += [shortened(names[int(label)], LONGEST_NAME), confidence(float(share))]
        rows.append(row)
        answer = drawable(names[int(likely.indices[number, 0])], 18)
        captions.append(f"read as {answer}, {row[2]}")
        pixels = (one.image[0] * 255).round().byte().numpy()
        Image.fromarray(pixels).save(run.file(f"seen-{number + 1}.png"))
        run.metrics[f"prediction_{number + 1}"] = int(likely.indices[number, 0])
    header = ["image", "first", "", "second", "", "third", ""][: len(rows[0])]
    print_table("The likeliest classes, each with its probability", header, rows)
    for one, warning in zip(own, warnings, strict=True):
        if warning:
            say(f"Doubt the answer to {one.name}: {warning}.")
    answers_figure(own[:SHOWN], captions, warnings, run.file("seen.png"))
    run.metrics["warnings"] = sum(bool(warning) for warning in warnings)
    which = "each of your images" if len(own) <= SHOWN else f"the first {SHOWN} of your images"
    others = "" if len(own) <= SHOWN else f" What it saw of the others: up to seen-{len(own)}.png."
    return f"Open seen.png: {which}, and beside it what the network saw of it.{others}"


def answers_figure(
    own: Sequence[OwnImage], captions: Sequence[str], warnings: Sequence[str], path: Path
) -> None:
    """Saves each image beside its 28×28 pixels, under its name and the answer."""
    across = min(PAIRS_IN_A_ROW, len(own))
    rows = -(-len(own) // across)
    title = "Your image, and what the network saw"
    figure, panels = new_figure(title, rows, 2 * across, width=2.4, height=2.9)
    for panel in panels[2 * len(own) :]:
        panel.set_axis_off()
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
    for number, one in enumerate(own):
        left, right = panels[2 * number : 2 * number + 2]
        left.imshow(one.original.numpy())
        left.set_title(drawable(one.name), fontsize=9)
        right.imshow(one.image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        right.set_title(captions[number], fontsize=9)
        if warnings[number]:
            _doubt(right, warnings[number])
    save_figure(figure, path)


def _doubt(panel: Axes, warning: str) -> None:
    panel.set_xlabel(warning, fontsize=8, color=UNSEEN)
    for spine in panel.spines.values():
        spine.set_color(UNSEEN)
        spine.set_linewidth(2)


def predict_command(run: Run, example: str, weights: Path) -> str:
    """The command that reads an image with this network, which is the newest of a finished run."""
    parts = ["python", run.command, "--predict", example]
    if weights.parent.parent != Path("runs") / Path(run.script).stem:
        parts += ["--weights", str(weights)]
    return in_shell(parts)
