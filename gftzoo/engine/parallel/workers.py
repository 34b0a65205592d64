"""Processes that load data: a signal to the job does not end them, the end of the main process does."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from gftzoo.systems import STOPS, on_windows

_started: set[Any] = set()


@contextmanager
def loading(dataloader: DataLoader[Any]) -> Iterator[Iterator[Any]]:
    """The batches of a loader, whose processes end with the block."""
    others = set(multiprocessing.active_children())
    batches = iter(dataloader)
    _started.update(set(multiprocessing.active_children()) - others)
    try:
        yield batches
    finally:
        # Not left to the garbage collector: it closes the queues first, by which the processes would hear that they
        # should end, and then waits ten seconds for each, in the middle of whatever this process does by then.
        shut_down = getattr(batches, "_shutdown_workers", None)  # with processes
        if shut_down is not None:
            shut_down()


def deaf_to_signals(_worker: int) -> None:
    """A signal to the whole job is for the main process, which still needs its workers until it has saved."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def end_workers() -> None:
    """Kills those that are left, before multiprocessing waits for them: they would not hear that they should end."""
    left = _started & set(multiprocessing.active_children())
    if left and not on_windows():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises when a loading process is killed
    for child in left:
        child.kill()
