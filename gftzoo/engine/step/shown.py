"""Which weights the pictures, losses and scores of a run are of, and the network with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.step.counting import shown_weights
from gftzoo.engine.step.ema import EMA


class Shown:
    """The average once it reaches back no further than the run, and before, or without one, the raw weights.

    `gftzoo sample` takes the same of a finished run, and says which.
    """

    def __init__(self, config: TrainConfig, ema: EMA | None) -> None:
        self.config, self.ema = config, ema

    def averaged(self, step: int) -> bool:
        """Whether the average is shown after so many steps."""
        return self.ema is not None and self.config.average_counts(step)

    def name(self, step: int) -> str:
        """`ema` or `raw`."""
        return "ema" if self.averaged(step) else "raw"

    def words(self, step: int) -> str:
        """Which weights are shown, and why not the average where it is not shown although there is one."""
        if self.ema is None or self.averaged(step):
            return f"{self.name(step)} weights"
        return f"raw weights (the average reaches back {self.config.average_horizon:,.0f} steps)"

    @contextmanager
    def weights(self, optimizer: torch.optim.Optimizer, step: int) -> Iterator[None]:
        """The network has them for the duration."""
        if self.ema is not None and self.averaged(step):
            with self.ema.swapped_in():
                yield
        else:
            with shown_weights(optimizer):
                yield
