"""Drawing images in batches, in bounded memory, each image with a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.errors import GftzooError
from gftzoo.generator import seed_for

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
    **settings: Any,
) -> Iterator[Tensor]:
    """Images (b, 3, H, W) in [0, 1], batch after batch; GftzooError if a batch holds a non-finite number."""
    for start in range(0, len(conditions), batch_size):
        rows = slice(start, start + batch_size)
        latents = model.sample_latents(conditions[rows], guidance, seeds[rows], **settings)
        if not latents.isfinite().all():
            raise GftzooError(
                f"{model.card.name} produced non-finite latents at images {start} to {start + len(latents) - 1}; "
                "the weights are untrained or diverged (try the other of raw and EMA, or an earlier checkpoint)."
            )
        yield model.decode(latents)
