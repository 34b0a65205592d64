"""Foreign code at arm's length: whatever it throws is one error, whatever it prints is collected.

What this cannot help: a plugin is code that runs in this process. One that calls `os._exit`, never returns, or changes
other modules on purpose does so; `GFTZOO_BLOCK=NAME` keeps it from being imported at all.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeVar

from gftzoo.errors import GftzooError
from gftzoo.printing import LONGEST_NAME, plain, say, words

Result = TypeVar("Result")
MOST_PRINTED = 10_000  # characters that are kept of what foreign code prints


class ForeignError(GftzooError):
    """Foreign code threw; the message is the error in words, `ValueError: why`, safe to print."""


def attempt(call: Callable[[], Result]) -> Result:
    """What `call` returns. ForeignError for whatever it throws; errors of this package and the user's Ctrl-C pass.

    SystemExit, a KeyboardInterrupt of its own making and other BaseExceptions are thrown things like any other.
    """
    with _interrupts() as interrupted:
        try:
            return call()
        except GftzooError:
            raise
        except BaseException as error:
            if interrupted():
                raise KeyboardInterrupt from None
            raise ForeignError(words(error)) from error


def guarded(call: Callable[[], Result], who: str) -> Result:
    """As `attempt`, for code that runs for the first time.

    What it prints is said afterwards on standard error, in one line that begins with `who`; working folder, recursion
    limit and the filters of warnings are put back.
    """
    limit, folder = sys.getrecursionlimit(), _working_folder()
    printed: list[str] = []
    try:
        with _collected(printed), warnings.catch_warnings():
            return attempt(call)
    finally:
        sys.setrecursionlimit(limit)
        if folder is not None and _working_folder() != folder:
            with suppress(OSError):
                os.chdir(folder)
        noise = plain("".join(printed), LONGEST_NAME).strip()
        if noise:
            say(f"{who} printed: {noise}", err=True)


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it has been removed
        return None


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Tells whether the user pressed Ctrl-C since; a plugin may raise KeyboardInterrupt too."""
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False  # no handler can be set here, and none raises KeyboardInterrupt
        return

    def note(number: int, frame: FrameType | None) -> Any:
        seen.append(number)
        return before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


class _Collector:
    """In the place of a stream: keeps what is written, and is the stream itself once `done`.

    Loggers made meanwhile hold on to it, so it must go on to work, and cannot be closed.
    """

    def __init__(self, stream: Any, kept: list[str]) -> None:
        self._stream, self._kept, self._done = stream, kept, False

    def write(self, text: str) -> int:
        if self._done:
            return int(self._stream.write(text))
        if sum(map(len, self._kept)) < MOST_PRINTED:
            self._kept.append(str(text)[:MOST_PRINTED])
        return len(text)

    def close(self) -> None:
        """Nothing: the stream is not the plugin's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _collected(printed: list[str]) -> Iterator[None]:
    """Collects what is written to standard output and error, by Python or past it."""
    streams = sys.stdout, sys.stderr
    collectors = [_Collector(stream, printed) for stream in streams]
    with tempfile.TemporaryFile() as file, _descriptors(file):
        sys.stdout, sys.stderr = collectors
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for collector in collectors:
                collector._done = True
            _flush()
            file.seek(0)
            printed.append(file.read(MOST_PRINTED).decode("utf-8", "replace"))


@contextmanager
def _descriptors(file: BinaryIO) -> Iterator[None]:
    """Descriptors 1 and 2 lead into the file, for extensions and programs that a plugin starts."""
    _flush()
    saved: list[tuple[int, int]] = []
    for number in (1, 2):
        with suppress(OSError):  # it is closed
            saved.append((number, os.dup(number)))
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, closed, or a pipe without a reader
            stream.flush()
