"""Images by the ten thousands into one npz of ADM's layout: bounded memory, over ranks, resumable.

While it grows, `x.npz` is a folder `x.npz.partial/`: job.json says what is being drawn, images.u8 holds the rows in
place, done/ one empty file per finished chunk. A chunk is a run of positions; image i depends on (seed, i) only, so a
job may go on with any number of ranks and gives the same file. ADM's layout: arr_0 (N, H, W, 3) uint8, arr_1 labels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.images import to_uint8
from gftzoo.evaluate.protocol import rank_positions, subject_of
from gftzoo.guidance import Guidance
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches

_COPY = 16 * 2**20  # bytes moved at a time


def write_npz(
    model: Model,
    conditions: Sequence[int | str],
    guidance: Guidance,
    out: Path,
    *,
    seed: int = 0,
    batch_size: int = 64,
    settings: Mapping[str, Any] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Path:
    """Draws one image per condition and writes them to `out`; called again after a stop, it goes on.

    Args:
        model: with its tokenizer, on its device.
        conditions: class indices or names, or prompts (then there is no arr_1).
        guidance: how the sampler is steered.
        out: the npz; every rank calls with the same path, on a file system that all ranks see.
        seed: image i is a function of (seed, i), whatever batch size and ranks.
        batch_size: images a forward pass; also the chunk of a resumed job, which keeps its first one.
        settings: of the family's sampler.
        on_batch: called with the number of images drawn by this rank after each batch, for progress.

    Raises:
        UsageError: `out` is there already, or its partial folder belongs to another job.
        GftzooError: a non-finite image, or the disk is full or not writable; what is drawn stays.
    """
    if out.exists():
        raise UsageError(f"{str(out)!r} exists already; remove it or give another --out.")
    side = model.card.resolution
    job = _Job(out.with_name(f"{out.name}.partial"), len(conditions), side * side * 3)
    identity = _identity(model, conditions, guidance, seed, batch_size, settings or {})
    try:
        for index, positions in job.share(identity):
            rows, seeds = [conditions[position] for position in positions], image_seeds(seed, positions)
            images_BCHW = next(sample_batches(model, rows, guidance, seeds, len(rows), **dict(settings or {})))
            job.put(index, positions.start, to_uint8(images_BCHW).permute(0, 2, 3, 1).contiguous())
            if on_batch is not None:
                on_batch(len(rows))
        _barrier()
        if _rank() == 0:
            job.finish(out, (len(conditions), side, side, 3), _labels(model, conditions))
        _barrier()
    except OSError as error:
        raise GftzooError(
            f"{str(out)!r} could not be written ({error.strerror or error}); what is drawn so far is kept in "
            f"{str(job.folder)!r}, and the same command goes on from there."
        ) from error
    return out


class _Job:
    """The partial folder of a growing npz."""

    def __init__(self, folder: Path, images: int, image_bytes: int) -> None:
        self.folder, self.images, self.image_bytes = folder, images, image_bytes
        self.pixels, self.done = folder / "images.u8", folder / "done"

    def share(self, identity: dict[str, Any]) -> Iterator[tuple[int, range]]:
        """The chunks that this rank is to draw, with their positions, of those that are missing."""
        chunk = self._start(identity)
        missing = self._missing(chunk)
        for index in (missing[i] for i in rank_positions(len(missing))):
            yield index, range(index * chunk, min((index + 1) * chunk, self.images))

    def _start(self, identity: dict[str, Any]) -> int:
        """Creates the folder or takes up the one there is; returns the chunk size. UsageError for another job's."""
        if _rank() == 0 and not (self.folder / "job.json").is_file():
            self.done.mkdir(parents=True, exist_ok=True)
            with self.pixels.open("wb") as file:
                file.truncate(self.images * self.image_bytes)
            text = json.dumps(identity, indent=1, sort_keys=True)
            partial = self.folder / "job.json.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.folder / "job.json")
        _barrier()
        found: dict[str, Any] = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        chunk = int(found["chunk"])
        wanted = json.loads(json.dumps({**identity, "chunk": chunk}))
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UsageError(
                    f"{str(self.folder)!r} belongs to another job ({key} is {found.get(key)!r} there and {value!r} "
                    "here); remove it or give another --out."
                )
        return chunk

    def _missing(self, chunk: int) -> list[int]:
        """The chunks that are not drawn yet; the same on every rank."""
        finished = {int(path.name) for path in self.done.iterdir()}
        _barrier()  # nobody marks a chunk before everybody has looked
        return [index for index in range(-(-self.images // chunk)) if index not in finished]

    def put(self, index: int, position: int, pixels_BHWC: Tensor) -> None:
        """Writes rows in place, then the mark that they are there."""
        with self.pixels.open("r+b") as file:
            file.seek(position * self.image_bytes)
            file.write(pixels_BHWC.numpy().data)
            file.flush()
            os.fsync(file.fileno())
        (self.done / str(index)).touch()

    def finish(self, out: Path, shape: tuple[int, ...], labels: np.ndarray[Any, Any] | None) -> None:
        """Copies the rows into the npz, which appears under its name when it is whole, and removes the folder."""
        partial = self.folder / "whole.npz"
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member, self.pixels.open("rb") as pixels:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                _copy(pixels, member)
            if labels is not None:
                with archive.open("arr_1.npy", "w") as member:
                    np.lib.format.write_array(member, labels, allow_pickle=False)
        partial.replace(out)
        shutil.rmtree(self.folder)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(_COPY):
        target.write(block)


def _identity(
    model: Model,
    conditions: Sequence[int | str],
    guidance: Guidance,
    seed: int,
    batch_size: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides the images of a job, plain data."""
    subject = subject_of(model, guidance, settings, seed).model_dump(mode="json", exclude={"device"})
    plan = hashlib.sha256(json.dumps(list(conditions)).encode()).hexdigest()
    return {**subject, "images": len(conditions), "conditions_sha256": plan, "chunk": batch_size}


def _labels(model: Model, conditions: Sequence[int | str]) -> np.ndarray[Any, Any] | None:
    if model.card.condition != "class":
        return None
    return np.array([model.card.class_index(condition) for condition in conditions], dtype=np.int64)


def _rank() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0


def _barrier() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
