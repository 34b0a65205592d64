"""The loss on images that training does not see, at every checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.model import Model as AnyModel
from gftzoo.contract.objective import Objective
from gftzoo.contract.problem import Problem
from gftzoo.data import Layout, Source, open_source, training_data
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.record.best import Best
from gftzoo.engine.record.progress import METRICS
from gftzoo.engine.step.module import TrainingModel
from gftzoo.engine.step.shown import Shown
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator, seed_for
from gftzoo.gft import GFT
from gftzoo.group import is_main_process
from gftzoo.model import Model

BETAS = (1.0, 0.66, 0.33)  # from the plain conditional loss down
HELD_OUT = "held-out"


class AtBeta(GFT):
    """Guidance-Free Training at one temperature, no condition dropped."""

    def __init__(self, beta: float) -> None:
        super().__init__(GFT.Options())
        self.beta = beta

    def loss(self, model: AnyModel, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        beta_B = torch.full((len(condition),), self.beta, device=condition.device)
        return self.loss_at(model, problem, condition, beta_B, torch.zeros_like(beta_B, dtype=torch.bool))


def open_held_out(config: TrainConfig) -> Source:
    """The images that a run is validated on; UsageError where its data has none, or other classes or conditions."""
    assert config.validation is not None
    if config.validation == HELD_OUT:
        source = open_source(config.data, "held-out")
    else:
        source = open_source(config.validation, "all")
    names = tuple(source.class_names)
    if source.streamed:
        raise UsageError(f"validation {config.validation!r} is a stream, which has no fixed images; name a folder.")
    if source.condition != config.card.condition:
        raise UsageError(
            f"{config.model} is conditioned on {config.card.condition} and validation {config.validation!r} offers "
            f"{source.condition}."
        )
    if config.card.condition == "class" and config.card.class_names and names != config.card.class_names:
        raise UsageError(
            f"validation {config.validation!r} has the classes {', '.join(names[:5])}, and the data has "
            f"{', '.join(config.card.class_names[:5])}; give it the same ones."
        )
    source.check(config.card)
    return source


class Validation:
    """The losses of a model on fixed images with fixed draws, so that two of them differ by the weights alone."""

    def __init__(self, config: TrainConfig, model: Model, objective: Objective, source: Source) -> None:
        self.config, self.model = config, model
        count = min(len(source), config.validation_images)
        self.keys = [(place * len(source) // count, place) for place in range(count)]
        self.size = min(count, max(config.batch_size // config.accumulate, 1))
        channels = model.card.tokenizer.image_channels
        layout = Layout(1, 1, self.size)
        self.data: Any = training_data(source, model.card.resolution, channels, config.seed, False, layout)[0]
        self.objectives: dict[str, Objective] = {"": objective}
        if isinstance(objective, GFT):
            self.objectives = {f"beta {beta:g}": AtBeta(beta) for beta in BETAS}

    @torch.no_grad()
    def losses(self, half: torch.dtype | None) -> dict[str, float]:
        """The mean loss of every temperature, or the objective's own; the network's mode stays what it was."""
        network, was_training = self.model.network, self.model.network.training
        network.eval()
        try:
            with torch.autocast(self.model.device.type, half, enabled=half is not None):
                return {name: self._mean(objective) for name, objective in self.objectives.items()}
        finally:
            network.train(was_training)

    def _mean(self, objective: Objective) -> float:
        trained = TrainingModel(self.model, objective, seed_for("validation", self.config.seed) % 2**32)
        trained.eval()
        total = 0.0
        for start in range(0, len(self.keys), self.size):
            batch = self.data.__getitems__(self.keys[start : start + self.size])
            batch.pop("problems", None)
            total += float(trained(**batch)) * len(batch["position"])
        return total / len(self.keys)


class ValidationHook(Hook):
    """Measures at every checkpoint, behind its saving.

    With `best` it decides which checkpoint that is, and when a run that gets no better ends.
    """

    priority = "VERY_LOW"

    def __init__(self, validation: Validation, run: Path, shown: Shown, best: Best | None) -> None:
        self.validation, self.config, self.run = validation, validation.config, run
        self.shown, self.best = shown, best

    def before_train(self, runner: Any) -> None:
        if self.best is not None:
            self.best.take_up(runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter + 1
        if not self.config.saves_at(step):
            return
        mean = self._measure(runner, step) if is_main_process() else None
        if self.best is not None:
            self.best.judge(runner, step, mean)

    def _measure(self, runner: Any, step: int) -> float:
        with self.shown.weights(runner.optim_wrapper.optimizer, step):
            found = self.validation.losses(runner.optim_wrapper.dtype)
        numbers = {f"validation.{name}".rstrip("."): float(f"{value:.6g}") for name, value in found.items()}
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        runner.visualizer.add_scalars(numbers, step=step)
        told = "  ".join(f"{name} {value:.4f}".strip() for name, value in found.items())
        runner.logger.info(f"step {step}/{self.config.steps}  validation ({self.shown.name(step)})  {told}")
        return sum(found.values()) / len(found)
