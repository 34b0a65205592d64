"""Drawing images in batches, in bounded memory, each image with a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.errors import GftzooError
from gftzoo.generator import seed_for
from gftzoo.group import gather_to_main, rank_and_world

if TYPE_CHECKING:
    from gftzoo.contract.model import Model


def image_seeds(seed: int, positions: Sequence[int] | range) -> list[int]:
    """The seeds of the images at `positions` of a sampling job; they depend on nothing else."""
    return [seed_for("image", seed, position) for position in positions]


def sample_batches(
    model: Model,
    conditions: Sequence[int | str],
    guidance: Guidance,
    seeds: Sequence[int],
    batch_size: int,
    first: int = 0,
    **settings: Any,
) -> Iterator[Tensor]:
    """Images (b, 3, H, W) in [0, 1], batch after batch; GftzooError if a batch holds a non-finite number.

    `first` is the place in the whole job of the first of them, for the error.
    """
    for start in range(0, len(conditions), batch_size):
        rows = range(start, min(start + batch_size, len(conditions)))
        drawn = range(start, start + batch_size) if model.compiler is not None else rows  # another shape compiles anew
        given = [min(row, rows[-1]) for row in drawn]
        latents = model.sample_latents([conditions[i] for i in given], guidance, [seeds[i] for i in given], **settings)
        latents = latents[: len(rows)]
        if not latents.isfinite().all():
            raise GftzooError(
                f"{model.card.name} produced non-finite latents at images {first + start} to {first + rows[-1]}; "
                "the weights are untrained or diverged (try the other of raw and EMA, or an earlier checkpoint)."
            )
        yield model.decode(latents)


def batches_over_ranks(
    model: Model,
    conditions: Sequence[int | str],
    guidance: Guidance,
    seeds: Sequence[int],
    batch_size: int,
    **settings: Any,
) -> Iterator[Tensor]:
    """The batches of `sample_batches`, drawn by all ranks in turn; the main process alone gets them, on the CPU.

    Every rank must call it with the same arguments, and read it to its end.
    """
    rank, world = rank_and_world()
    if world == 1:
        yield from sample_batches(model, conditions, guidance, seeds, batch_size, **settings)
        return
    for first in range(0, len(conditions), world * batch_size):
        start = first + rank * batch_size
        rows = slice(start, start + batch_size)
        mine = list(sample_batches(model, conditions[rows], guidance, seeds[rows], batch_size, start, **settings))
        for batch in gather_to_main(mine[0].cpu() if mine else None):
            if batch is not None:
                yield batch
