"""The pictures of a folder, and an account of everything else that lies there."""

from __future__ import annotations

import os
from collections.abc import Container
from operator import attrgetter
from pathlib import Path

from gftzoo.data.listing import State, state_of
from gftzoo.data.picture import looks_like_picture, picture_suffixes
from gftzoo.errors import GftzooError
from gftzoo.printing import plain


class Walk:
    """Counts what is not taken of a folder, by the reason, with an example, and notes what its result follows from.

    Args:
        root: the folder.
        aside: a suffix of files that are no pictures and not counted either, but listed in `set_aside`.

    Attributes:
        folders: all that were listed, as they were just before.
        lasting: whether the result stays for as long as they do: not what hangs on links, content or permissions.
    """

    def __init__(self, root: Path, aside: str | None = None) -> None:
        self.root, self.aside = root, aside
        self.set_aside: list[str] = []
        self.folders: dict[str, State | None] = {}
        self.lasting = True
        self.found: dict[str, tuple[int, str]] = {}

    def listed(self, folder: Path | str, advice: str = "") -> list[os.DirEntry[str]]:
        """What lies in a folder, by name; GftzooError where it cannot be listed."""
        self.folders.setdefault(str(folder), state_of(str(folder)))
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=attrgetter("name"))
        except OSError as error:
            why = f"folder {plain(folder)!r} cannot be read ({error.strerror or error})"
            raise GftzooError(f"{why}{f'; {advice}' if advice else ''}.") from error

    def add(self, why: str, *paths: Path | str) -> None:
        """Takes note of paths that are left out."""
        for path in map(Path, paths):
            count, example = self.found.get(why, (0, ""))
            name = plain(path.relative_to(self.root)) if path.is_relative_to(self.root) else plain(path)
            self.found[why] = count + 1, min(example, name) if count else name

    def refuse(self, path: str, suffix: str) -> None:
        """Takes note of a file whose suffix is no picture's."""
        if suffix == self.aside:
            self.set_aside.append(path)
        else:
            self.add("files with a suffix of no picture that can be read", path)

    def sentences(self) -> list[str]:
        """One for each reason."""
        return [f"Left out: {count:,} {why}, e.g. {example}" for why, (count, example) in sorted(self.found.items())]


def subfolders(root: Path, walk: Walk) -> list[Path]:
    """The folders in a folder, without hidden ones, in which other programs keep copies; by their names."""
    folders = [entry for entry in walk.listed(root) if is_dir(entry)]
    walk.add("hidden folders", *(entry.path for entry in folders if entry.name.startswith(".")))
    return [Path(entry.path) for entry in folders if not entry.name.startswith(".")]


def pictures_in(folder: Path, walk: Walk) -> list[str]:
    """The pictures in a folder itself, by their names."""
    return [entry.path for entry in walk.listed(folder) if not is_dir(entry) and takes(entry, walk)]


def pictures_below(folder: Path, walk: Walk) -> list[str]:
    """The pictures in a folder and all folders below it, in the order of their paths, name by name.

    Raises GftzooError where the folder itself cannot be listed: its pictures would be missing without a word.
    """
    found: list[str] = []
    suffixes = picture_suffixes()
    waiting = walk.listed(folder, "allow it, or take the folder away")[::-1]
    while waiting:
        entry = waiting.pop()
        if is_usual(entry, suffixes):
            found.append(entry.path)
        elif not is_dir(entry):
            if takes(entry, walk):
                found.append(entry.path)
        elif entry.name.startswith("."):
            walk.add("hidden folders", entry.path)
        elif entry.is_symlink():
            walk.lasting = False
            walk.add("links to folders inside a class", entry.path)
        else:
            try:
                waiting += walk.listed(entry.path)[::-1]
            except GftzooError:
                walk.lasting = False
                walk.add("folders that cannot be read", entry.path)
    return found


def is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; a link that leads round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether there is a file behind a name."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_usual(entry: os.DirEntry[str], suffixes: Container[str]) -> bool:
    """Whether it is plainly a picture, as nearly all are of a long listing, and needs no closer look."""
    name = entry.name
    dot = name.rfind(".")
    try:
        return dot > 0 and name[dot:] in suffixes and name[0] != "." and entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def takes(entry: os.DirEntry[str], walk: Walk) -> bool:
    """Whether a file is a picture, by its suffix or, where it has none, by its content."""
    name = entry.name
    if name.startswith("."):
        walk.add("hidden files", entry.path)
        return False
    if entry.is_symlink():
        walk.lasting = False
    if not is_file(entry):
        walk.add("names without a file behind them", entry.path)
        return False
    suffix = suffix_of(name)
    if suffix in picture_suffixes():
        return True
    if suffix:
        walk.refuse(entry.path, suffix)
        return False
    walk.lasting = False
    if looks_like_picture(Path(entry.path)):
        return True
    walk.add("files without a suffix whose content is no picture", entry.path)
    return False


def suffix_of(name: str) -> str:
    """The suffix of a file's name as pathlib has it, lower case; pathlib takes most of the time of a long listing."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""
