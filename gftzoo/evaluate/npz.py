"""Images and statistics in an npz: what its headers say is checked before memory is taken, and read within that.

ADM's layout: `arr_0` (N, H, W, 3) uint8; `mu` (D,), `sigma` (D, D) and perhaps `mu_s`, `sigma_s`. Nothing is unpickled.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.evaluate.protocol import MOST_IMAGES
from gftzoo.printing import words

BATCH = 64  # images read at a time, fewer where that many are larger than LARGEST
LARGEST = 2**28  # bytes of one image, of a batch, or of a statistic once unpacked
STATISTICS = (("mu", "sigma"), ("mu_s", "sigma_s"))


def npz_names(path: Path) -> set[str]:
    """The names of the arrays; GftzooError if it is no npz."""
    with _archive(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def npz_shape(path: Path) -> tuple[int, int, int, int]:
    """The shape (N, H, W, 3) of `arr_0`; reads no pixels. GftzooError where those are no images, or too many."""
    with _archive(path) as archive, _member(archive, "arr_0") as (_, shape, fortran, dtype):
        if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or fortran:
            raise GftzooError(
                f"arr_0 of {str(path)!r} is {dtype} of shape {shape}; ADM's layout is uint8 (N, H, W, 3)."
            )
        count, height, width, colours = shape
        if count > MOST_IMAGES or not 0 < height * width * colours <= LARGEST:
            raise GftzooError(
                f"arr_0 of {str(path)!r} has {count:,} images of {height:,} x {width:,}; at most {MOST_IMAGES:,} are "
                f"scored, of 1 to {LARGEST // 3:,} pixels."
            )
        return count, height, width, colours


def npz_batches(path: Path) -> Iterator[Tensor]:
    """`arr_0` in batches (B, 3, H, W), read through as it is in the archive and never held as a whole."""
    total, height, width, _ = npz_shape(path)
    size = height * width * 3
    batch = max(1, min(BATCH, LARGEST // size))
    with _archive(path) as archive, _member(archive, "arr_0") as (member, _, _, _):
        for start in range(0, total, batch):
            rows = min(batch, total - start)
            raw = member.read(rows * size)
            if len(raw) != rows * size:
                raise GftzooError(f"{str(path)!r} is truncated at image {start + len(raw) // size} of {total}.")
            pixels_BHWC = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(rows, height, width, 3)
            yield pixels_BHWC.permute(0, 3, 1, 2)


def npz_statistics(path: Path) -> dict[str, Tensor]:
    """Those of `mu`, `sigma`, `mu_s` and `sigma_s` that are there, float64; GftzooError where they do not fit."""
    with _archive(path) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        found = {name: _floats(archive, name, path) for pair in STATISTICS for name in pair if name in there}
    for mean, covariance in STATISTICS:
        if mean in found and covariance in found:
            size = found[mean].numel()
            if found[mean].shape != (size,) or found[covariance].shape != (size, size) or not size:
                raise GftzooError(
                    f"{str(path)!r} holds {mean} of shape {tuple(found[mean].shape)} and {covariance} of "
                    f"{tuple(found[covariance].shape)}; they are (D,) and (D, D)."
                )
    return found


def _floats(archive: zipfile.ZipFile, name: str, path: Path) -> Tensor:
    with _member(archive, name) as (member, shape, fortran, dtype):
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind != "f" or size > LARGEST or len(shape) > 2:
            raise GftzooError(
                f"{name} of {str(path)!r} is {dtype} of shape {shape}; it may be floats of {LARGEST:,} bytes."
            )
        raw = member.read(size)
        if len(raw) != size:
            raise GftzooError(f"{name} of {str(path)!r} is truncated.")
    values = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(values.astype(np.float64))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The opened npz; whatever its damage raises is one sentence about it."""
    try:
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise GftzooError(f"{str(path)!r} is a bare array and not an npz file.")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except GftzooError:
        raise
    except Exception as error:  # zip, compression and numpy have many
        raise GftzooError(f"{str(path)!r} is truncated or no npz file ({words(error)}).") from error


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """An array's bytes behind its header, and its shape, order and type."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers as Python 2 wrote them
            shape, fortran, dtype = read(member)
        if dtype.hasobject or any(side < 0 for side in shape):
            raise ValueError(f"{name} is {dtype} of shape {shape}")
        yield member, shape, fortran, dtype
