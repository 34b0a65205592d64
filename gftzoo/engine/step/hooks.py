"""What is part of every step, as mmengine hooks: schedule and average."""

from __future__ import annotations

from typing import Any

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.schedule import values_at


class ScheduleHook(Hook):
    """Sets learning rate and weight decay before each step."""

    priority = "VERY_HIGH"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        rate, decay = values_at(self.config, runner.iter)
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
            if group["weight_decay"] > 0:
                group["weight_decay"] = decay


class EMAHook(Hook):
    """Moves the average after each step."""

    priority = "HIGH"

    def __init__(self, ema: EMA) -> None:
        self.ema = ema

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.ema.update(runner.iter)


def step_hooks(config: TrainConfig, ema: EMA | None) -> list[Hook]:
    """The hooks that are part of every step."""
    return [ScheduleHook(config), *([EMAHook(ema)] if ema is not None else [])]
