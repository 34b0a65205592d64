"""The partial folder of a growing npz: what is drawn, by whom, and what is kept of it after a failure."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from gftzoo.atomic import DiskError, disk_errors, made_folders, written_whole
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo.group import rank_positions

_COPY = 16 * 2**20  # bytes moved at a time


class NpzJob:
    """The folder `x.npz.partial/`; see `gftzoo.evaluate.volume`."""

    def __init__(self, out: Path, images: int, image_bytes: int) -> None:
        self.out, self.images, self.image_bytes = out, images, image_bytes
        self.folder = out.with_name(f"{out.name}.partial")
        self.pixels, self.done, self.about = self.folder / "images.u8", self.folder / "done", self.folder / "job.json"
        self.begun_here = False

    @contextmanager
    def kept_on_failure(self) -> Iterator[None]:
        """Keeps what is drawn after an error, and nothing of a job that this process began and drew nothing for."""
        try:
            with disk_errors(self.out, self.folder):
                if self.out.exists():
                    raise UsageError(f"{str(self.out)!r} exists already; remove it or give another --out.")
                with made_folders(self.folder.parent):
                    yield
        except BaseException as error:
            kept = bool(self._finished())
            if not kept and self.begun_here:
                shutil.rmtree(self.folder, ignore_errors=True)
            if kept and isinstance(error, DiskError):
                raise GftzooError(
                    f"{str(self.out)!r} could not be written ({error.reason}); what is drawn so far is kept in "
                    f"{str(self.folder)!r}, and the same command goes on from there."
                ) from error
            raise

    def share(self, identity: dict[str, Any]) -> Iterator[tuple[int, range]]:
        """The chunks that this rank is to draw, with their positions, of those that are missing."""
        if rank() == 0 and not self.about.is_file():
            self._begin(identity)
        barrier()
        chunk = self._chunk(identity)
        missing = self._missing(chunk)
        for index in (missing[i] for i in rank_positions(len(missing))):
            yield index, range(index * chunk, min((index + 1) * chunk, self.images))

    def _begin(self, identity: dict[str, Any]) -> None:
        """Creates the folder; DiskError where the disk has no room for the rows and the npz that they are copied to."""
        self.begun_here = True
        size = self.images * self.image_bytes
        self.done.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < 2 * size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.out))
        with self.pixels.open("wb") as file:
            file.truncate(size)
        with written_whole(self.about) as partial:
            partial.write_text(json.dumps(identity, indent=1, sort_keys=True), encoding="utf-8")

    def _chunk(self, identity: dict[str, Any]) -> int:
        """The chunk size of the job in the folder; UsageError where that is another job, or damaged."""
        found = read_json(self.about)
        chunk = found.get("chunk") if isinstance(found, dict) else None
        size = self.pixels.stat().st_size if self.pixels.is_file() else 0
        if not isinstance(chunk, int) or chunk < 1:
            raise UsageError(f"{str(self.about)!r} is damaged; remove its folder or give another --out.")
        for key, value in json.loads(json.dumps({**identity, "chunk": chunk})).items():
            if found.get(key) != value:
                raise UsageError(
                    f"{str(self.folder)!r} belongs to another job ({key} is {found.get(key)!r} there and {value!r} "
                    "here); remove it or give another --out."
                )
        if size != self.images * self.image_bytes:
            raise UsageError(f"{str(self.pixels)!r} has lost its rows; remove its folder or give another --out.")
        return chunk

    def _finished(self) -> set[int]:
        """The chunks that are drawn."""
        return (
            {int(path.name) for path in self.done.iterdir() if path.name.isdecimal()} if self.done.is_dir() else set()
        )

    def _missing(self, chunk: int) -> list[int]:
        """The chunks that are not drawn yet; the same on every rank."""
        finished = self._finished()
        barrier()  # nobody marks a chunk before everybody has looked
        return [index for index in range(-(-self.images // chunk)) if index not in finished]

    def put(self, index: int, position: int, pixels_BHWC: Tensor) -> None:
        """Writes rows in place, then the mark that they are there."""
        with self.pixels.open("r+b") as file:
            file.seek(position * self.image_bytes)
            file.write(pixels_BHWC.numpy().data)
            file.flush()
            os.fsync(file.fileno())
        (self.done / str(index)).touch()

    def finish(self, shape: tuple[int, ...], labels: np.ndarray[Any, Any] | None) -> None:
        """Copies the rows into the npz, which appears under its name when it is whole, and removes the folder."""
        with written_whole(self.out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member, self.pixels.open("rb") as pixels:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                _copy(pixels, member)
            if labels is not None:
                with archive.open("arr_1.npy", "w") as member:
                    np.lib.format.write_array(member, labels, allow_pickle=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(_COPY):
        target.write(block)


def rank() -> int:
    """The number of this process; 0 without torch.distributed."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0


def barrier() -> None:
    """Waits for the other ranks, where there are any."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
