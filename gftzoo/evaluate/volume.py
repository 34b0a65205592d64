"""Images by the ten thousands into one npz of ADM's layout: bounded memory, over ranks, resumable.

While it grows, `x.npz` is a folder `x.npz.partial/`: job.json says what is being drawn, images.u8 holds the rows in
place, done/ one empty file per finished chunk. A chunk is a run of positions; image i depends on (seed, i) only, so a
job may go on with any number of ranks and gives the same file. ADM's layout: arr_0 (N, H, W, 3) uint8, arr_1 labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gftzoo.contract.guidance import Guidance
from gftzoo.evaluate.images import to_uint8
from gftzoo.evaluate.npz_job import NpzJob, barrier, rank
from gftzoo.evaluate.subjects import subject_of
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches


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
        GftzooError: a non-finite image, or the disk is full, has no room for all or is not writable; what is drawn
            stays.
    """
    side = model.card.resolution
    job = NpzJob(out, len(conditions), side * side * 3)
    identity = _identity(model, conditions, guidance, seed, batch_size, settings or {})
    with job.kept_on_failure():
        for index, positions in job.share(identity):
            rows, seeds = [conditions[position] for position in positions], image_seeds(seed, positions)
            batches = sample_batches(model, rows, guidance, seeds, batch_size, **dict(settings or {}))
            job.put(index, positions.start, to_uint8(torch.cat(list(batches))).permute(0, 2, 3, 1).contiguous())
            if on_batch is not None:
                on_batch(len(rows))
        barrier()
        if rank() == 0:
            job.finish((len(conditions), side, side, 3), _labels(model, conditions))
        barrier()
    return out


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
