"""The folder of a run: made once, for one run alone, and what goes wrong with it said in a sentence."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from filelock import BaseFileLock, FileLock, Timeout

from gftzoo.engine import checkpoints
from gftzoo.engine.config import CONFIG_FILE, TrainConfig
from gftzoo.engine.parallel.ranks import any_rank
from gftzoo.errors import GftzooError, UsageError
from gftzoo.group import is_main_process, told_of_lost_ranks

LOCK_FILE = ".lock"
FINAL_PICTURE = "samples/final.png"  # drawn last
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def prepared_folder(
    run: Path, config: TrainConfig, resume: bool, check: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """The main process prepares the folder and keeps it for this run alone; the others wait until it is prepared.

    `check` is called on the main process while nothing is written yet; a GftzooError of it ends every rank.
    """
    problem: GftzooError | None = None
    lock = FileLock(run / LOCK_FILE, timeout=0)  # the system lets go of it when the process ends, however that comes
    try:
        if is_main_process():
            check()
            _make_folder(run, config, resume, lock)
    except GftzooError as error:
        problem = error
    if any_rank(problem is not None):
        lock.release()
        raise problem or GftzooError(f"the main process could not prepare the run folder {str(run)!r}.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def removed_if_not_built(run: Path, resume: bool) -> Iterator[None]:
    """Takes a new run's folder away again where the run cannot be built, so that its name stays free."""
    try:
        yield
    except BaseException:
        if not resume and is_main_process():
            shutil.rmtree(run, ignore_errors=True)
        raise


def _make_folder(run: Path, config: TrainConfig, resume: bool, lock: BaseFileLock) -> None:
    try:
        if not resume:
            _refuse_taken(run)
        run.mkdir(parents=True, exist_ok=True)
        with suppress(NotImplementedError):  # on file systems without locks a run is not guarded
            lock.acquire()
        if not resume:
            _refuse_taken(run)  # another process may have begun and ended it meanwhile
        checkpoints.sweep(run)
        config.write(run)
        (run / "log.txt").touch()
    except Timeout as error:
        raise GftzooError(f"run {str(run)!r} is being trained by another process; stop that one first.") from error
    except OSError as error:
        raise GftzooError(f"run folder {str(run)!r} cannot be written ({error.strerror or error}).") from error


def _refuse_taken(run: Path) -> None:
    if taken(run):
        go_on = f", or go on with --resume {quote(str(run))}" if (run / CONFIG_FILE).is_file() else ""
        raise UsageError(f"run folder {str(run)!r} exists already; give another --name{go_on}.")


def taken(run: Path) -> bool:
    """Whether anything is there but what a start leaves that died before it had written its configuration."""
    if not run.is_dir():
        return run.exists() or run.is_symlink()
    left = (LOCK_FILE, f".{CONFIG_FILE}.")
    return any(not path.name.startswith(left) for path in run.iterdir())


def unused_name(folder: Path, stem: str) -> str:
    """`stem`, or `stem-2`, `stem-3`, ... if there are such runs already."""
    number = 1
    while taken(folder / (name := stem if number == 1 else f"{stem}-{number}")):
        number += 1
    return name


@contextmanager
def plain_failures(run: Path) -> Iterator[None]:
    """A full disk, or the end of another rank, as one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise GftzooError(
            f"the disk of {str(run)!r} is full ({error.strerror}); make room and {_next(run)}."
        ) from error
    except RuntimeError as error:
        with told_of_lost_ranks(_next(run)):
            raise error


def _next(run: Path) -> str:
    if (run / CONFIG_FILE).is_file():
        return f"go on with `gftzoo train --resume {quote(str(run))}`"
    return "start again (nothing was trained yet)"
