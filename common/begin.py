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
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import current_process
from pathlib import Path
from types import FrameType

from common.errors import Terminated

# How often a thread looks whether the others are ready, before it lets the processor go (libgomp's
# default is a hundred times as often). In two scripts at once on two cores a thread often waits for
# one that cannot run, because of those that wait. An epoch of mnist_cnn.py, 8 seconds alone, took
# 19 beside another one, with ten times as many looks 60; alone those save a sixth of the time.
SPINS = "3000"
PROJECT = Path(__file__).resolve().parent.parent


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process while modules are loaded: nothing has been written yet, and an exception
    may arise where C++ code is waiting for Python, which then aborts with pages of its own."""
    word, code = ("stopped", 143) if number == signal.SIGTERM else ("interrupted", 130)
    os.write(2, f"{Path(sys.argv[0]).name}: {word}\n".encode())
    os._exit(code)


def _ask_to_stop(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, in a script, Ctrl-C raises KeyboardInterrupt and SIGTERM Terminated; after it
    only what the process has to say is left, and they are ignored."""
    if signal.getsignal(signal.SIGTERM) is not _leave:
        yield  # as part of another program, such as a test
        return
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait, and a process that is started there never gets Ctrl-C (but
    on Windows): half started, or while it imports torch, it would end with a traceback."""
    arrived: list[int] = []
    handlers = {number: signal.signal(number, lambda got, _: arrived.append(got))
                for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def share_processors() -> None:
    """Has torch's threads wait less busily (those of libgomp, on Linux), unless the user's
    environment says how they wait.

    NumPy and SciPy get one thread, which is enough for what they do here: theirs wait busily too.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _end_with(parent: int) -> None:
    """Ends this process as soon as torchrun, which started it, is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def prepare_process() -> None:
    """Sets up this process; a worker of another one leaves Ctrl-C to that one."""
    if current_process().name != "MainProcess":  # known before a worker imports the script
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script and Path(script).resolve().parent in (PROJECT, PROJECT / "recipes"):
        signal.signal(signal.SIGTERM, _leave)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # it is in the background
            signal.signal(signal.SIGINT, _leave)


share_processors()
prepare_process()
