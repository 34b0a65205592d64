"""Files and folders that are there whole or not at all, and a sentence where the disk does not take them.

What is being written lies beside its place under a hidden name that says which process writes it, is flushed and then
renamed. Where that fails nothing is left, no parent folder either; what a killed process left goes with the next write.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gftzoo.errors import GftzooError
from gftzoo.systems import flush, is_running

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES = {
    errno.ENOSPC: "make room there or name another place",
    errno.EDQUOT: "your quota there is used up; make room or name another place",
    errno.EFBIG: "files there may not be as large; name another place",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "you may not write there; name another place",
    errno.EPERM: "you may not write there; name another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "the disk has a fault; name another place",
}
ELSEWHERE = "name another place"
_ONLY_WRITING = (*FULL, errno.EROFS, errno.EIO)
_WRAPPED = re.compile(r"os error (\d+)|code: (\d+)|\[errno (\d+)\]", re.IGNORECASE)
_LEFTOVER = re.compile(r"\.(?P<name>.*)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{6}\.partial")
_HOST = uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()).hex[:8]


class DiskError(GftzooError):
    """A file or folder that could not be written.

    Attributes:
        path: what could not be written.
        number: the system's number of the error.
        reason: the system's words, such as `No space left on device`.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number, self.reason = path, number, os.strerror(number)
        remedy, reason = REMEDIES.get(number, ELSEWHERE), self.reason
        super().__init__(f"{str(path)!r} could not be written ({reason}); {remedy}.")


@contextmanager
def disk_errors(path: Path, *others: Path) -> Iterator[None]:
    """Failures of writing `path` (and `others`, on the way to it) as a DiskError, also such that libraries wrap."""
    try:
        yield
    except DiskError as error:
        if any(place in error.path.parents for place in others):  # a writer inside of this one
            raise DiskError(path, error.number) from error
        raise
    except GftzooError:
        raise
    except Exception as error:
        number = _number(error)
        if number is None or not _is_of(error, number, (path, *others)):
            raise
        raise DiskError(path, number) from error


def _number(error: BaseException) -> int | None:
    """The system's number of an error: its own, or the one that safetensors or Arrow put into their text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _WRAPPED.search(str(error))
    if found is not None:
        return int(next(group for group in found.groups() if group))
    return None if error.__cause__ is None else _number(error.__cause__)


def _is_of(error: BaseException, number: int, places: tuple[Path, ...]) -> bool:
    """Whether an error is one of writing these places, and not of a file that is read meanwhile."""
    name = getattr(error, "filename", None)
    if number in _ONLY_WRITING or not isinstance(name, str | Path):
        return number in REMEDIES
    found = Path(name).absolute()
    return any(
        found == place or place in found.parents or found in place.parents for place in map(Path.absolute, places)
    )


@contextmanager
def written_whole(path: Path, keep: bool = False) -> Iterator[Path]:
    """A place beside `path` to write a file to; flushed and renamed at the end, removed if that does not come.

    With `keep`, what another process has put at `path` meanwhile stays. Folders on the way are made.

    Raises:
        DiskError: the disk is full, read-only or refuses; whatever was at `path` is as it was.
    """
    with _place(path, path.parent) as partial:
        yield partial
        flush(partial)
        if keep:
            _link_unless_there(partial, path)
        else:
            partial.replace(path)
        flush(path.parent)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to write to, which becomes it at the end and is removed if that does not come.

    An empty folder that is there already (it may be a disk of its own) is kept and filled at once, at the end.

    Raises:
        DiskError: the disk is full, read-only or refuses, or something has been put into `folder` meanwhile.
    """
    with disk_errors(folder):
        there = folder.is_dir()
    with _place(folder, folder if there else folder.parent) as partial:
        partial.mkdir()
        yield partial
        for path in [*partial.rglob("*"), partial]:
            flush(path)
        if there:
            _move_up(partial, folder)
        else:
            partial.rename(folder)
            flush(folder.parent)


@contextmanager
def _place(path: Path, parent: Path) -> Iterator[Path]:
    """A hidden name in `parent` of this writer's own; after an error, which is told of `path`, it is removed."""
    name = path.absolute().name[:40]  # a name may be as long as names get
    partial = parent / f".{name}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:6]}.partial"
    with disk_errors(path, partial), made_folders(parent):
        try:
            _sweep(parent, name)
            yield partial
        except BaseException:
            _remove(partial)
            raise


@contextmanager
def made_folders(folder: Path) -> Iterator[None]:
    """Makes a folder and its parents; those that it made and that are empty go again after an error."""
    made: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                with suppress(FileExistsError):  # another process made it meanwhile; a file in its place shows at once
                    path.mkdir()
                    made.append(path)
        yield
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        raise


def _sweep(parent: Path, name: str) -> None:
    """Removes what processes of this machine that are gone left of the same name."""
    for path in parent.glob(".*.partial"):
        found = _LEFTOVER.fullmatch(path.name)
        if found and found["name"] == name and found["host"] == _HOST and not is_running(int(found["pid"])):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _move_up(partial: Path, folder: Path) -> None:
    if not is_free(folder):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    moved: list[Path] = []
    try:
        for path in sorted(partial.iterdir()):
            target = folder / path.name
            path.rename(target)
            moved.append(target)
        partial.rmdir()
        flush(folder)
    except BaseException:
        for path in moved:
            _remove(path)
        raise


def is_free(path: Path) -> bool:
    """Whether a new file or folder may take that name: nothing is there, or an empty folder.

    What writers that were killed left in it does not count. Raises DiskError where that cannot be seen.
    """
    with disk_errors(path):
        if not path.is_dir():
            return not os.path.lexists(path)
        return all(_LEFTOVER.fullmatch(inside.name) for inside in path.iterdir())


def _link_unless_there(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links, where only what is seen beforehand is kept
        if not path.exists():
            partial.replace(path)
    partial.unlink(missing_ok=True)
