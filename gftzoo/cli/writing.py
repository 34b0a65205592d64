"""Images as they are drawn, into a grid, a folder or an npz; with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from gftzoo import pictures
from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.cli import limits
from gftzoo.contract.guidance import Guidance
from gftzoo.errors import UsageError
from gftzoo.evaluate.volume import write_npz
from gftzoo.model import Model
from gftzoo.printing import plain
from gftzoo.sampling import image_seeds, sample_batches


def write_images(
    model: Model,
    conditions: list[int | str],
    guidance: Guidance,
    out: Path,
    seed: int,
    batch_size: int,
    settings: dict[str, Any],
) -> None:
    """Draws batch after batch and writes a grid, a folder of PNGs or an ADM-style npz (resumable)."""
    if out.suffix not in (".png", ".npz", ""):
        raise UsageError(f"--out {str(out)!r} must end in .png or .npz, or name a folder.")
    if (out.is_dir() or not out.suffix) and not is_free(out):
        raise UsageError(f"folder {str(out)!r} holds something already, which would mix with these; name a new one.")
    pixels = len(conditions) * model.card.resolution**2
    if out.suffix == ".png" and pixels > limits.MOST_GRID_PIXELS:
        most = limits.MOST_GRID_PIXELS // model.card.resolution**2
        raise UsageError(f"{len(conditions):,} images are too many for one .png ({most:,}); --out a folder or an .npz.")
    with progress_bar("sampling", len(conditions)) as advance:
        if out.suffix == ".npz":
            common = {"seed": seed, "batch_size": batch_size}
            write_npz(model, conditions, guidance, out, settings=settings, on_batch=advance, **common)
            return
        seeds = image_seeds(seed, range(len(conditions)))
        batches = sample_batches(model, conditions, guidance, seeds, batch_size, **settings)
        if out.suffix == ".png":
            done: list[torch.Tensor] = []
            for images in batches:
                advance(len(images))
                done.append(images)
            pictures.save(pictures.grid(torch.cat(done), columns=min(len(conditions), 10)), out)
            return
        start = 0
        with folder_written_whole(out) as folder:
            for images in batches:
                advance(len(images))
                pictures.save_folder(images, folder, start)
                start += len(images)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields the function that moves it on."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(escape(plain(what, 60)), total=total)
        yield lambda count: progress.advance(task, count)
