"""The pictures of a run: a grid every so many steps, and a strip over the temperature at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gftzoo import captions, pictures
from gftzoo.contract.guidance import Guidance
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
        runner.logger.warning(f"nothing drawn in {str(path)!r}: {error}")


class SampleHook(Hook):
    """Draws a grid every N steps and, at the end, a strip over the temperature (or the CFG scale)."""

    priority = "LOWEST"

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        model: Model,
        ema: EMA | None,
        conditions: list[Any],
        at_once: Callable[[Model], int] = lambda _: 64,
    ) -> None:
        self.config, self.run, self.model, self.ema = config, run, model, ema
        self.conditions, self.at_once = conditions, at_once
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
                guidance = self._guidance(self._strengths()[3])
                sheet = self._save_sheet(self._path(step), self._draw(guidance, self.rows, step), guidance, step)
                runner.visualizer.add_image("samples", np.asarray(sheet), step)

    def after_train(self, runner: Any) -> None:
        if not is_main_process() or runner.iter < self.config.steps:
            return
        with told(runner, self.run / "samples"):
            self._draw_final(runner)

    def _draw_final(self, runner: Any) -> None:
        guidances = [self._guidance(value) for value in self._strengths()]
        different = dict(zip(guidances, self._strengths(), strict=True))
        rows = [(captions.steered(guidance), self._draw(guidance, 1, runner.iter)) for guidance in different]
        for (guidance, value), (_, drawn) in zip(different.items(), rows, strict=True):
            self._save_sheet(self.run / "samples" / f"{self._label()}-{value:g}.png", drawn, guidance, runner.iter)
        asked = [captions.asked(self.model.card, condition) for condition in self._conditions(1)]
        below = [f"{name}\nseed 0 #{index}" for index, name in enumerate(asked)]
        strip = self.run / "samples" / f"{self._label()}-strip.png"
        shown = pictures.labelled_rows(rows, self.columns, below, self._title(runner.iter))
        pictures.save(shown, strip)
        best, final = guidances[2], self.run / FINAL_PICTURE
        self._save_sheet(final, self._draw(best, self.rows, runner.iter), best, runner.iter)
        runner.visualizer.add_image(f"over {self._label()}", np.asarray(shown), runner.iter)
        runner.logger.info(
            f"samples ({self._weights(runner.iter)}, {captions.steered(best)}): {final}; over {self._label()}: {strip}"
        )

    def _save_sheet(self, path: Path, drawn: torch.Tensor, guidance: Guidance, step: int) -> Image.Image:
        card, asked = self.model.card, enumerate(self._conditions(len(drawn) // self.columns))
        below = [captions.caption(card, condition, guidance, 0, index) for index, condition in asked]
        title = f"{self._title(step)}, {captions.steered(guidance)}"
        sheet = pictures.grid(drawn, self.columns, below, title)
        pictures.save(sheet, path)
        return sheet

    def _title(self, step: int) -> str:
        return f"{self.run.name}, step {step:,}, {self._weights(step)}"

    def _weights(self, step: int) -> str:
        """Which weights are shown, and why not the average where it is not shown although there is one."""
        if self.ema is None:
            return "raw weights"
        late = f"raw weights (the average reaches back {self.config.average_horizon:,.0f} steps)"
        return "ema weights" if self.config.average_counts(step) else late

    def _label(self) -> str:
        return "beta" if self.model.card.temperature else "cfg"

    def _strengths(self) -> tuple[float, ...]:
        if self.model.baked_beta is not None:  # there is one strength, and guidance on top would be another
            return (1.0,) * len(STRIP_SCALES)
        return STRIP_BETAS if self.model.card.temperature else STRIP_SCALES

    def _guidance(self, strength: float) -> Guidance:
        steer = self.model.guidance
        return steer(beta=strength) if self.model.card.temperature else steer(cfg=strength)

    def _conditions(self, rows: int) -> list[Any]:
        return [self.conditions[i % len(self.conditions)] for i in range(self.columns)] * rows

    def _draw(self, guidance: Guidance, rows: int, step: int) -> torch.Tensor:
        wanted = self._conditions(rows)
        seeds = image_seeds(0, range(len(wanted)))
        averaged = self.ema is not None and self.config.average_counts(step)
        with self.ema.swapped_in() if self.ema is not None and averaged else nullcontext():
            return torch.cat(list(sample_batches(self.model, wanted, guidance, seeds, self.at_once(self.model))))
