"""Text from outside made safe to print: one line or many, without anything that a terminal or rich would obey.

Plugins, registries, data, weights and their readers put names and messages into what is said; all of it passes here.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import unicodedata

import click

LONGEST_LINE = 4000  # characters of what is printed at once as one sentence
LONGEST_NAME = 200  # characters of a name, a cell of a table, or the message of a foreign error
LONGEST_TEXT = 1_000_000  # characters of a text of several lines

_JOINERS = "\u200c\u200d"  # shape emoji and several scripts, and move nothing
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, format (bidirectional marks), surrogates, separators


def plain(what: object, longest: int = LONGEST_LINE) -> str:
    """`what` as one line of printable text; never raises.

    White space becomes a space; control characters, terminal escapes, bidirectional and other invisible marks and lone
    surrogates are shown as in Python (`\\x1b`, `\\u202e`); more than `longest` characters end in `...`.
    """
    text = _text_of(what)[: 4 * longest]  # so that the work is bounded too
    if not text.isprintable():
        text = "".join(map(_shown, " ".join(text.split())))
    return text if len(text) <= longest else text[: longest - 3] + "..."


def plain_lines(what: object, longest: int = LONGEST_TEXT) -> str:
    """As `plain`, with the line ends and the indentation kept."""
    text = _text_of(what)[:longest]
    return "\n".join("".join(map(_shown, line.replace("\t", "    "))) for line in text.split("\n"))


def words(error: BaseException, longest: int = LONGEST_NAME) -> str:
    """A foreign error in words, `ValueError: the first line of its message`, even where it cannot be printed."""
    try:
        kind = plain(type(error).__name__, longest)
    except BaseException:  # a metaclass may throw here
        kind = "an error without a name"
    lines = _text_of(error).strip().splitlines()
    return f"{kind}: {plain(lines[0], longest)}" if lines else kind


def say(text: object, err: bool = False) -> None:
    """Prints lines to standard output, or with `err` to standard error, as `plain_lines` has them."""
    click.echo(plain_lines(text), err=err)


def terminal_width() -> int:
    """How many characters a line may have: of the terminal, or 160 in a pipe or where output is closed."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else 160


def say_json(what: object) -> None:
    """Prints data as JSON, whole however long it is; whatever is not plain ASCII is escaped in it."""
    click.echo(json.dumps(what, indent=1))


class PlainFormatter(logging.Formatter):
    """What is logged, as `plain_lines` has it: names of files and words of their readers stand in it."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record))


def _text_of(what: object) -> str:
    try:
        return str.__str__(what if isinstance(what, str) else str(what))
    except BaseException as error:  # whatever its __str__ throws: what it is asked for is only to be shown
        if isinstance(error, KeyboardInterrupt):
            return "(interrupted)"
        return "(cannot be printed)"


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) not in _OBEYED:
        return character
    return character.encode("unicode_escape").decode("ascii")
