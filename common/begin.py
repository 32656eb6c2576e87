"""Imported first by every script: what has to be settled before torch is loaded, for seconds.

Ctrl-C is one line from the first moment on, and so is being asked to stop (SIGTERM). Torch's
threads share a busy machine.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.process import parent_process
from pathlib import Path
from types import FrameType, TracebackType

from common.errors import Terminated

# How often a thread looks whether the others are ready, before it lets the processor go (libgomp's
# default is ten times as often). Beside other work an epoch of a small network otherwise takes
# twenty times as long: each thread waits for one that cannot run, because of those that wait.
SPINS = "30000"


def _ask_to_stop(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _one_line(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    word, code = ("stopped", 143) if issubclass(kind, Terminated) else ("interrupted", 130)
    print(f"{Path(sys.argv[0]).name}: {word}", file=sys.stderr, flush=True)
    os._exit(code)  # nothing has been written yet


def share_processors() -> None:
    """Has torch's threads wait less busily, unless the user's environment says how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _end_with(torchrun: int) -> None:
    """Ends this process as soon as torchrun, which started it, is gone, however that ended."""
    while os.getppid() == torchrun:
        time.sleep(0.5)
    os._exit(1)


def prepare_process() -> None:
    """Sets up this process; a worker of another one leaves Ctrl-C to that one."""
    if parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return
    sys.excepthook = _one_line
    signal.signal(signal.SIGTERM, _ask_to_stop)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


share_processors()
prepare_process()
