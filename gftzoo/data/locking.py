"""What one process does while others that need the same wait for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger("gftzoo.data")


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[bool]:
    """Waits for other processes, where the folder can be written and its file system has locks; whether it had to."""
    held, waited = FileLock(lock), False
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(blocking=False)
        except Timeout:
            waited = True
            held.acquire()
    except (OSError, NotImplementedError):  # not of some network folders: each process works for itself
        _log.debug("%s cannot be locked", lock)
    try:
        yield waited
    finally:
        if held.is_locked:
            with suppress(OSError):  # Windows takes it away by itself, when nobody holds it
                lock.unlink(missing_ok=True)
        held.release()
