"""Where Linux, macOS and Windows differ: what one of them lacks is done in its own way, once for all who need it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

if sys.platform == "win32":
    import _winapi

    import psutil
else:
    import resource

# What asks a process to end; Windows has Ctrl-Break besides, which is what a parent process there can send.
STOPS: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
if hasattr(signal, "SIGBREAK"):
    STOPS = (*STOPS, signal.SIGBREAK)


def on_windows() -> bool:
    """Whether files, links and processes are those of Windows."""
    return sys.platform == "win32"


def processors() -> int:
    """How many processors this process may use, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_of_process() -> int:
    """The most memory that this process has held, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_running(process: int) -> bool:
    """Whether there is a process of that number, of whichever user.

    Signal 0, the usual question, is Ctrl-C on Windows.
    """
    import psutil  # slow to import, and most locks are nobody's

    return bool(psutil.pid_exists(process))


def flush(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk; OSError.

    Windows flushes a file only through a handle that may write, and no folders.
    """
    if on_windows() and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if on_windows() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_folder(link: Path, target: Path) -> None:
    """Makes `link` lead to the folder `target`, in place of another link; OSError.

    A relative `target` is taken from the folder of the link. Windows makes symbolic links for few users, and junctions,
    whose targets are absolute, for all of them; and it does not move one link over another.
    """
    new = link.with_name(f".{link.name}")
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(target, target_is_directory=True)
    except OSError:
        if sys.platform == "win32":
            _winapi.CreateJunction(str((link.parent / target).absolute()), str(new))
        else:
            raise
    if on_windows():
        link.unlink(missing_ok=True)
    new.replace(link)
