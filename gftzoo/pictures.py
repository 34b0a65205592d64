"""Pictures people look at: contact sheets of samples, and rows over the temperature, all with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gftzoo.atomic import written_whole
from gftzoo.printing import plain

GAP = 6  # white pixels around every image of a sheet
READABLE = 128  # pixels that a small image is enlarged to at least, so that a person can see it
MOST_LINES = 3  # of a caption; what is longer ends in dots
LONGEST_CAPTION = 400  # characters that are looked at


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1] to uint8, rounded, channels last: (B, H, W, 3)."""
    return (images_BCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def to_pil(images_BCHW: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [0, 1] as Pillow has them, in their own size."""
    return [Image.fromarray(np.ascontiguousarray(pixels)) for pixels in to_uint8(images_BCHW).numpy()]


def side_on_sheet(side: int) -> int:
    """The pixels that an image of `side` pixels takes on a sheet: enlarged by a whole factor to `READABLE` or more."""
    return side * max(1, -(-READABLE // side))


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib and has most alphabets; Pillow's own where that is not there."""
    spec = find_spec("matplotlib")  # looked up and not imported, which takes its time
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


class _Cells(NamedTuple):
    """How large things are on a sheet whose images have one size."""

    width: int
    height: int
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    line: int

    @classmethod
    def of(cls, image: Image.Image) -> _Cells:
        size = max(12, image.width // 18)
        return cls(image.width, image.height, font(size), size + size // 4)

    def wrapped(self, text: str, width: float | None = None) -> list[str]:
        """A caption in lines no wider than a cell: at white space, and within a word that is wider than one."""
        width = self.width if width is None else width
        lines = [""]
        for number, part in enumerate(text.split("\n")):
            lines += [""] if number else []
            for word in plain(part, LONGEST_CAPTION).split(" "):
                joined = f"{lines[-1]} {word}".strip()
                if self.font.getlength(joined) <= width or not lines[-1]:
                    lines[-1] = joined
                else:
                    lines.append(word)
        return [self._cut(line, width) for line in _shortened(lines)]

    def _cut(self, line: str, width: float) -> str:
        if self.font.getlength(line) <= width:
            return line
        while line and self.font.getlength(f"{line}…") > width:
            line = line[:-1]
        return f"{line}…"


def _shortened(lines: list[str]) -> list[str]:
    """At most so many lines; the last stays, which says how the image was drawn."""
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 2], f"{lines[MOST_LINES - 2]}…", lines[-1]]


def grid(images_BCHW: Tensor, columns: int, captions: Sequence[str] = (), title: str = "") -> Image.Image:
    """A contact sheet of images (B, 3, H, W) in [0, 1], small ones enlarged.

    Args:
        images_BCHW: what is shown.
        columns: images in a row.
        captions: below the images, one for each, if there are any; a line break starts a new line.
        title: above all.
    """
    cells = _enlarged(images_BCHW)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    below = [captions[start : start + columns] for start in range(0, len(captions), columns)]
    return _sheet(rows, ["" for _ in rows], below, title)


def labelled_rows(
    rows: Sequence[tuple[str, Tensor]], columns: int, captions: Sequence[str] = (), title: str = ""
) -> Image.Image:
    """One row per (label, images), the label at the left; `captions` are those of the columns, below the last row."""
    cells = [_enlarged(images[:columns]) for _, images in rows]
    below = [()] * (len(rows) - 1) + [tuple(captions[:columns])]
    return _sheet(cells, [label for label, _ in rows], below if captions else [], title)


def _enlarged(images_BCHW: Tensor) -> list[Image.Image]:
    factor = side_on_sheet(images_BCHW.shape[-1]) // images_BCHW.shape[-1]
    return [
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        for image in to_pil(images_BCHW)
    ]


def _sheet(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], captions: Sequence[Sequence[str]], title: str
) -> Image.Image:
    """Rows of images of one size, a label left of each, captions below it, and a title above all."""
    cells = _Cells.of(rows[0][0])
    margin = max((round(cells.font.getlength(plain(label, 60))) + 2 * GAP for label in labels if label), default=0)
    below = [[cells.wrapped(text) for text in row] for row in captions] or [[] for _ in rows]
    heights = [cells.height + GAP + cells.line * max(map(len, texts), default=0) for texts in below]
    width = margin + GAP + max(map(len, rows)) * (cells.width + GAP)
    heading = cells.wrapped(title, width - 2 * GAP) if title else []
    top = GAP + (cells.line * len(heading) + GAP if heading else 0)
    canvas = Image.new("RGB", (width, top + sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), "\n".join(heading), fill="black", font=cells.font)
    for row, label, texts, height in zip(rows, labels, below, heights, strict=True):
        draw.text((GAP, top + cells.height // 2), plain(label, 60), fill="black", font=cells.font, anchor="lm")
        for column, image in enumerate(row):
            left = margin + GAP + column * (cells.width + GAP)
            canvas.paste(image, (left, top))
            draw.rectangle((left - 1, top - 1, left + cells.width, top + cells.height), outline="#c8c8c8")
            for number, line in enumerate(texts[column] if column < len(texts) else ()):
                draw.text((left, top + cells.height + 1 + number * cells.line), line, fill="black", font=cells.font)
        top += height
    return canvas


def save(picture: Image.Image, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Writes a PNG whole or not at all, `about` as its text chunks; DiskError where the disk does not take it."""
    with written_whole(path) as partial:
        picture.save(partial, format="PNG", pnginfo=text_chunks(about or {}))


def text_chunks(about: Mapping[str, str]) -> PngInfo:
    """What is known of an image, as PNG text chunks, which Pillow reads back as `Image.text`."""
    chunks = PngInfo()
    for key, value in about.items():
        chunks.add_itxt(key, value.replace("\0", "").encode("utf-8", "replace").decode())  # no lone surrogates
    return chunks


def save_folder(
    images_BCHW: Tensor, folder: Path, start: int = 0, about: Sequence[Mapping[str, str]] | None = None
) -> None:
    """Writes one PNG per image, named by its position, into a folder that is still being written.

    `about` has the text chunks of each.
    """
    for offset, image in enumerate(to_pil(images_BCHW)):
        chunks = text_chunks(about[offset] if about else {})
        image.save(folder / f"{start + offset:06d}.png", format="PNG", pnginfo=chunks)
