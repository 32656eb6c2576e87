"""The epochs of one training: restored, shown, logged and saved."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from common.checkpoint import (
    CHECKPOINT,
    FORMAT,
    load_checkpoint,
    random_state,
    restore_random_state,
)
from common.errors import UsageError
from common.files import save_tensors
from common.rows import Row, append_row, in_words, write_rows
from common.terminal import progress_bar, say
from common.timing import TimedBatches
from common.training import device_of, diverged, largest_weight

if TYPE_CHECKING:
    from common.runs import Run

CHECKPOINT_SECONDS = 10.0
TOO_LARGE = 1e6  # no loss of these networks is as large while they learn
LOSS_AT_BATCH = "loss_at_batch_"  # and the batch's number: a column of `metrics.csv`
LOCK_SECONDS = 10.0  # how long a worker whose parent was killed may take to end


class Epoch:
    """One epoch: its number from 1, its batches, and the row of numbers that becomes of it."""

    def __init__(self, batches: TimedBatches, lr: float) -> None:
        self.number, self.batches = batches.epoch, batches
        self.row: Row = {"epoch": self.number, "seconds": 0.0, "lr": lr}
        self.shown: Row = {}
        self.losses: dict[int, float] = {}  # of single batches, by their number from 1

    def log(self, **numbers: float) -> None:
        """Notes and shows numbers."""
        self.record(numbers)
        self.shown |= numbers

    def record(self, numbers: Mapping[str, float]) -> None:
        """Notes further numbers of this epoch, which only `metrics.csv` shows."""
        self.row |= numbers

    def log_batch(self, number: int, loss: float) -> None:
        """Notes the loss of a batch (counted from 1), and shows it beside the progress bar."""
        self.losses[number] = self.row[f"{LOSS_AT_BATCH}{number}"] = loss
        self.batches.bar.update(self.batches.bar.task_ids[0], note=f"loss {loss:.3f}")


class Epochs:
    """The epochs of a training from the first that is not done yet; `run.epochs` makes it.

    After each epoch its row is appended to `metrics.csv`; a checkpoint is saved if the last is ten
    seconds old. After the last epoch the weights are saved too. With `run.resume` a checkpoint in
    the folder is continued from; the end is bit-identical to that of an uninterrupted run.
    """

    def __init__(
        self,
        run: Run,
        count: int,
        model: nn.Module,
        optimizer: Optimizer,
        batches: DataLoader[Any],
        scheduler: Any,
        weights: str,
    ) -> None:
        self.run, self.count, self.batches, self.weights = run, count, batches, weights
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.behind = False  # whether `metrics.csv` lacks rows

    def __iter__(self) -> Iterator[Epoch]:
        training = self._train()
        # Also where the loop's body is interrupted. One whose body diverged nobody else holds: it
        # has then ended already, and its progress bar with it.
        self.run.on_end(partial(_end, weakref.ref(training)))
        return training

    def _train(self) -> Generator[Epoch, None, None]:
        # A worker whose parent was killed may still be writing here, for a moment.
        with self.run.run_folder.locked(LOCK_SECONDS):
            yield from self._train_locked()

    def _train_locked(self) -> Generator[Epoch, None, None]:
        run = self.run
        run.history = self._restore() if run.resume else []
        write_rows(run.file("metrics.csv"), run.history)
        saved, done = time.monotonic(), len(run.history)
        left = self.count - done
        if run.listener is None and left:
            epochs = "1 epoch" if left == 1 else f"{left} epochs"
            say(f"Training {run.name} for {epochs} (its training loss: the mean during an epoch)")
        with progress_bar(quiet=run.listener is not None) as bar:
            steps = len(self.batches)
            bar.add_task(run.name, total=self.count * steps, completed=done * steps, note="")
            for number in range(done + 1, self.count + 1):
                batches = TimedBatches(self.batches, bar, number, run.device)
                epoch = Epoch(batches, self.optimizer.param_groups[0]["lr"])
                yield epoch
                self._check(epoch)
                epoch.row["seconds"] = batches.seconds
                run.history.append(epoch.row)
                self._write_row()
                self._show(epoch)
                if number == self.count or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        # The weights are the sign that all is there, after a power failure too: rows that were
        # appended may not be on disk yet.
        write_rows(run.file("metrics.csv"), run.history)
        save_tensors(run.file(self.weights), self.model.state_dict())

    def _write_row(self) -> None:
        """Writes the last row; where another program has the table open (Excel on Windows keeps it
        for itself), it is written later."""
        path = self.run.file("metrics.csv")
        try:
            if self.behind:
                write_rows(path, self.run.history)
            else:
                append_row(path, self.run.history[-1])
            self.behind = False
        except PermissionError:
            if not self.behind and self.run.listener is None:
                say(f"{path} cannot be written now; is it open in another program? Training goes "
                    "on, and the rows are written later.")  # fmt: skip
            self.behind = True

    def _check(self, epoch: Epoch) -> None:
        """Raises Diverged where the loss or a weight is not finite, or a score is NaN."""
        loss, largest = epoch.row.get("train_loss", 0.0), largest_weight(self.model)
        what = [] if math.isfinite(loss) else [f"the loss is {loss}"]
        what += ["weights are no finite numbers"] if not math.isfinite(largest) else []
        what += [f"{name} is NaN" for name, value in epoch.row.items() if math.isnan(value)]
        if what:
            raise diverged(f"epoch {epoch.number}: {what[0]}", self.model, self.optimizer)
        if loss > TOO_LARGE and self.run.listener is None:
            say(f"A loss of {loss:.3g}: training diverges at learning rate {epoch.row['lr']:g} "
                f"(largest weight {largest:.3g}); a lower one helps.")  # fmt: skip

    def _show(self, epoch: Epoch) -> None:
        if self.run.listener is not None:
            self.run.listener(epoch.row)
            return
        if epoch.losses and epoch.batches.bar.disable:  # no bar has shown them
            losses = " ".join(f"{loss:.3f}" for loss in epoch.losses.values())
            print(f"loss every {min(epoch.losses)} batches: {losses}")
        line = f"epoch {epoch.number}/{self.count}  {in_words(epoch.shown)}"
        print(f"{line}  {epoch.row['seconds']:.1f} s", flush=True)

    def _save(self) -> None:
        generator = self.batches.generator
        state = {
            "format": FORMAT,
            "script": self.run.script,
            "history": self.run.history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "loader": generator.get_state() if generator is not None else None,
            "random": random_state(device_of(self.model)),
        }
        save_tensors(self.run.file(CHECKPOINT), state)

    def _restore(self) -> list[Row]:
        path = self.run.folder / CHECKPOINT
        if not path.exists():
            return []
        state = load_checkpoint(path, self.run.script, self.run.is_part)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            if self.batches.generator is not None:
                self.batches.generator.set_state(state["loader"])
            restore_random_state(state["random"], device_of(self.model))
            return [dict(row) for row in state["history"]]
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"{path} does not fit this network: {reason}") from None


def _end(training: weakref.ref[Generator[Any, None, None]]) -> None:
    alive = training()
    if alive is not None:
        alive.close()
