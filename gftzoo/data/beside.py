"""`captions:PATH`: a folder of pictures with the captions of each beside it, in a `.txt` of the same name."""

from __future__ import annotations

import os
from pathlib import Path

from gftzoo.data.folder import source_of, text_lines
from gftzoo.data.labels import captions_in
from gftzoo.data.listing import Condition, Listing
from gftzoo.data.picture import picture_suffixes
from gftzoo.data.settings import Decoding
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.data.walk import Walk, pictures_below
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

SUFFIX = ".txt"
MOST_BYTES = 2**20  # of the captions of a picture


def open_beside(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """The pictures below a folder; each line of a `.txt` is a caption, of several a training step draws one."""
    without_held_out(name, split, decoding)
    root = Path(argument)
    if not os.path.isdir(root):  # noqa: PTH112 (pathlib raises for names that are too long)
        raise GftzooError(
            f"there is no folder {argument!r}; captions:PATH takes pictures, each with a {SUFFIX} of the same name "
            "beside it."
        )
    # What is listed is not kept for the next run: a folder's time does not tell of a caption that was written anew.
    return source_of(list_beside(root), split, decoding, name)


def list_beside(root: Path) -> Listing:
    """The pictures that have captions, and these; GftzooError where there is none.

    A picture without a file of captions is left out and counted, as is such a file without a picture; an empty file is
    an empty caption.
    """
    walk = Walk(root, aside=SUFFIX)
    pictures = pictures_below(root, walk)
    texts: dict[str, str] = {}
    for text in reversed(walk.set_aside):  # of a.TXT and a.txt the latter, by the order of names
        if texts.setdefault(stem(text), text) != text:
            walk.add(f"{SUFFIX} beside another of the same name", text)
    files: list[str] = []
    captions: list[Condition] = []
    unreadable: dict[int, str] = {}
    for picture in pictures:
        beside = texts.get(stem(picture))
        if beside is None:
            walk.add(f"pictures without a {SUFFIX} beside them", picture)
            continue
        try:
            found = captions_in("\n".join(text_lines(Path(beside), MOST_BYTES)))
        except GftzooError as error:
            unreadable[len(files)], found = f"the captions of {plain(picture)} cannot be read ({error})", [""]
        files.append(picture)
        captions.append(found[0] if len(found) == 1 else tuple(found))
    if not files:
        raise GftzooError(
            f"folder {str(root)!r} holds no pictures ({', '.join(picture_suffixes())}) with a {SUFFIX} of the same "
            "name beside them."
        )
    named = set(map(stem, pictures))
    walk.add(f"{SUFFIX} without a picture", *(text for name, text in texts.items() if name not in named))
    return Listing(files, captions, left_out=walk.sentences(), unreadable=unreadable)


def stem(path: str) -> str:
    """A path without its suffix."""
    return os.path.splitext(path)[0]  # noqa: PTH122 (of a million files)


CAPTIONS = Opener(open_beside, "PATH", decodes=True)
