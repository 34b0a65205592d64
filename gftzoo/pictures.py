"""Pictures people look at: grids of samples and strips over the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gftzoo.atomic import written_whole

PADDING = 2  # white pixels around every image of a grid
READABLE = 40  # pixels a small image is enlarged to, so that a person can read it


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1] to uint8, rounded, channels last: (B, H, W, 3)."""
    return (images_BCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def grid(images_BCHW: Tensor, columns: int) -> Image.Image:
    """Images (B, 3, H, W) in [0, 1] side by side; small ones are enlarged by a whole factor."""
    factor = max(1, READABLE // images_BCHW.shape[-1])
    large = images_BCHW.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return Image.fromarray(to_uint8(tiled(large.cpu(), columns)[None])[0].numpy())


def tiled(images_BCHW: Tensor, columns: int) -> Tensor:
    """Images in rows of so many, white between and around them, (C, H', W'); a single one as it is."""
    count, channels, height, width = images_BCHW.shape
    if count == 1:
        return images_BCHW[0]
    columns = min(columns, count)
    down, right = height + PADDING, width + PADDING
    canvas = images_BCHW.new_ones(channels, down * -(-count // columns) + PADDING, right * columns + PADDING)
    for index, image in enumerate(images_BCHW):
        top, left = index // columns * down + PADDING, index % columns * right + PADDING
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def labelled_rows(rows: Sequence[tuple[str, Tensor]], columns: int) -> Image.Image:
    """One grid row per (label, images), the label at the left."""
    margin = 8 + 7 * max(len(label) for label, _ in rows)
    pictures = [grid(images, columns) for _, images in rows]
    width = margin + max(picture.width for picture in pictures)
    canvas = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for (label, _), picture in zip(rows, pictures, strict=True):
        canvas.paste(picture, (margin, top))
        ImageDraw.Draw(canvas).text((4, top + picture.height // 2 - 6), label, fill="black")
        top += picture.height
    return canvas


def save(picture: Image.Image, path: Path) -> None:
    """Writes a PNG whole or not at all; DiskError where the disk does not take it."""
    with written_whole(path) as partial:
        picture.save(partial, format="PNG")


def save_folder(images_BCHW: Tensor, folder: Path, start: int = 0) -> None:
    """Writes one PNG per image, named by its position, into a folder that is still being written."""
    for offset, pixels in enumerate(to_uint8(images_BCHW).numpy()):
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{start + offset:06d}.png", format="PNG")
