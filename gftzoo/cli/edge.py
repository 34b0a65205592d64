"""The edge of the command line: whatever goes wrong inside leaves as one sentence, safe to print, and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress

import click

from gftzoo.contract.hookspecs import PROJECT
from gftzoo.errors import GftzooError
from gftzoo.plugins.discovery import Plugin, installed_plugins
from gftzoo.printing import LONGEST_NAME, PlainFormatter, plain, words

DONE, FAILED, MISUSED, PLUGIN_FAILED = 0, 1, 2, 3  # exit codes
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")  # torch's words
AGAIN = "run again with --debug for the traceback"


def prepare_streams() -> None:
    """What a terminal cannot show, or would obey, is escaped; a warning is one line without a path."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, or a stream of another kind
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if logging.lastResort is not None:  # what nobody handles, which is everything outside of a run
        logging.lastResort.setFormatter(PlainFormatter())
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {plain(message)}\n"


def report(error: BaseException) -> int:
    """Prints an error as one sentence and returns the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of a pipe went away
        return DONE
    code, sentence = sentence_of(error)
    click.echo(plain(sentence), err=True)
    return code


def sentence_of(error: BaseException) -> tuple[int, str]:
    """The exit code of an error and what is said of it; "unexpected" is left for what nobody thought of."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return FAILED, "Stopped."
    if isinstance(error, click.ClickException):
        return MISUSED, f"Error: {error.format_message()}"
    said = _said_below(error)
    if said is not None:
        return said.exit_code, f"Error: {said}"
    cause = _of_the_machine(error)
    if cause is not None:
        return FAILED, f"Error: {cause}."
    plugin = culprit(error)
    if plugin is not None:
        return PLUGIN_FAILED, (
            f"Error: plugin {plugin.label} failed ({words(error)}); {AGAIN}, "
            f"or set GFTZOO_BLOCK={plugin.name} to go on without it."
        )
    return FAILED, f"Error: unexpected {words(error)}; {AGAIN}."


def _said_below(error: BaseException | None) -> GftzooError | None:
    """The error itself or what it came from, if that is a sentence: libraries that import late wrap what ends them."""
    while error is not None and not isinstance(error, GftzooError):
        error = error.__cause__
    return error


def _of_the_machine(error: BaseException) -> str | None:
    """What the disk, the memory or the encoding of text said, in words."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _speaks_of_memory(error)):
        return "the memory does not suffice; ask for fewer or smaller things at once, e.g. with a smaller batch size"
    if isinstance(error, RecursionError):
        return f"something is nested too deep to be read; {AGAIN}"
    if isinstance(error, UnicodeEncodeError):
        part = error.object[max(error.start - 20, 0) : error.end + 20]
        return f"the text {plain(part, LONGEST_NAME)!r} holds characters that {error.encoding} has not"
    if isinstance(error, UnicodeDecodeError):
        return f"what was read is not {error.encoding} text (byte {error.start:,}); {AGAIN}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fspath(error.filename)!r}: " if isinstance(error.filename, str | os.PathLike) else ""
        return f"{place}{error.strerror[:1].lower()}{error.strerror[1:]}"
    return None


def _speaks_of_memory(error: RuntimeError) -> bool:
    message = plain(error, LONGEST_NAME * 5).lower()
    return any(sign in message for sign in _MEMORY)


def culprit(error: BaseException) -> Plugin | None:
    """The plugin whose code threw; None where it was the zoo's, or a library that the zoo called."""
    others = [plugin for plugin in reversed(installed_plugins()) if plugin.distribution != PROJECT]
    roots = {p.entry.value.partition(":")[0].partition(".")[0]: p for p in others}
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root == "gftzoo" or root in roots:
            found = roots.get(root)
    return found
