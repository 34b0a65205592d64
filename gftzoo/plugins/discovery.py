"""Which plugins are installed: read from the metadata of distributions, one guarded from the other, importing none."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, MetadataPathFinder, distributions
from pathlib import Path
from typing import Any

from gftzoo.plugins.guard import ForeignError, attempt
from gftzoo.printing import LONGEST_NAME, plain

FAMILIES = "gftzoo.families"
WRAPPERS = "gftzoo.wrappers"
OBJECTIVES = "gftzoo.objectives"
SOURCES = "gftzoo.sources"
CARDS = "gftzoo.cards"
COMMANDS = "gftzoo.commands"
GROUPS = {
    FAMILIES: "A family of generators: a class with hooks of `gftzoo.contract.hookspecs.GenerativeFamily`.",
    WRAPPERS: "Wraps hooks of every family: a class with `@hookimpl(wrapper=True)` methods.",
    OBJECTIVES: "Something to train for: a subclass of `gftzoo.contract.objective.Objective` of its name.",
    SOURCES: "Data, `--data NAME[:ARGUMENT]`: a function (argument, split) to a `gftzoo.data.sources.Source`.",
    CARDS: "Models that are in no catalogue, `gftzoo train NAME:ARGUMENT`: a function (argument) to a `ModelCard`.",
    COMMANDS: "A command of the command line, `gftzoo NAME`: a `click.Command`, imported only when it is called.",
}
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")  # of distributions, as pip takes them, and plugins
FOLD = re.compile(r"\n[ \t]+")  # where a value of metadata goes on in the next line
MOST_METADATA = 4 * 2**20  # bytes of METADATA or entry_points.txt; a long README is part of it
METADATA_FILES = ("METADATA", "PKG-INFO", "entry_points.txt")


@dataclass(frozen=True)
class Plugin:
    """An entry point and the distribution it comes from."""

    entry: EntryPoint
    distribution: str
    version: str
    requires: tuple[str, ...]
    fault: str = ""  # why it cannot be used, where that is known from its metadata

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def group(self) -> str:
        return self.entry.group

    @property
    def label(self) -> str:
        return plain(f"{self.name!r} ({self.distribution} {self.version})", LONGEST_NAME)

    @property
    def registry_path(self) -> Path | None:
        """The `registry.yaml` beside the plugin's code, found without importing it."""
        try:
            return attempt(self._registry_path)
        except ForeignError:  # the importer's, for a name that is none or a module that is half there
            return None

    def _registry_path(self) -> Path | None:
        spec = importlib.util.find_spec(self.entry.value.partition(":")[0].partition(".")[0])
        path = Path(spec.origin).with_name("registry.yaml") if spec and spec.origin else None
        return path if path and path.is_file() else None


@cache
def installed_plugins() -> tuple[Plugin, ...]:
    """All entry points of gftzoo's groups, from metadata alone; a distribution that cannot be read has none."""
    found: dict[tuple[str, str, str], Plugin] = {}
    for distribution in _distributions():
        try:
            plugins = attempt(partial(_plugins_of, distribution))
        except ForeignError:
            continue  # named, with its reason, by `malformed_distributions`
        for plugin in plugins:
            found.setdefault((plugin.group, plugin.name, plugin.distribution), plugin)
    return tuple(found[key] for key in sorted(found))


def _distributions() -> Iterator[Distribution]:
    """The distributions on the path; a place on it that cannot be searched hides no other."""
    for place in dict.fromkeys(entry for entry in sys.path if isinstance(entry, str)):
        search = iter(distributions(path=[place]))
        while True:
            try:
                found = attempt(partial(next, search, None))
            except ForeignError:
                break
            if found is None:
                break
            yield found


def _plugins_of(distribution: Distribution) -> list[Plugin]:
    """Its plugins; read once for as long as its files of metadata stay as they are."""
    files = _metadata_files(distribution)
    if files not in _read or not files:
        entries = [entry for entry in distribution.entry_points if entry.group in GROUPS]
        _read[files] = _plugins(entries, distribution) if entries else []
    return _read[files]


