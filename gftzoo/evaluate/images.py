"""Images on their way to a feature network: uint8 RGB in batches, from a data source, a folder or an npz.

Suffixes: B batch, N all images; uint8 images are (B, 3, H, W) in 0..255.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gftzoo import pictures
from gftzoo.data import Source
from gftzoo.data.picture import UnreadableError, picture_suffixes, whole_picture
from gftzoo.data.settings import split_settings
from gftzoo.data.walk import Walk, pictures_below
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.npz import npz_batches, npz_shape
from gftzoo.printing import plain

BATCH = 64


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1], (B, 1 or 3, H, W), to uint8 RGB on the CPU, with the very pixels that a PNG of them has."""
    return pictures.to_uint8(images_BCHW.expand(-1, 3, -1, -1)).permute(0, 3, 1, 2)


def image_count(path: Path) -> int:
    """Number of images in a folder or an npz; GftzooError if there is none."""
    count = len(_image_paths(path)[0]) if is_folder(path) else npz_shape(path)[0]
    if not count:
        left_out = "".join(f" {line}." for line in _image_paths(path)[1]) if is_folder(path) else ""
        raise GftzooError(
            f"{str(path)!r} holds no images ({', '.join(picture_suffixes())}, or an npz with arr_0).{left_out}"
        )
    return count


def is_folder(path: Path) -> bool:
    """Whether a path, perhaps with settings of how pictures are decoded behind it, is a folder."""
    return Path(split_settings(str(path))[0]).is_dir()


def file_batches(path: Path) -> Iterator[tuple[Tensor, Sequence[int] | None]]:
    """Batches of (uint8 images, None) of a folder or npz, in constant memory; a batch ends where the size changes."""
    yield from _folder_batches(path) if is_folder(path) else ((batch, None) for batch in npz_batches(path))


def left_out_of(path: Path) -> list[str]:
    """Sentences about what is in a folder of images and is not scored."""
    return _image_paths(path)[1] if is_folder(path) else []


def _image_paths(path: Path) -> tuple[list[Path], list[str]]:
    """The pictures below a folder, and sentences about what else is there."""
    folder = Path(split_settings(str(path))[0])
    walk = Walk(folder)
    return [Path(found) for found in pictures_below(folder, walk)], walk.sentences()


def _folder_batches(folder: Path) -> Iterator[tuple[Tensor, None]]:
    batch: list[Tensor] = []
    _, decoding = split_settings(str(folder))
    for path in _image_paths(folder)[0]:
        try:
            pixels_HWC = np.array(whole_picture(path, 3, decoding))
        except UnreadableError as error:
            raise GftzooError(
                f"{plain(path)!r} is damaged or no image ({error}); remove it and score again."
            ) from error
        image_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
        if batch and (len(batch) == BATCH or batch[0].shape != image_CHW.shape):
            yield torch.stack(batch), None
            batch = []
        batch.append(image_CHW)
    if batch:
        yield torch.stack(batch), None


def source_batches(source: Source, resolution: int | None = None) -> Iterator[tuple[Tensor, Sequence[int] | None]]:
    """Batches of (uint8 images, labels) of a data source; no labels where it has no classes."""
    side = resolution or source.size
    if side is None:
        raise UsageError(f"the images of data {source.name!r} differ in size; give the resolution to score them at.")
    for start in range(0, len(source), BATCH):
        rows = range(start, min(start + BATCH, len(source)))
        labels = [source.class_of(row) for row in rows] if source.class_names else None
        yield source.images(rows, side, 3), labels
