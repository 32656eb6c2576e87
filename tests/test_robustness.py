"""Interruptions, outputs that cannot take everything, trainings that diverge: one line each."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TextIO

import pytest
import torch
from torch import nn

import mnist_cnn
from common.cli import PROJECT, guarded, make_parser
from common.data import InMemoryDataset, make_loader
from common.errors import Diverged, Terminated, UsageError
from common.given_files import say_left_out
from common.runs import Run, in_shell
from common.terminal import IN_ASCII, say, track
from common.training import train_one_epoch
from tests.helpers import Call, make_run

SCRIPT = PROJECT / "mnist_cnn.py"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("asked", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped")],
)
@pytest.mark.parametrize("module", ["common.begin", "torch.nn.modules.module"])
def test_ctrl_c_while_torch_is_loaded(
    module: str, asked: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(  # Python says on standard error what it has imported
        [sys.executable, "-X", "importtime", SCRIPT, "--limit", "100"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Ctrl-C may be ignored where the tests run in the background; a child would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(f" {module}\n"):
            break
    process.send_signal(asked)
    out, err = process.communicate(timeout=30)
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, out, said) == (code, "", [f"mnist_cnn.py: {word}"])


RANK = "import common.begin, time; print('ready', flush=True); time.sleep(60)"
TORCHRUN = f"""
import subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", {RANK!r}], start_new_session=True)
print(rank.pid, flush=True)
rank.wait()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc for another process")
def test_a_rank_ends_with_a_torchrun_that_was_killed() -> None:
    """torchrun gives its processes a session of their own: nothing else would end them."""
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "1", "PYTHONPATH": str(PROJECT)}
    torchrun = subprocess.Popen(
        [sys.executable, "-c", TORCHRUN], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert torchrun.stdout is not None
    said = sorted(torchrun.stdout.readline().strip() for _ in range(2))
    assert said[1] == "ready"
    torchrun.kill()
    torchrun.communicate(timeout=30)  # until the rank has closed its output, which is this one
    rank = Path("/proc") / said[0] / "stat"
    limit = time.monotonic() + 10
    while rank.exists() and ") Z" not in rank.read_text():
        assert time.monotonic() < limit, "it outlives torchrun"
        time.sleep(0.02)


def test_being_asked_to_stop_prints_the_command_that_continues(
    tmp_path: Path, call: Call
) -> None:
    @guarded
    def main(argv: object = None) -> None:
        with make_run(tmp_path / "run"):
            raise Terminated

    code, _, err = call(main)
    assert code == 143
    assert err.endswith(f"stopped; continue with: python script.py --out-dir {tmp_path / 'run'} "
                        "--resume\n")  # fmt: skip


def test_an_output_without_a_character_shows_it_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    @guarded
    def main(argv: object = None) -> None:
        print("60,000 × 28 → 10: −0.5 points, 数")
        make_parser("784→10").print_help()

    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    main()
    assert content.getvalue().startswith(b"60,000 x 28 -> 10: -0.5 points, ?\n")
    assert b"784->10" in content.getvalue()


def test_every_character_of_the_project_has_one_in_cp1252_or_ascii() -> None:
    """But for Chinese, and what stands in comments only."""
    files = [*PROJECT.glob("*.py"), *PROJECT.glob("[!.]*/*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.parent.name != "tests"]
    used = {character for text in texts for character in text if not "一" <= character <= "龥"}
    lost = {one for one in used if not one.encode("cp1252", "ignore") and one not in IN_ASCII}
    assert lost == set("‛")


def test_what_a_name_holds_does_not_reach_the_terminal(call: Call) -> None:
    @guarded
    def main(argv: object = None) -> None:
        say_left_out(["\x1b[2J\nfile.png is no image"])
        raise UsageError("\x1b[31mred\nfile.png is no image")

    code, out, err = call(main)
    assert (code, out) == (2, "Left out: ?[2J?file.png is no image.\n")
    assert err == "test_robustness.py: error: ?[31mred file.png is no image\n"


def test_the_spaces_of_a_folder_s_name_stay_in_the_command(call: Call) -> None:
    @guarded
    def main(argv: object = None) -> None:
        raise KeyboardInterrupt("; continue with: --out-dir 'my  run　two'")

    code, _, err = call(main)
    assert code == 130
    assert err.endswith(": --out-dir 'my  run　two'\n")


def test_a_terminal_without_a_width_and_names_with_brackets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("TERM", "xterm")
    output, bar = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", bar)
    say("A sentence.")
    assert output.getvalue() == "A sentence.\n"
    assert list(track([1, 2], "images of photos [/] [old]")) == [1, 2]
    assert "photos [/] [old]" in bar.getvalue()


def lines_to(output: TextIO | None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What of a main that prints a line three times is done where its output is this one."""
    done = []

    @guarded
    def main(argv: object = None) -> None:
        for number in range(3):
            print("a line", flush=number > 0)
            done.append(number)

    monkeypatch.setattr(sys, "stdout", output)
    main()
    return done


def test_a_reader_who_leaves_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        assert lines_to(output, monkeypatch) == [0, 1, 2]


def test_on_windows_such_a_pipe_is_an_invalid_argument(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Pipe(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    with (tmp_path / "file").open("wb") as file:
        pipe = Pipe(file.raw, encoding="utf-8")
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            lines_to(pipe, patch)
        with monkeypatch.context() as patch:
            patch.setattr("common.terminal.WINDOWS", True)
            assert lines_to(pipe, patch) == [0, 1, 2]


def test_without_any_output_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `>&-`, or without a console on Windows."""
    assert lines_to(None, monkeypatch) == [0, 1, 2]


@pytest.mark.skipif(os.name == "nt", reason="the shell is another")
@pytest.mark.parametrize(("end", "code"), [("| true", 0), (">&-", 0), ("> /dev/full", 1)])
def test_python_has_nothing_to_complain_of_at_its_end(end: str, code: int) -> None:
    """It would flush the output then: two lines, and exit code 120."""
    if "/dev/full" in end and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    source = """if True:
        from common.terminal import patient_output
        try:
            with patient_output():
                print("a line")
        except OSError as error:  # as `guarded` has it
            raise SystemExit(1)
    """
    command = f"set -o pipefail; {shlex.join([sys.executable, '-c', source])} {end}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")


def test_a_command_is_written_for_the_shell_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["line_regression.py", "--out-dir", "my runs/a"]
    assert in_shell(parts) == "line_regression.py --out-dir 'my runs/a'"
    monkeypatch.setattr("common.runs.WINDOWS", True)
    assert in_shell(parts) == 'line_regression.py --out-dir "my runs/a"'
    awkward = [r"C:\O'Neill", r"C:\Zoë\a", "a&b", "a;b", "(1)", "0,1", "$x", "it's $x", ""]
    assert in_shell(awkward) == (
        r""" "C:\O'Neill" C:\Zoë\a "a&b" "a;b" "(1)" "0,1" '$x' 'it''s $x' "" """.strip()
    )


def train(run: Run, lr: float, batches: int = 3, scale: float = 1.0) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    dataset = InMemoryDataset(torch.full((batches, 2), scale), torch.zeros(batches, 1))
    loader = make_loader(dataset, 1)
    for epoch in run.epochs(1, model, optimizer, loader):
        loss = train_one_epoch(model, epoch.batches, nn.MSELoss(), optimizer)
        epoch.log(train_loss=loss)


def test_a_loss_that_is_no_number_names_step_rate_and_weight(tmp_path: Path) -> None:
    with make_run(tmp_path) as run, pytest.raises(Diverged) as caught:
        train(run, 1e20)
    said = str(caught.value)
    assert "epoch 1, step 2: the loss is inf (learning rate 1e+20, largest weight" in said
    assert said.endswith("a lower learning rate helps")


def test_weights_that_are_no_numbers_after_the_last_step_are_noticed(tmp_path: Path) -> None:
    with make_run(tmp_path) as run, pytest.raises(Diverged, match="epoch 1: weights are no finite"):
        train(run, 3e38, batches=1, scale=100.0)
    assert not (tmp_path / "model.pt").exists()


def test_a_huge_loss_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with make_run(tmp_path) as run:
        train(run, 1000)
    out = " ".join(capsys.readouterr().out.split())
    assert "training diverges at learning rate 1000 (largest weight" in out


@pytest.mark.parametrize("given", [True, False])
def test_a_start_that_fails_leaves_nothing(
    given: bool, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "MNIST").mkdir(parents=True)
    monkeypatch.setattr("common.archives._try_download", lambda *_: None)
    options = ("--data-dir", "data", *(("--out-dir", "a/b") if given else ()))
    code, _, err = call(mnist_cnn.main, *options)
    assert code == 1
    assert "no mirror gave it" in err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
