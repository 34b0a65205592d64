"""The most that one command takes on; past it an option is refused before memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

MOST_IMAGES = 10_000_000  # of one `sample` or `evaluate`; more are several commands with other seeds
MOST_STEPS = 100_000  # of a sampler
MOST_IN_BATCH = 65_536  # images of one forward pass
LARGEST_SEED = 2**32 - 1
MOST_GRID_PIXELS = 2**25  # of a .png, which is put together in memory: 512 images of 256 px
PROMPT_FILE_BYTES = 64 * 2**20
MOST_GPUS = 65_536  # of a plan

IMAGES = click.IntRange(1, MOST_IMAGES)
SCORED_IMAGES = click.IntRange(2, MOST_IMAGES)
STEPS = click.IntRange(1, MOST_STEPS)
BATCH = click.IntRange(1, MOST_IN_BATCH)
SEED = click.IntRange(0, LARGEST_SEED)
PRICE = click.FloatRange(0, 1e9)


class ShareOrRows(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks alone
    """A share in (0, 1], or the file of rows in which it was measured."""

    name = "SHARE|CSV"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Path:
        try:
            share = float(value)
        except ValueError:
            path: Path = click.Path(path_type=Path, exists=True, dir_okay=False).convert(value, param, ctx)
            return path
        return click.FloatRange(0, 1, min_open=True).convert(share, param, ctx)
