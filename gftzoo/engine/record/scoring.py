"""A score of samples against held-out images, every so many steps of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.record.best import Best
from gftzoo.engine.record.progress import METRICS
from gftzoo.engine.record.steering import guidance_at, usual_strength
from gftzoo.engine.step.shown import Shown
from gftzoo.errors import GftzooError
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.protocol import Protocol, choose_protocol
from gftzoo.evaluate.references import check_reference
from gftzoo.group import is_main_process, rank_and_world
from gftzoo.model import Model

PROTOCOL = "embedded"


def protocol_of(config: TrainConfig) -> Protocol:
    """How a run is scored while it trains; UsageError where it has nothing to be compared with."""
    wanted = config.score
    chosen = choose_protocol(
        PROTOCOL,
        config.card,
        features=wanted.features,
        reference=wanted.reference,
        images=wanted.images,
        few=True,  # the scores of a run are compared with each other
    )
    check_reference(chosen.reference)
    return chosen


class ScoreHook(Hook):
    """Scores as `gftzoo evaluate` does, behind the saving of the checkpoint, and keeps a record in `scores/`.

    Images, their seeds and the guidance are the same every time. Ranks share the drawing.
    """

    priority = "VERY_LOW"

    def __init__(
        self, config: TrainConfig, run: Path, model: Model, shown: Shown, best: Best, at_once: Callable[[Model], int]
    ) -> None:
        self.config, self.run, self.model, self.shown, self.best = config, run, model, shown, best
        self.at_once = at_once
        model.require_tokenizer()
        self.evaluator = Evaluator(protocol_of(config), device=model.device, resolution=model.card.resolution)
        strength = config.score.strength
        self.guidance = guidance_at(model, usual_strength(model) if strength is None else strength)

    def before_train(self, runner: Any) -> None:
        self.best.take_up(runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter + 1
        if self.config.scores_at(step):
            self.best.judge(runner, step, self._score(runner, step))

    def _score(self, runner: Any, step: int) -> float:
        """The distance of the samples of that step, told of and recorded by the main process."""
        try:
            with self.shown.weights(runner.optim_wrapper.optimizer, step):
                record = self.evaluator.score_model(
                    self.model, self.guidance, batch_size=self.at_once(self.model), objective=self.config.objective
                )
        except GftzooError as error:
            if rank_and_world()[1] > 1:  # the others wait for this one
                raise
            runner.logger.warning(f"no score at step {step}: {error}")
            return math.inf
        found = record.scores.frechet
        if is_main_process():
            record.write(self.run / "scores" / f"step-{step:08d}.json")
            name = record.measure.distance_name
            with (self.run / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, f"score.{name}": float(f"{found:.6g}")}) + "\n")
            runner.visualizer.add_scalars({f"score/{name}": found}, step=step)
            runner.logger.info(
                f"step {step}/{self.config.steps}  {name} {found:.4g} of {record.measure.images} images "
                f"({self.shown.name(step)}), {self.evaluator.reference.name}"
            )
        return found
