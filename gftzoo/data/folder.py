"""`imagefolder:PATH` (one class per sub-folder) and `jsonl:PATH` (captions): image files read when they are needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gftzoo.data.decoding import VERSION, DecodingSource, file_below
from gftzoo.data.picture import UnreadableError, picture_suffixes
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.data.walk import LeftOut, pictures_below, pictures_in, subfolders
from gftzoo.documents import read_text
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

MOST_BYTES = 2**34  # of a file of captions


class About(NamedTuple):
    """What the file system says of a file; times in ns."""

    size: int
    modified: int
    changed: int


class FileSource(DecodingSource):
    """Image files with a class index or a caption, or several, each.

    What the file system says of them is asked when a fingerprint is wanted, and once.

    Args:
        name: as given on the command line.
        files: paths, of strings: pathlib takes most of the time of opening a million.
        conditions: class index or caption of each; several captions are a tuple.
        class_names: one per class.
        decoding: how pictures are decoded.
        unreadable: what is known to be wrong with some of them, by row.
    """

    def __init__(
        self,
        name: str,
        files: list[str],
        conditions: list[int | str | tuple[str, ...]],
        class_names: tuple[str, ...] = (),
        decoding: Decoding | None = None,
        unreadable: dict[int, str] | None = None,
    ) -> None:
        super().__init__(decoding)
        self.name, self.files, self.conditions, self.class_names = name, files, conditions, class_names
        self.condition = "class" if class_names else "text"
        self._about: list[About | None] | None = None
        grey = self.leave_out_unreadable(self._state, unreadable)
        self.channels = 1 if grey else 3

    def __len__(self) -> int:
        return len(self.files)

    def keep(self, rows: Sequence[int]) -> None:
        self.files, self.conditions = [self.files[row] for row in rows], [self.conditions[row] for row in rows]
        if self._about is not None:
            self._about = [self._about[row] for row in rows]

    def place(self, row: int) -> str:
        return plain(self.files[row])

    def stored(self, row: int) -> Path:
        return Path(self.files[row])

    def key(self, row: int) -> str:
        path, what = Path(self.files[row]), self.own_condition(row)
        return f"{what if self.condition == 'text' else path.parent.name}/{path.name}"

    def own_condition(self, row: int) -> int | str:
        what = self.conditions[row]
        return what[0] if isinstance(what, tuple) else what

    def drawn_condition(self, row: int, number: int) -> int | str:
        what = self.conditions[self.readable(row)]
        return what[number % len(what)] if isinstance(what, tuple) else what

    @property
    def several(self) -> bool:
        return self.condition == "text" and any(isinstance(what, tuple) for what in self.conditions)

    @property
    def about(self) -> list[About | None]:
        """What the file system says of each file; None where it says nothing."""
        if self._about is None:
            self._about = [_about(path) for path in self.files]
        return self._about

    def _state(self) -> str:
        """A hash of where all files lie and of when they changed."""
        lines = [
            f"\n{path} " if about is None else f"\n{path} {about.size} {about.changed}"
            for path, about in zip(self.files, self.about, strict=True)
        ]
        return _hash(lines)

    @cached_property
    def listing(self) -> str:  # type: ignore[override]
        """The names and sizes of the files that can be read, and what comes with them."""
        rows = zip(self.files, self.about, self.conditions, strict=True)
        lines = [f"\n{os.path.basename(p)} {a.size} {what}" for p, a, what in rows if a is not None]  # noqa: PTH119
        return _hash([f"{VERSION} {settings_of(self.name)}", *lines])[:16]

    @cached_property
    def times(self) -> str:  # type: ignore[override]
        """The change times of the same."""
        rows = zip(self.files, self.about, strict=True)
        return _hash([f"\n{os.path.basename(p)} {a.modified}" for p, a in rows if a is not None])[:32]  # noqa: PTH119

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The listing."""
        return self.listing


def _about(path: str) -> About | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (of a million files)
    except (OSError, ValueError):
        return None
    return About(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


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
    files = [path for folder in classes for path in inside[folder]]
    if not files:
        raise GftzooError(
            f"folder {argument!r} holds no pictures that can be read ({', '.join(picture_suffixes())})."
            + "".join(f" {line}." for line in left_out.sentences())
        )
    indices: list[int | str | tuple[str, ...]] = [index for index, folder in enumerate(classes) for _ in inside[folder]]
    source = FileSource(name, files, indices, tuple(plain(path.name) for path in classes), decoding)
    if classes != [root]:
        left_out.add(
            "folders without a picture, which are no classes", *(f for f, found in inside.items() if not found)
        )
        left_out.add("pictures beside the folders, which have no class", *loose)
    source.left_out = left_out.sentences()
    source.take_part(split)
    return source


def open_captions(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """Lines of {"caption": ..., "image": ...}; image paths are relative to the file (`image_path` is read as well).

    `caption` may be a list of texts, of which a training step draws one.
    """
    without_held_out(name, split, decoding)
    path = Path(argument)
    files: list[str] = []
    captions: list[int | str | tuple[str, ...]] = []
    unreadable: dict[int, str] = {}
    folder = os.path.normpath(path.parent)
    before = folder.rstrip("/") + "/"
    for number, line in enumerate(text_lines(path), 1):
        if not line or line.isspace():
            continue
        caption, named = _caption_line(path, number, line)
        try:
            if not all(map(is_text, [caption] if isinstance(caption, str) else caption)):
                raise UnreadableError("its caption has half a character, which no text encoder reads")
            file = before + named if is_plain(named) else str(file_below(named, [path.parent], decoding.outside))
        except UnreadableError as error:
            unreadable[len(files)] = f"line {number} of {plain(path)} cannot be read ({error})"
            file, caption = folder, ""
        files.append(file)
        captions.append(caption)
    if not files:
        raise GftzooError(f"{argument!r} has no lines.")
    source = FileSource(name, files, captions, decoding=decoding, unreadable=unreadable)
    source.take_part(split)
    return source


def text_lines(path: Path, most: int = MOST_BYTES) -> list[str]:
    r"""The lines of a UTF-8 file, with or without a byte order mark, that end at \n or \r\n alone; GftzooError."""
    text = read_text(path, most).removeprefix("\ufeff")
    return [line.removesuffix("\r") for line in text.split("\n")] if "\r" in text else text.split("\n")


def is_text(value: str) -> bool:
    """Whether it is whole characters, and no half of a pair, which JSON can write."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(named: str) -> bool:
    """Whether a name is that of a file below, as it stands: most are, and need no closer look."""
    odd = "//" in named or "/." in named or "\0" in named
    return named.isascii() and not odd and not named.startswith(("/", ".")) and not named.endswith("/")


def _caption_line(path: Path, number: int, line: str) -> tuple[str | tuple[str, ...], str]:
    """The caption, or several, and the image of a line; GftzooError."""
    try:
        entry = json.loads(line)
        caption, named = entry["caption"], entry.get("image") or entry["image_path"]
        several = caption if isinstance(caption, list) else [caption]
        if not several or not all(isinstance(each, str) for each in (*several, named)):
            raise TypeError
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise GftzooError(
            f'{plain(path)!r} line {number} is not of the form {{"caption": ..., "image": ...}} '
            f"({type(error).__name__})."
        ) from error
    return several[0] if len(several) == 1 else tuple(several), named


IMAGEFOLDER = Opener(open_folder, "PATH", decodes=True)
JSONL = Opener(open_captions, "PATH", decodes=True)
