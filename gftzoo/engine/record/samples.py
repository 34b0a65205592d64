"""The pictures of a run: a grid every so many steps, and a strip over the temperature at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gftzoo import pictures
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.record.folder import FINAL_PICTURE
from gftzoo.engine.step.ema import EMA
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches

STRIP_BETAS = (1.0, 0.8, 0.66, 0.5, 0.33)
STRIP_SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)


@contextmanager
def told(runner: Any, path: Path) -> Iterator[None]:
    """A picture that fails is told of; the run, which has hours in it, goes on."""
    try:
        yield
    except (GftzooError, OSError) as error:
        runner.logger.warning(f"no samples in {str(path)!r}: {error}")


class SampleHook(Hook):
    """Draws a grid every N steps and, at the end, a strip over the temperature (or the CFG scale)."""

    priority = "LOWEST"

    def __init__(self, config: TrainConfig, run: Path, model: Model, ema: EMA | None, conditions: list[Any]) -> None:
        self.config, self.run, self.model, self.ema = config, run, model, ema
        self.conditions = conditions
        self.rows, self.columns = config.sample_grid

    def before_train(self, runner: Any) -> None:
        """Draws what a run that was killed between a checkpoint and its picture did not."""
        if not self._path(runner.iter).exists():
            self._draw_step(runner, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._draw_step(runner, runner.iter + 1)

    def _path(self, step: int) -> Path:
        return self.run / "samples" / f"step-{step:08d}.png"

    def _draw_step(self, runner: Any, step: int) -> None:
        if is_main_process() and step % self.config.sample_every == 0 and 0 < step < self.config.steps:
            with told(runner, self._path(step)):
                drawn = self._draw(self._strengths()[3], self.rows, step)
                pictures.save(pictures.grid(drawn, self.columns), self._path(step))

    def after_train(self, runner: Any) -> None:
        if not is_main_process() or runner.iter < self.config.steps:
            return
        with told(runner, self.run / "samples"):
            self._draw_final(runner)

    def _draw_final(self, runner: Any) -> None:
        rows = [(f"{self._label()} {value:g}", self._draw(value, 1, runner.iter)) for value in self._strengths()]
        strip = self.run / "samples" / f"{self._label()}-strip.png"
        pictures.save(pictures.labelled_rows(rows, self.columns), strip)
        best = self._strengths()[2]
        final = self.run / FINAL_PICTURE
        pictures.save(pictures.grid(self._draw(best, self.rows, runner.iter), self.columns), final)
        weights = "EMA" if self._averaged(runner.iter) else "raw"
        runner.logger.info(
            f"samples ({weights} weights, {self._label()} {best:g}): {final}; over {self._label()}: {strip}"
        )

    def _label(self) -> str:
        return "beta" if self.model.card.temperature else "cfg"

    def _strengths(self) -> tuple[float, ...]:
        return STRIP_BETAS if self.model.card.temperature else STRIP_SCALES

    def _averaged(self, step: int) -> bool:
        """The average is used once it reaches back no further than the run."""
        return self.ema is not None and self.ema.horizon() <= step

    def _draw(self, strength: float, rows: int, step: int) -> torch.Tensor:
        steer = self.model.guidance
        guidance = steer(beta=strength) if self.model.card.temperature else steer(cfg=strength)
        wanted = [self.conditions[i % len(self.conditions)] for i in range(self.columns)] * rows
        seeds = image_seeds(0, range(len(wanted)))
        if self.ema is not None and self._averaged(step):
            with self.ema.swapped_in():
                return torch.cat(list(sample_batches(self.model, wanted, guidance, seeds, len(wanted))))
        return torch.cat(list(sample_batches(self.model, wanted, guidance, seeds, len(wanted))))
