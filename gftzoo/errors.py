"""Errors a user can cause. Each carries one sentence; the command line prints it without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_COMPARED = 100  # characters: the time of a comparison grows with the square


class GftzooError(Exception):
    """Something the user can mend: what was wrong, the value, what is valid, the next command."""

    exit_code = 1


class UsageError(GftzooError):
    """A command or call that cannot be meant as written."""

    exit_code = 2


class PluginError(GftzooError):
    """A plugin is missing, broken or breaks the contract; the message names plugin and distribution."""

    exit_code = 3


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'dit-xl'?` when a valid name lies near, otherwise the empty string."""
    if len(name) > LONGEST_COMPARED:
        return ""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
