"""`imagefolder:PATH` (one class per sub-folder) and `jsonl:PATH` (captions): image files read when they are needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gftzoo.data.sources import Source, Split, without_held_out
from gftzoo.errors import GftzooError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


class FileSource(Source):
    """Image files with a class index or a caption each. An unreadable file is replaced by the next readable one."""

    def __init__(self, name: str, items: list[tuple[Path, int | str]], class_names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.name, self.items, self.class_names = name, items, class_names
        self.condition = "class" if class_names else "text"
        listing = "\n".join(f"{path.name} {path.stat().st_size} {what}" for path, what in items if path.exists())
        self.fingerprint = hashlib.sha256(listing.encode()).hexdigest()[:16]
        self.channels: Literal[1, 3] = 3
        self._unreadable: set[int] = set()
        self._drop_unreadable_headers()

    def __len__(self) -> int:
        return len(self.items)

    def condition_of(self, row: int) -> int | str:
        return self.items[self.readable(row)][1]

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        for _ in range(len(self.items)):
            row = self.readable(row)
            try:
                with Image.open(self.items[row][0]) as picture:
                    square = center_crop(picture.convert("L" if channels == 1 else "RGB"), resolution)
                pixels = np.array(square)
                return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())
            except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
                self._refuse(row, error)
        raise GftzooError(f"data {self.name!r} has no readable image left.")

    def readable(self, row: int) -> int:
        """The row itself, or the next one that could be read so far."""
        for offset in range(len(self.items)):
            if (row + offset) % len(self.items) not in self._unreadable:
                return (row + offset) % len(self.items)
        raise GftzooError(f"data {self.name!r} has no readable image; check that its files are pictures.")

    def _refuse(self, row: int, error: Exception) -> None:
        if row not in self._unreadable:
            self._unreadable.add(row)
            self.problems.append(f"{self.items[row][0]} cannot be read ({str(error).split(' at 0x')[0]})")

    def _drop_unreadable_headers(self) -> None:
        """Looks at every file's header, so that a broken one shows before the start and not in hour three."""
        for row, (path, _) in enumerate(self.items):
            try:
                with Image.open(path):
                    pass
            except (OSError, ValueError, SyntaxError) as error:
                self._refuse(row, error)
        if self.items:
            self.readable(0)


def open_folder(argument: str, split: Split) -> Source:
    """One class per sub-folder, in the order of their names; a flat folder is one class."""
    without_held_out(f"imagefolder:{argument}", split)
    root = Path(argument)
    if not root.is_dir():
        raise GftzooError(f"there is no folder {argument!r}; imagefolder:PATH takes one sub-folder per class.")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and any(pictures_in(path)))
    if classes:
        items = [(path, index) for index, folder in enumerate(classes) for path in pictures_in(folder)]
    else:
        classes, items = [root], [(path, 0) for path in pictures_in(root)]
    if not items:
        raise GftzooError(f"folder {argument!r} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return FileSource(f"imagefolder:{argument}", list(items), tuple(path.name for path in classes))


def pictures_in(folder: Path) -> list[Path]:
    """The picture files below a folder, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def open_captions(argument: str, split: Split) -> Source:
    """Lines of {"caption": ..., "image": ...}; image paths are relative to the file (`image_path` is read as well)."""
    without_held_out(f"jsonl:{argument}", split)
    path = Path(argument)
    if not path.is_file():
        raise GftzooError(f'there is no file {argument!r}; jsonl:PATH has lines of {{"caption": ..., "image": ...}}.')
    items: list[tuple[Path, int | str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            items.append(_caption_line(path, number, line))
    if not items:
        raise GftzooError(f"{argument!r} has no lines.")
    return FileSource(f"jsonl:{argument}", items)


def _caption_line(path: Path, number: int, line: str) -> tuple[Path, int | str]:
    try:
        entry = json.loads(line)
        return path.parent / (entry.get("image") or entry["image_path"]), str(entry["caption"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise GftzooError(
            f'{str(path)!r} line {number} is not of the form {{"caption": ..., "image": ...}} ({type(error).__name__}).'
        ) from error


def center_crop(picture: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve with a box filter while twice too large, then bicubic to the short side, then the centre."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = side / min(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))
