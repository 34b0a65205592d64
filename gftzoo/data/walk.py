"""The pictures of a folder, and an account of everything else that lies there."""

from __future__ import annotations

import os
from pathlib import Path

from gftzoo.data.picture import has_picture_suffix, looks_like_picture
from gftzoo.errors import GftzooError
from gftzoo.printing import plain


class LeftOut:
    """Counts what is not taken of a folder, by the reason, with an example."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[str, tuple[int, str]] = {}

    def add(self, why: str, *paths: Path) -> None:
        """Takes note of paths that are left out."""
        for path in paths:
            count, example = self.found.get(why, (0, ""))
            name = plain(path.relative_to(self.root)) if path.is_relative_to(self.root) else plain(path)
            self.found[why] = count + 1, min(example, name) if count else name

    def sentences(self) -> list[str]:
        """One for each reason."""
        return [f"Left out: {count:,} {why}, e.g. {example}" for why, (count, example) in sorted(self.found.items())]


def subfolders(root: Path, left_out: LeftOut) -> list[Path]:
    """The folders in a folder, without hidden ones, in which other programs keep copies; by their names."""
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise GftzooError(f"folder {plain(root)!r} cannot be read ({error.strerror or error}).") from error
    folders = [path for path in entries if path.is_dir()]
    left_out.add("hidden folders", *(path for path in folders if path.name.startswith(".")))
    return [path for path in folders if not path.name.startswith(".")]


def pictures_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """The pictures in a folder itself, by their names."""
    return sorted(path for path in folder.iterdir() if not path.is_dir() and takes(path, left_out))


def pictures_below(folder: Path, left_out: LeftOut) -> list[Path]:
    """The pictures in a folder and all folders below it, in the order of their paths.

    Raises GftzooError where the folder itself cannot be listed: its pictures would be missing without a word.
    """
    found: list[Path] = []

    def refused(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename))
        if place == folder:
            raise GftzooError(
                f"folder {plain(folder)!r} cannot be read ({error.strerror}); allow it, or take the folder away."
            ) from error
        left_out.add("folders that cannot be read", place)

    for parent, folders, files in os.walk(folder, onerror=refused):
        here = Path(parent)
        left_out.add("hidden folders", *(here / name for name in folders if name.startswith(".")))
        links = [name for name in folders if (here / name).is_symlink() and not name.startswith(".")]
        left_out.add("links to folders inside a class", *(here / name for name in links))
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [here / name for name in files if takes(here / name, left_out)]
    return sorted(found)


def takes(path: Path, left_out: LeftOut) -> bool:
    """Whether a file is a picture, by its suffix or, where it has none, by its content."""
    if path.name.startswith("."):
        left_out.add("hidden files", path)
        return False
    if not path.is_file():
        left_out.add("names without a file behind them", path)
        return False
    if has_picture_suffix(path):
        return True
    if path.suffix:
        left_out.add("files with a suffix of no picture that can be read", path)
        return False
    if looks_like_picture(path):
        return True
    left_out.add("files without a suffix whose content is no picture", path)
    return False
