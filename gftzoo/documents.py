"""YAML and JSON from outside: read within bounds, before anything is expanded, and refused in one sentence.

What comes back holds nothing but null, booleans, numbers, text, lists and mappings. No torch here.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import LONGEST_NAME, plain, words


@dataclass(frozen=True)
class Limits:
    """How large a document may be; each is a refusal before memory is taken."""

    bytes: int = 16 * 2**20  # of the file
    depth: int = 64  # lists and mappings inside each other
    nodes: int = 1_000_000  # values in all, those that a YAML alias repeats counted every time


YAML = Limits(bytes=4 * 2**20, nodes=100_000)  # registry.yaml, config.yaml
JSON = Limits()  # card.json, state.json, manifest.json
VALUE = Limits(bytes=2**16, depth=16, nodes=10_000)  # one value on the command line, or a line of jsonl
LARGEST_INTEGER = 2**128  # states of random generators have 128 bits
LONGEST_SCALAR = 2**16  # characters of a YAML scalar that is not quoted; numbers in base 60 take quadratic time

_OWN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


class DocumentError(GftzooError):
    """A file that is missing, too large, not text, or not what it should be; the message names it and the cause."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(f"{where} cannot be read: {cause}.")
        self.cause = cause


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C starts ten times faster
    """A safe loader to which a date is text, as it is to people who write `name: 2024-01-01`."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _OWN_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path, most: int = JSON.bytes) -> str:
    """The text of a regular file of at most `most` bytes; DocumentError names the file and the cause."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise _refused(path, "it is not a file")
        if status.st_size > most:
            raise _refused(path, f"it has {status.st_size:,} bytes, more than {most:,}")
        with path.open("rb") as file:
            content = file.read(min(most, status.st_size) + 1)  # which is allocated before it is read
    except OSError as error:
        raise _refused(path, (error.strerror or words(error)).lower()) from error
    except ValueError as error:  # a name with a NUL
        raise _refused(path, str(error)) from error
    if len(content) > most:
        raise _refused(path, f"it has more than {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(path, f"it is not UTF-8 text (byte {error.start:,})") from error


def read_yaml(path: Path, limits: Limits = YAML) -> Any:
    """What a YAML file holds; DocumentError names the file and the cause."""
    return parse_yaml(read_text(path, limits.bytes), repr(str(path)), limits)


def read_json(path: Path, limits: Limits = JSON) -> Any:
    """What a JSON file holds; DocumentError names the file and the cause."""
    return parse_json(read_text(path, limits.bytes), repr(str(path)), limits)


def parse_yaml(text: str, where: str, limits: Limits = YAML) -> Any:
    """What a YAML text holds; DocumentError says `where` it stands and the cause.

    Its size, depth and aliases are measured on the parser's events, so that an alias bomb is never expanded.
    """
    try:
        _measure(text, limits)
        found = yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
        _check_values(found, limits)
    except Exception as error:  # the library's constructors raise many types, KeyError and IndexError among them
        raise _refused(where, _cause(error, "YAML")) from error
    return found


def parse_json(text: str, where: str, limits: Limits = JSON) -> Any:
    """What a JSON text holds; DocumentError says `where` it stands and the cause."""
    try:
        _check_length(text, limits)
        found = json.loads(text)
        _check_values(found, limits)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _refused(where, _cause(error, "JSON")) from error
    return found


def parse_value(text: str, where: str) -> Any:
    """A value given on the command line, read as YAML; UsageError says `where` it stands and the cause."""
    try:
        return parse_yaml(text, where, VALUE)
    except DocumentError as error:
        raise UsageError(str(error)) from error


class _LimitError(ValueError):
    """A limit is passed; the message says which."""


def _measure(text: str, limits: Limits) -> None:
    """Walks through a YAML text without building it; raises _LimitError where it passes a limit."""
    _check_length(text, limits)
    walk = _Walk()
    for event in yaml.parse(text, _Loader):
        walk.take(event)
        if len(walk.open) > limits.depth:
            raise _LimitError(f"it nests deeper than {limits.depth} levels")
        if walk.count > limits.nodes:
            raise _LimitError(f"it holds more than {limits.nodes:,} values, aliases counted as what they repeat")


class _Walk:
    """Counts the values that a YAML text stands for, aliases as what they repeat."""

    def __init__(self) -> None:
        self.count = 0
        self.open: list[tuple[str | None, int]] = []  # the lists and mappings around: anchor, and the count before
        self.sizes: dict[str | None, int] = {}  # of the finished anchors

    def take(self, event: yaml.Event) -> None:
        """Takes note of the parser's next event."""
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self.open.pop()
            if anchor is not None:
                self.sizes[anchor] = self.count - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in self.open):
                raise _LimitError(f"the alias {plain(event.anchor, LONGEST_NAME)!r} stands inside of what it repeats")
            self.count += self.sizes.get(event.anchor, 1)  # one that is not known is refused by the loader
        elif isinstance(event, yaml.NodeEvent):
            _check_node(event)
            if isinstance(event, yaml.CollectionStartEvent):
                self.open.append((event.anchor, self.count))
            elif event.anchor is not None:
                self.sizes[event.anchor] = 1
            self.count += 1


def _check_length(text: str, limits: Limits) -> None:
    if len(text) > limits.bytes:
        raise _LimitError(f"it has more than {limits.bytes:,} characters")


def _check_node(event: yaml.NodeEvent) -> None:
    tag = getattr(event, "tag", None)
    if tag is not None and tag != "!" and tag not in _OWN_TAGS:
        raise _LimitError(f"it has a value with the tag {plain(tag, LONGEST_NAME)!r}, and tags are not read")
    if isinstance(event, yaml.ScalarEvent) and not event.style and len(event.value) > LONGEST_SCALAR:
        raise _LimitError(f"it has a plain value of more than {LONGEST_SCALAR:,} characters")


def _check_values(found: Any, limits: Limits) -> None:
    """Raises _LimitError for depth, number of values and integers past the limits; walks without recursion."""
    level, count = [found], 0
    for depth in range(limits.depth + 2):
        count += len(level)
        if count > limits.nodes + 1:
            raise _LimitError(f"it holds more than {limits.nodes:,} values")
        for value in level:
            if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
                raise _LimitError("it holds an integer of more than 128 bits")
        inside = [value for value in level if isinstance(value, dict | list)]
        if not inside:
            return
        if depth >= limits.depth:
            raise _LimitError(f"it nests deeper than {limits.depth} levels")
        level = [item for value in inside for item in (value.values() if isinstance(value, dict) else value)]


def _cause(error: Exception, form: str) -> str:
    if isinstance(error, _LimitError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it nests too deep"
    if isinstance(error, MemoryError):
        return "it is too large for the memory"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "msg", None) or str(error)
    line = getattr(error, "lineno", None) or (mark.line + 1 if mark is not None else None)
    place = f", line {line}" if line else ""
    return f"it is not valid {form}{place} ({plain(problem, LONGEST_NAME) or type(error).__name__})"


def _refused(where: Path | str, cause: str) -> DocumentError:
    name = repr(str(where)) if isinstance(where, Path) else where
    return DocumentError(name, cause)
