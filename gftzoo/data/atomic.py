"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path, keep: bool = False) -> Iterator[Path]:
    """A place beside `path` to write to; flushed and renamed at the end, removed if that does not come.

    With `keep`, what another process has put at `path` meanwhile stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.partial")  # each writer has its own
    try:
        yield partial
        flush(partial)
        if keep:
            _link_unless_there(partial, path)
        else:
            partial.replace(path)
        flush(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _link_unless_there(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links, where only what is seen beforehand is kept
        if not path.exists():
            partial.replace(path)
    partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
