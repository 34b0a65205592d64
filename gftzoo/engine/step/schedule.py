"""Learning rate and weight decay as pure functions of the optimizer step, so that a resumed run needs no state."""

from __future__ import annotations

import math

from gftzoo.catalogue.cards import LearningRate
from gftzoo.engine.config import TrainConfig

COMPARED = 1000  # steps at which two schedules are compared


def learning_rate_factor(schedule: LearningRate, step: int, steps: int) -> float:
    """The share of the base learning rate at `step` (0-based) of a run of `steps`.

    After the horizon the rate stays at its last value, except that `cosine` follows torch's CosineAnnealingLR only to
    its minimum.
    """
    if step < schedule.warmup:
        return schedule.warmup_from + (1.0 - schedule.warmup_from) * (step + 1) / schedule.warmup
    horizon = schedule.horizon or steps
    progress = min((step - schedule.warmup) / max(horizon - schedule.warmup, 1), 1.0)
    if schedule.kind == "cosine":
        return schedule.final + (1.0 - schedule.final) * (1.0 + math.cos(math.pi * progress)) / 2.0
    if schedule.kind == "linear-tail":
        tail = max(progress - schedule.hold, 0.0) / (1.0 - schedule.hold)
        return 1.0 - (1.0 - schedule.final) * tail
    return 1.0


def weight_decay_at(start: float, end: float | None, step: int, steps: int) -> float:
    """Weight decay at `step`: constant, or on a half cosine from `start` to `end` over `steps`, then `end` (VAR)."""
    if end is None:
        return start
    progress = min(step / max(steps - 1, 1), 1.0)
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def values_at(config: TrainConfig, step: int) -> tuple[float, float]:
    """Learning rate and weight decay at `step` (0-based) of a run."""
    horizon = config.learning_rate.horizon or config.steps  # a longer resume does not bend the schedule
    rate = config.lr * learning_rate_factor(config.learning_rate, step, config.steps)
    return rate, weight_decay_at(config.weight_decay, config.weight_decay_end, step, horizon)


def with_horizon(config: TrainConfig, horizon: int) -> TrainConfig:
    """The configuration with its curves stretched over so many steps."""
    rate = config.learning_rate.model_copy(update={"horizon": horizon})
    return config.model_copy(update={"learning_rate": rate, "horizon_is_length": False})


def same_until(a: TrainConfig, b: TrainConfig, steps: int) -> bool:
    """Whether the first `steps` steps of two runs have the same learning rate and weight decay."""
    last = max(steps - 1, 0)
    compared = {index * last // COMPARED for index in range(COMPARED + 1)} if steps else set()
    return all(values_at(a, step) == values_at(b, step) for step in compared)
