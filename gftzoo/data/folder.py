"""`imagefolder:PATH` (one class per sub-folder) and `jsonl:PATH` (captions): image files read when they are needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from PIL import Image

from gftzoo.data.decoding import DAMAGED, PICTURE_SUFFIXES, DecodingSource
from gftzoo.data.sources import Source, Split, without_held_out
from gftzoo.errors import GftzooError

# Rows of files without a readable header, by the state of all files: a command opens its data more than once.
_WITHOUT_HEADER: dict[str, dict[int, str]] = {}


class FileSource(DecodingSource):
    """Image files with a class index or a caption each."""

    def __init__(self, name: str, items: list[tuple[Path, int | str]], class_names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.name, self.items, self.class_names = name, items, class_names
        self.condition = "class" if class_names else "text"
        listing, times, state = [], [], hashlib.sha256(str(Path.cwd()).encode())
        for path, what in items:
            try:
                about = path.stat()
            except OSError:  # refused below
                state.update(f"\n{path}".encode())
            else:
                listing.append(f"{path.name} {about.st_size} {what}")
                times.append(f"{path.name} {about.st_mtime_ns}")
                state.update(f"\n{path} {about.st_size} {about.st_ctime_ns}".encode())
        self.times = hashlib.sha256("\n".join(times).encode()).hexdigest()[:32]
        self.listing = self.fingerprint = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
        self._drop_unreadable_headers(state.hexdigest())

    def __len__(self) -> int:
        return len(self.items)

    def picture(self, row: int) -> Image.Image:
        with Image.open(self.items[row][0]) as picture:
            picture.load()
            return picture

    def place(self, row: int) -> str:
        return str(self.items[row][0])

    def stored(self, row: int) -> Path | bytes:
        return self.items[row][0]

    def own_condition(self, row: int) -> int | str:
        return self.items[row][1]

    def _drop_unreadable_headers(self, state: str) -> None:
        """Looks at every file's header, so that a broken one shows before the start and not in hour three."""
        if state not in _WITHOUT_HEADER:
            self._open_all()
            _WITHOUT_HEADER[state] = dict(self.unreadable)
        self.unreadable = dict(_WITHOUT_HEADER[state])
        self.problems = list(self.unreadable.values())
        if self.items:
            self.readable(0)

    def _open_all(self) -> None:
        for row, (path, _) in enumerate(self.items):
            try:
                with Image.open(path):
                    pass
            except DAMAGED as error:
                self.refuse(row, error)


def open_folder(argument: str, split: Split) -> Source:
    """One class per sub-folder, in the order of their names; a flat folder is one class."""
    without_held_out(f"imagefolder:{argument}", split)
    root = Path(argument)
    if not root.is_dir():
        raise GftzooError(f"there is no folder {argument!r}; imagefolder:PATH takes one sub-folder per class.")
    pictures = {path: pictures_in(path) for path in sorted(root.iterdir()) if is_class(path)}
    classes = [folder for folder, inside in pictures.items() if inside]
    loose = [path for path in root.iterdir() if is_picture(path)]
    if not classes:
        pictures, classes = {root: sorted(loose)}, [root]
    items = [(path, index) for index, folder in enumerate(classes) for path in pictures[folder]]
    if not items:
        raise GftzooError(f"folder {argument!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    source = FileSource(f"imagefolder:{argument}", list(items), tuple(path.name for path in classes))
    _refuse_unreadable_classes(source)
    if classes != [root]:
        empty = [folder.name for folder, inside in pictures.items() if not inside]
        source.left_out = _left_out("folders without a picture, which are no classes", empty)
        source.left_out += _left_out("pictures beside the folders, which have no class", [path.name for path in loose])
    return source


def _refuse_unreadable_classes(source: FileSource) -> None:
    """GftzooError for a class of which nothing can be read: it would be trained on pictures of another one."""
    readable = {what for row, (_, what) in enumerate(source.items) if row not in source.unreadable}
    for index, name in enumerate(source.class_names):
        if index not in readable:
            first = next(row for row, (_, what) in enumerate(source.items) if what == index)
            raise GftzooError(
                f"no picture of class {name!r} in {source.name} can be read (e.g. {source.unreadable[first]}); "
                "mend its files or take the folder away."
            )


def _left_out(what: str, names: list[str]) -> list[str]:
    return [f"Left out: {len(names):,} {what}, e.g. {min(names)}"] if names else []


def pictures_in(folder: Path) -> list[Path]:
    """The picture files below a folder, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if is_picture(path))


def is_class(path: Path) -> bool:
    """Whether it is a folder, and none of the hidden ones in which other programs keep copies."""
    return path.is_dir() and not path.name.startswith(".")


def is_picture(path: Path) -> bool:
    """Whether it is a file with a picture's suffix."""
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()


def open_captions(argument: str, split: Split) -> Source:
    """Lines of {"caption": ..., "image": ...}; image paths are relative to the file (`image_path` is read as well)."""
    without_held_out(f"jsonl:{argument}", split)
    path = Path(argument)
    if not path.is_file():
        raise GftzooError(f'there is no file {argument!r}; jsonl:PATH has lines of {{"caption": ..., "image": ...}}.')
    items: list[tuple[Path, int | str]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GftzooError(f"{argument!r} cannot be read as UTF-8 text ({error}).") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            items.append(_caption_line(path, number, line))
    if not items:
        raise GftzooError(f"{argument!r} has no lines.")
    return FileSource(f"jsonl:{argument}", items)


def _caption_line(path: Path, number: int, line: str) -> tuple[Path, int | str]:
    try:
        entry = json.loads(line)
        if not isinstance(entry["caption"], str):
            raise TypeError
        return path.parent / (entry.get("image") or entry["image_path"]), entry["caption"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise GftzooError(
            f'{str(path)!r} line {number} is not of the form {{"caption": ..., "image": ...}} ({type(error).__name__}).'
        ) from error
