"""`imagefolder:PATH` (one class per sub-folder) and `jsonl:PATH` (captions): image files read when they are needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gftzoo.data.decoding import file_below
from gftzoo.data.files import FileSource
from gftzoo.data.listing import Condition, Listing, listed_once, state_of
from gftzoo.data.picture import UnreadableError, picture_suffixes
from gftzoo.data.settings import Decoding
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.data.walk import Walk, pictures_below, pictures_in, subfolders
from gftzoo.documents import read_text
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

MOST_BYTES = 2**34  # of a file of captions


def open_folder(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """One class per sub-folder, in the order of their names; a flat folder is one class."""
    without_held_out(name, split, decoding)
    root = Path(argument)
    if not os.path.isdir(root):  # noqa: PTH112 (pathlib raises for names that are too long)
        raise GftzooError(f"there is no folder {argument!r}; imagefolder:PATH takes one sub-folder per class.")
    return source_of(
        listed_once(["folder", root, *picture_suffixes()], lambda: list_folder(root)), split, decoding, name
    )


def source_of(found: Listing, split: Split, decoding: Decoding, name: str) -> Source:
    """The pictures of a listing that can be read, of one part of the data."""
    source = FileSource(name, found.files, found.conditions, found.class_names, decoding, found.unreadable)
    source.left_out = found.left_out
    source.take_part(split)
    return source


def list_folder(root: Path) -> Listing:
    """The pictures of a folder; GftzooError where there is none."""
    walk = Walk(root)
    inside = {folder: pictures_below(folder, walk) for folder in subfolders(root, walk)}
    classes = [folder for folder, found in inside.items() if found]
    loose = pictures_in(root, walk)
    if classes:
        walk.add("folders without a picture, which are no classes", *(f for f, found in inside.items() if not found))
        walk.add("pictures beside the folders, which have no class", *loose)
    else:
        inside, classes = {root: loose}, [root]
    files = [path for folder in classes for path in inside[folder]]
    if not files:
        raise GftzooError(
            f"folder {str(root)!r} holds no pictures that can be read ({', '.join(picture_suffixes())})."
            + "".join(f" {line}." for line in walk.sentences())
        )
    return Listing(
        files,
        [index for index, folder in enumerate(classes) for _ in inside[folder]],
        tuple(plain(path.name) for path in classes),
        walk.sentences(),
        watched=walk.folders,
        lasting=walk.lasting,
    )


def open_captions(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """Lines of {"caption": ..., "image": ...}; image paths are relative to the file (`image_path` is read as well).

    `caption` may be a list of texts, of which a training step draws one.
    """
    without_held_out(name, split, decoding)
    path = Path(argument)
    found = listed_once(["lines", path, decoding.outside], lambda: list_captions(path, decoding.outside))
    return source_of(found, split, decoding, name)


def list_captions(path: Path, outside: bool) -> Listing:
    """The files and captions that lines name; GftzooError for a line that is none, and where there is none."""
    watched = {str(path): state_of(str(path))}
    files: list[str] = []
    captions: list[Condition] = []
    unreadable: dict[int, str] = {}
    folder = os.path.normpath(path.parent)
    before, lasting = folder.rstrip("/") + "/", True
    for number, line in enumerate(text_lines(path), 1):
        if not line or line.isspace():
            continue
        caption, named = _caption_line(path, number, line)
        try:
            if not all(map(is_text, [caption] if isinstance(caption, str) else caption)):
                raise UnreadableError("its caption has half a character, which no text encoder reads")
            if is_plain(named):
                file = before + named
            else:  # whether it lies below may hang on links
                lasting, file = False, str(file_below(named, [path.parent], outside))
        except UnreadableError as error:
            unreadable[len(files)] = f"line {number} of {plain(path)} cannot be read ({error})"
            file, caption = folder, ""
        files.append(file)
        captions.append(caption)
    if not files:
        raise GftzooError(f"{str(path)!r} has no lines.")
    return Listing(files, captions, unreadable=unreadable, watched=watched, lasting=lasting)


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