def _metadata_files(distribution: Distribution) -> tuple[tuple[str, int, int], ...]:
    """Path, change time and size of each; none in a zip file, or of another finder.

    ValueError before one is read that is no file, or larger than MOST_METADATA.
    """
    folder, found = getattr(distribution, "_path", None), []
    if not isinstance(folder, Path):
        return ()
    for name in METADATA_FILES:
        path = f"{folder}/{name}"
        try:
            status = os.stat(path)  # noqa: PTH116 (of hundreds of distributions)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name} is not a file")
        if status.st_size > MOST_METADATA:
            raise ValueError(f"{name} has {status.st_size:,} bytes, more than {MOST_METADATA:,}")
        found.append((path, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _plugins(entries: list[EntryPoint], distribution: Distribution) -> list[Plugin]:
    """The plugins of a distribution's entry points; what is wrong with its metadata becomes their fault."""
    try:
        name, version, requires = attempt(partial(_identity, distribution))
    except ForeignError as error:
        fault = f"its metadata cannot be read ({error})"
        return [Plugin(entry, _folder_name(distribution), "unknown", (), fault) for entry in entries]
    return [Plugin(entry, name, version, requires, _fault_of(entry)) for entry in entries]


def _fault_of(entry: EntryPoint) -> str:
    named = NAME.fullmatch(entry.name) is not None
    return "" if named else f"{plain(entry.name, LONGEST_NAME)!r} cannot be the name of a plugin"


def _identity(distribution: Distribution) -> tuple[str, str, tuple[str, ...]]:
    """Name, version and requirements; ValueError if the first two are not what pip would take."""
    headers = _headers(distribution)
    found = dict(reversed(headers))  # of two the first, as pip takes it
    name, version = found.get("name"), found.get("version")
    if name is None or version is None:
        raise ValueError(f"it has no {'Name' if name is None else 'Version'}")
    if not NAME.fullmatch(name):
        raise ValueError(f"{plain(name, LONGEST_NAME)!r} cannot be the name of a distribution")
    return name, plain(version, 50), tuple(value for key, value in headers if key == "requires-dist")


def _headers(distribution: Distribution) -> list[tuple[str, str]]:
    """Key, in lower case, and value, in one line, of each header of its metadata.

    `Distribution.metadata` parses the description below them, too, of hundreds of distributions.
    """
    texts = map(distribution.read_text, ("METADATA", "PKG-INFO", ""))  # the last is an egg-info that is one file
    headers = next(filter(None, texts), "").partition("\n\n")[0]
    parts = (line.partition(":") for line in FOLD.sub(" ", headers).split("\n"))
    return [(key.lower(), value.strip()) for key, colon, value in parts if colon]


def _folder_name(distribution: Distribution) -> str:
    folder = getattr(distribution, "_path", None)
    return plain(folder.name, LONGEST_NAME) if isinstance(folder, Path) else "unknown"


def malformed_distributions() -> list[tuple[str, str]]:
    """Distributions whose metadata cannot be read, as the name of their folder and the reason.

    It looks at every distribution, of whatever purpose: which entry points such a one has, nobody knows.
    """
    found = {folder.name: reason for folder, reason in _hidden.items() if str(folder.parent) in sys.path}
    for distribution in _distributions():
        reason = _unreadable(distribution) or _unreadable(distribution, _identity)
        if reason:
            found.setdefault(_folder_name(distribution), reason)
    return sorted((plain(name, LONGEST_NAME), reason) for name, reason in found.items())


def hide_malformed() -> None:
    """Hides distributions whose entry points cannot be read from everything in this process that asks for them.

    torch, pydantic and fsspec ask for those of all distributions when they are imported, and a single malformed one
    ends them. Places that have not changed since the last call are not searched again.
    """
    places = tuple((place, _change_time(place)) for place in sys.path)
    if _searched == [places]:
        return
    _searched[:] = [places]
    for distribution in _distributions():
        reason, folder = _unreadable(distribution), getattr(distribution, "_path", None)
        if reason and isinstance(folder, Path):
            _hidden[folder] = reason
    if _hidden and not _filtered:
        search = MetadataPathFinder.find_distributions
        _filtered.append(search)

        def find_sound(*context: Any) -> Iterator[Distribution]:
            return (found for found in search(*context) if getattr(found, "_path", None) not in _hidden)

        MetadataPathFinder.find_distributions = staticmethod(find_sound)  # type: ignore[method-assign,assignment]


def _change_time(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns  # noqa: PTH116 (what stands on the path may be anything)
    except (OSError, ValueError, TypeError):
        return 0


_read: dict[tuple[tuple[str, int, int], ...], list[Plugin]] = {}  # by the state of its files of metadata
_searched: list[Any] = []  # the places, as they were
_hidden: dict[Path, str] = {}  # folder of metadata, and why it cannot be read
_filtered: list[Any] = []  # the search of importlib.metadata, once it leaves those out


def _unreadable(distribution: Distribution, read: Callable[[Distribution], Any] = _plugins_of) -> str:
    try:
        attempt(partial(read, distribution))
    except ForeignError as error:
        return f"its metadata cannot be read ({error})"
    return ""


def blocked(plugin: Plugin) -> bool:
    """Whether GFTZOO_ONLY or GFTZOO_BLOCK (comma-separated family or distribution names) keeps the plugin out."""
    names = {plugin.name, plugin.distribution}
    only, block = (_names(os.environ.get(variable, "")) for variable in ("GFTZOO_ONLY", "GFTZOO_BLOCK"))
    return bool(only and not names & only) or bool(names & block)


@cache
def _names(listing: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listing.split(",") if name.strip())


def active(group: str) -> Iterator[Plugin]:
    """The plugins of a group that are not blocked and have sound metadata."""
    return (p for p in installed_plugins() if p.group == group and not p.fault and not blocked(p))
