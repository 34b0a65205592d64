"""Pictures that are decoded when they are needed, some of which may turn out to be unreadable."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gftzoo.data.sources import Source
from gftzoo.errors import GftzooError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
DAMAGED = (OSError, ValueError, SyntaxError)  # Pillow raises all three for damaged files


class DecodingSource(Source):
    """An unreadable picture is replaced by the next readable one, with its condition, and counted in `problems`."""

    @abstractmethod
    def picture(self, row: int) -> Image.Image:
        """The decoded picture; raises OSError, ValueError or SyntaxError if it is damaged."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Where the picture comes from, for a person."""

    @abstractmethod
    def own_condition(self, row: int) -> int | str:
        """The class index or caption of the picture itself."""

    def condition_of(self, row: int) -> int | str:
        return self.own_condition(self.readable(row))

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        for _ in range(len(self)):
            row = self.readable(row)
            try:
                return pixels_of(self.picture(row), resolution, channels)
            except DAMAGED as error:
                self.refuse(row, error)
        raise GftzooError(f"data {self.name!r} has no readable image left.")

    def readable(self, row: int) -> int:
        """The row itself, or the next one that could be read so far."""
        for offset in range(len(self)):
            if (row + offset) % len(self) not in self.unreadable:
                return (row + offset) % len(self)
        raise GftzooError(f"data {self.name!r} has no readable image; check that its files are pictures.")

    def refuse(self, row: int, error: Exception) -> None:
        """Counts the picture as unreadable."""
        if row not in self.unreadable:
            self.unreadable[row] = f"{self.place(row)} cannot be read ({str(error).split(' at 0x')[0]})"
            self.problems.append(self.unreadable[row])


def picture_of(value: Any) -> Image.Image:
    """The picture in a cell of a table: a picture, the bytes of an image file, or a mapping that has them.

    Raises OSError, ValueError or SyntaxError where there is none, or it is damaged.
    """
    if isinstance(value, Image.Image):
        return value
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise ValueError("there is no picture in its row")
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return picture


def pixels_of(picture: Image.Image, resolution: int, channels: int) -> Tensor:
    """The centre of a picture, uint8, (channels, resolution, resolution)."""
    pixels = np.array(center_crop(picture.convert("L" if channels == 1 else "RGB"), resolution))
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())


def center_crop(picture: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve with a box filter while twice too large, then bicubic to the short side, then the centre."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = side / min(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))
