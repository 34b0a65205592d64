"""Images on their way to a feature network: uint8 RGB in batches, from a data source, a folder or an npz.

Suffixes: B batch, N all images; uint8 images are (B, 3, H, W) in 0..255.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from gftzoo import pictures
from gftzoo.data import Source
from gftzoo.data.decoding import shown
from gftzoo.data.picture import UnreadableError, picture_suffixes, whole_picture
from gftzoo.data.settings import split_settings
from gftzoo.data.walk import LeftOut, pictures_below
from gftzoo.errors import GftzooError, UsageError

BATCH = 64


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1], (B, 1 or 3, H, W), to uint8 RGB on the CPU, with the very pixels that a PNG of them has."""
    return pictures.to_uint8(images_BCHW.expand(-1, 3, -1, -1)).permute(0, 3, 1, 2)


def image_count(path: Path) -> int:
    """Number of images in a folder or an npz; GftzooError if there is none."""
    count = len(_image_paths(path)[0]) if is_folder(path) else _npz_header(path)[0]
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
    yield from _folder_batches(path) if is_folder(path) else _npz_batches(path)


def left_out_of(path: Path) -> list[str]:
    """Sentences about what is in a folder of images and is not scored."""
    return _image_paths(path)[1] if is_folder(path) else []


def _image_paths(path: Path) -> tuple[list[Path], list[str]]:
    """The pictures below a folder, and sentences about what else is there."""
    folder = Path(split_settings(str(path))[0])
    left_out = LeftOut(folder)
    return pictures_below(folder, left_out), left_out.sentences()


def _folder_batches(folder: Path) -> Iterator[tuple[Tensor, None]]:
    batch: list[Tensor] = []
    _, decoding = split_settings(str(folder))
    for path in _image_paths(folder)[0]:
        try:
            pixels_HWC = np.array(whole_picture(path, 3, decoding))
        except UnreadableError as error:
            raise GftzooError(
                f"{shown(path)!r} is damaged or no image ({error}); remove it and score again."
            ) from error
        image_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
        if batch and (len(batch) == BATCH or batch[0].shape != image_CHW.shape):
            yield torch.stack(batch), None
            batch = []
        batch.append(image_CHW)
    if batch:
        yield torch.stack(batch), None


def _npz_header(path: Path) -> tuple[int, int, int, int]:
    """The shape (N, H, W, 3) of arr_0; reads no pixels."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
            shape, fortran, dtype = _read_header(member)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise GftzooError(f"{str(path)!r} is no npz of images in ADM's layout ({error}).") from error
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or fortran:
        raise GftzooError(f"arr_0 of {str(path)!r} is {dtype} of shape {shape}; ADM's layout is uint8 (N, H, W, 3).")
    return shape[0], shape[1], shape[2], shape[3]


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _npz_batches(path: Path) -> Iterator[tuple[Tensor, None]]:
    """The array is read through, as it is in the archive, and never held as a whole."""
    total, height, width, _ = _npz_header(path)
    size = height * width * 3
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
        _read_header(member)
        for start in range(0, total, BATCH):
            rows = min(BATCH, total - start)
            raw = member.read(rows * size)
            if len(raw) != rows * size:
                raise GftzooError(f"{str(path)!r} is truncated at image {start + len(raw) // size} of {total}.")
            pixels_BHWC = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(rows, height, width, 3)
            yield pixels_BHWC.permute(0, 3, 1, 2), None


def source_batches(source: Source, resolution: int | None = None) -> Iterator[tuple[Tensor, Sequence[int] | None]]:
    """Batches of (uint8 images, labels) of a data source; no labels where it has no classes."""
    side = resolution or source.size
    if side is None:
        raise UsageError(f"the images of data {source.name!r} differ in size; give the resolution to score them at.")
    for start in range(0, len(source), BATCH):
        rows = range(start, min(start + BATCH, len(source)))
        labels = [source.class_of(row) for row in rows] if source.class_names else None
        yield source.images(rows, side, 3), labels
