"""The pictures of a run: a grid every so many steps, and a strip over the temperature at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from gftzoo.engine.record.steering import guidance_at, strength_name, strengths, usual_strength
from gftzoo.engine.step.shown import Shown
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches


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
        shown: Shown,
        conditions: list[Any],
        at_once: Callable[[Model], int] = lambda _: 64,
    ) -> None:
        self.config, self.run, self.model, self.shown = config, run, model, shown
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
                guidance = guidance_at(self.model, usual_strength(self.model))
                drawn = self._draw(runner, guidance, self.rows, step)
                sheet = self._save_sheet(self._path(step), drawn, guidance, step)
                runner.visualizer.add_image("samples", np.asarray(sheet), step)

    def after_train(self, runner: Any) -> None:
        if not is_main_process() or not runner.train_loop.complete:
            return
        with told(runner, self.run / "samples"):
            self._draw_final(runner)

    def _draw_final(self, runner: Any) -> None:
        values, name = strengths(self.model), strength_name(self.model)
        guidances = [guidance_at(self.model, value) for value in values]
        different = dict(zip(guidances, values, strict=True))
        rows = [(captions.steered(guidance), self._draw(runner, guidance, 1, runner.iter)) for guidance in different]
        for (guidance, value), (_, drawn) in zip(different.items(), rows, strict=True):
            self._save_sheet(self.run / "samples" / f"{name}-{value:g}.png", drawn, guidance, runner.iter)
        asked = [captions.asked(self.model.card, condition) for condition in self._conditions(1)]
        below = [f"{each}\nseed 0 #{index}" for index, each in enumerate(asked)]
        strip = self.run / "samples" / f"{name}-strip.png"
        shown = pictures.labelled_rows(rows, self.columns, below, self._title(runner.iter))
        pictures.save(shown, strip)
        best, final = guidances[2], self.run / FINAL_PICTURE
        self._save_sheet(final, self._draw(runner, best, self.rows, runner.iter), best, runner.iter)
        runner.visualizer.add_image(f"over {name}", np.asarray(shown), runner.iter)
        runner.logger.info(
            f"samples ({self.shown.words(runner.iter)}, {captions.steered(best)}): {final}; over {name}: {strip}"
        )

    def _save_sheet(self, path: Path, drawn: torch.Tensor, guidance: Guidance, step: int) -> Image.Image:
        card, asked = self.model.card, enumerate(self._conditions(len(drawn) // self.columns))
        below = [captions.caption(card, condition, guidance, 0, index) for index, condition in asked]
        title = f"{self._title(step)}, {captions.steered(guidance)}"
        sheet = pictures.grid(drawn, self.columns, below, title)
        pictures.save(sheet, path)
        return sheet

    def _title(self, step: int) -> str:
        return f"{self.run.name}, step {step:,}, {self.shown.words(step)}"

    def _conditions(self, rows: int) -> list[Any]:
        return [self.conditions[i % len(self.conditions)] for i in range(self.columns)] * rows

    def _draw(self, runner: Any, guidance: Guidance, rows: int, step: int) -> torch.Tensor:
        wanted = self._conditions(rows)
        seeds = image_seeds(0, range(len(wanted)))
        with self.shown.weights(runner.optim_wrapper.optimizer, step):
            return torch.cat(list(sample_batches(self.model, wanted, guidance, seeds, self.at_once(self.model))))
