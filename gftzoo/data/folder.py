"""`imagefolder:PATH` (one class per sub-folder) and `jsonl:PATH` (captions): image files read when they are needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from gftzoo.data.decoding import VERSION, DecodingSource, file_below
from gftzoo.data.picture import UnreadableError, picture_suffixes
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.data.walk import LeftOut, pictures_below, pictures_in, subfolders
from gftzoo.documents import read_text
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

MOST_BYTES = 2**34  # of a file of captions


class FileSource(DecodingSource):
    """Image files with a class index or a caption each.

    Args:
        items: file and class index or caption.
        unreadable: what is known to be wrong with some of them, by row.
    """

    def __init__(
        self,
        name: str,
        items: list[tuple[Path, int | str]],
        class_names: tuple[str, ...] = (),
        decoding: Decoding | None = None,
        unreadable: dict[int, str] | None = None,
    ) -> None:
        super().__init__(decoding)
        self.name, self.items, self.class_names = name, items, class_names
        self.condition = "class" if class_names else "text"
        grey = self.leave_out_unreadable(self._state(), unreadable)
        self.channels = 1 if grey else 3
        self.listing, self.times = self._hashes()
        self.fingerprint = self.listing

    def __len__(self) -> int:
        return len(self.items)

    def keep(self, rows: Sequence[int]) -> None:
        self.items = [self.items[row] for row in rows]

    def place(self, row: int) -> str:
        return plain(self.items[row][0])

    def stored(self, row: int) -> Path:
        return self.items[row][0]

    def key(self, row: int) -> str:
        path, what = self.items[row]
        return f"{what if self.condition == 'text' else path.parent.name}/{path.name}"

    def own_condition(self, row: int) -> int | str:
        return self.items[row][1]

    def _state(self) -> str:
        """A hash of where all files lie and of when they changed."""
        state = hashlib.sha256()
        for path, _ in self.items:
            about = _about(path)
            changed = "" if about is None else f"{about.st_size} {about.st_ctime_ns}"
            state.update(f"\n{path} {changed}".encode(errors="surrogatepass"))
        return state.hexdigest()

    def _hashes(self) -> tuple[str, str]:
        """The listing and the times of the files that can be read."""
        listing, times = hashlib.sha256(f"{VERSION} {settings_of(self.name)}".encode()), hashlib.sha256()
        for path, what in self.items:
            about = _about(path)
            if about is not None:
                listing.update(f"\n{path.name} {about.st_size} {what}".encode(errors="surrogatepass"))
                times.update(f"\n{path.name} {about.st_mtime_ns}".encode(errors="surrogatepass"))
        return listing.hexdigest()[:16], times.hexdigest()[:32]


def _about(path: Path) -> os.stat_result | None:
    """What the file system says of a file; None where it says nothing."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def open_folder(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """One class per sub-folder, in the order of their names; a flat folder is one class."""
    without_held_out(name, split, decoding)
    root = Path(argument)
    if not os.path.isdir(root):  # noqa: PTH112 (pathlib raises for names that are too long)
        raise GftzooError(f"there is no folder {argument!r}; imagefolder:PATH takes one sub-folder per class.")
    left_out = LeftOut(root)
    inside = {folder: pictures_below(folder, left_out) for folder in subfolders(root, left_out)}
    classes = [folder for folder, found in inside.items() if found]
    loose = pictures_in(root, left_out)
    if not classes:
        inside, classes = {root: loose}, [root]
    items: list[tuple[Path, int | str]] = [
        (path, index) for index, folder in enumerate(classes) for path in inside[folder]
    ]
    if not items:
        raise GftzooError(
            f"folder {argument!r} holds no pictures that can be read ({', '.join(picture_suffixes())})."
            + "".join(f" {line}." for line in left_out.sentences())
        )
    source = FileSource(name, items, tuple(plain(path.name) for path in classes), decoding)
    if classes != [root]:
        left_out.add(
            "folders without a picture, which are no classes", *(f for f, found in inside.items() if not found)
        )
        left_out.add("pictures beside the folders, which have no class", *loose)
    source.left_out = left_out.sentences()
    source.take_part(split)
    return source


def open_captions(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """Lines of {"caption": ..., "image": ...}; image paths are relative to the file (`image_path` is read as well)."""
    without_held_out(name, split, decoding)
    path = Path(argument)
    items: list[tuple[Path, int | str]] = []
    unreadable: dict[int, str] = {}
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        caption, named = _caption_line(path, number, line)
        try:
            if not is_text(caption):
                raise UnreadableError("its caption has half a character, which no text encoder reads")
            file = file_below(named, [path.parent], decoding.outside)
        except UnreadableError as error:
            unreadable[len(items)] = f"line {number} of {plain(path)} cannot be read ({error})"
            file, caption = path.parent, ""
        items.append((file, caption))
    if not items:
        raise GftzooError(f"{argument!r} has no lines.")
    source = FileSource(name, items, decoding=decoding, unreadable=unreadable)
    source.take_part(split)
    return source


def text_lines(path: Path, most: int = MOST_BYTES) -> list[str]:
    r"""The lines of a UTF-8 file, with or without a byte order mark, that end at \n or \r\n alone; GftzooError."""
    text = read_text(path, most).removeprefix("\ufeff")
    return [line.removesuffix("\r") for line in text.split("\n")]


def is_text(value: str) -> bool:
    """Whether it is whole characters, and no half of a pair, which JSON can write."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _caption_line(path: Path, number: int, line: str) -> tuple[str, str]:
    """The caption and the image of a line; GftzooError."""
    try:
        entry = json.loads(line)
        caption, named = entry["caption"], entry.get("image") or entry["image_path"]
        if not isinstance(caption, str) or not isinstance(named, str):
            raise TypeError
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise GftzooError(
            f'{plain(path)!r} line {number} is not of the form {{"caption": ..., "image": ...}} '
            f"({type(error).__name__})."
        ) from error
    return caption, named


IMAGEFOLDER = Opener(open_folder, "PATH", decodes=True)
JSONL = Opener(open_captions, "PATH", decodes=True)
