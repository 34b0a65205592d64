"""Learning rate and weight decay as pure functions of the optimizer step, so that a resumed run needs no state."""

from __future__ import annotations

import math

from gftzoo.zoo import LearningRate


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
