"""Images as they are drawn, onto a contact sheet, into a folder or an npz; with a bar on a terminal."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from torch import Tensor

from gftzoo import captions, pictures
from gftzoo.atomic import folder_written_whole, is_free
from gftzoo.cli import limits
from gftzoo.cli.ranks import first_rank
from gftzoo.contract.guidance import Guidance
from gftzoo.errors import UsageError
from gftzoo.evaluate.volume import write_npz
from gftzoo.group import is_main_process, rank_positions
from gftzoo.model import Model
from gftzoo.printing import plain
from gftzoo.sampling import batches_over_ranks, image_seeds

COLUMNS = 10  # of a contact sheet, at most


@dataclass(frozen=True)
class Drawing:
    """Images that are to be drawn: of which model, of what, and how.

    Attributes:
        settings: of the sampler.
    """

    model: Model
    conditions: list[int | str]
    guidance: Guidance
    seed: int
    batch_size: int
    settings: Mapping[str, Any]

    def batches(self, advance: Callable[[int], None]) -> Iterator[Tensor]:
        """The images in batches, drawn by all ranks and given to the first; `advance` is told of each."""
        seeds = image_seeds(self.seed, range(len(self.conditions)))
        for images in batches_over_ranks(
            self.model, self.conditions, self.guidance, seeds, self.batch_size, **self.settings
        ):
            advance(len(images))
            yield images

    def captions(self) -> list[str]:
        """What is written below each image."""
        card, asked = self.model.card, enumerate(self.conditions)
        return [captions.caption(card, condition, self.guidance, self.seed, index) for index, condition in asked]

    def about(self, first: int, count: int, shared: Mapping[str, str]) -> list[dict[str, str]]:
        """What the files of images from `first` on say of them; `shared` is what all of the model say."""
        asked = enumerate(self.conditions[first : first + count], first)
        return [
            {**shared, **captions.about_image(self.model.card, condition, self.guidance, self.seed, index)}
            for index, condition in asked
        ]


def write_images(drawing: Drawing, out: Path, each: bool = False) -> None:
    """Draws batch after batch and writes a contact sheet, a folder of PNGs or an ADM-style npz (resumable).

    With `each` a sheet gets a folder beside it, named as it is without `.png`, with a PNG for each image.
    """
    _refuse(drawing, out, each)
    if out.suffix == ".npz":
        with progress_bar("sampling", len(rank_positions(len(drawing.conditions)))) as advance:
            _write_npz(drawing, out, advance)
        return
    with progress_bar("sampling", len(drawing.conditions)) as advance:
        if not is_main_process():
            deque(drawing.batches(advance), maxlen=0)  # drawn here, and written there
        elif out.suffix == ".png":
            _write_sheet(drawing, out, each, advance)
        else:
            _write_folder(drawing, out, advance)


def _refuse(drawing: Drawing, out: Path, each: bool) -> None:
    """UsageError for a place that cannot take the images."""
    if out.suffix not in (".png", ".npz", ""):
        raise UsageError(f"--out {str(out)!r} must end in .png or .npz, or name a folder.")
    if each and out.suffix != ".png":
        raise UsageError(f"--each goes with a .png; --out {str(out)!r} holds each image by itself already.")
    folder = out.with_suffix("") if each else out
    if (each or folder.is_dir() or not folder.suffix) and not is_free(folder):
        raise UsageError(f"folder {str(folder)!r} holds something already, which would mix with these; name a new one.")
    pixels = pictures.side_on_sheet(drawing.model.card.resolution) ** 2
    count, most = len(drawing.conditions), limits.MOST_GRID_PIXELS // pixels
    if out.suffix == ".png" and count > most:
        raise UsageError(f"{count:,} images are too many for one .png ({most:,}); --out a folder or an .npz.")


def _write_npz(drawing: Drawing, out: Path, advance: Callable[[int], None]) -> None:
    write_npz(
        drawing.model,
        drawing.conditions,
        drawing.guidance,
        out,
        seed=drawing.seed,
        batch_size=drawing.batch_size,
        settings=dict(drawing.settings),
        on_batch=advance,
    )


def _write_sheet(drawing: Drawing, out: Path, each: bool, advance: Callable[[int], None]) -> None:
    shared = captions.about_model(drawing.model)
    done: list[Tensor] = []
    with folder_written_whole(out.with_suffix("")) if each else nullcontext() as folder:
        for images in drawing.batches(advance):
            if folder is not None:
                first = sum(map(len, done))
                pictures.save_folder(images, folder, first, drawing.about(first, len(images), shared))
            done.append(images.cpu())
        model = drawing.model
        title = f"{model.card.name}, {captions.steered(drawing.guidance)}, {model.weights_in_words}"
        sheet = pictures.grid(torch.cat(done), min(len(drawing.conditions), COLUMNS), drawing.captions(), title)
        pictures.save(sheet, out, {**shared, "guidance": captions.steered(drawing.guidance), "seed": str(drawing.seed)})


def _write_folder(drawing: Drawing, out: Path, advance: Callable[[int], None]) -> None:
    shared = captions.about_model(drawing.model)
    start = 0
    with folder_written_whole(out) as folder:
        for images in drawing.batches(advance):
            pictures.save_folder(images, folder, start, drawing.about(start, len(images), shared))
            start += len(images)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, of the first rank alone, nothing elsewhere; yields the function that moves it on."""
    shown = sys.stderr.isatty() and first_rank()
    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as progress:
        task = progress.add_task(escape(plain(what, 60)), total=total)
        yield lambda count: progress.advance(task, count)
