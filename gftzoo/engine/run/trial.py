"""How long a step takes: a few are taken, on the device and the data of the run, and nothing of them is kept."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gftzoo.engine.framework import Hook
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.runner import build_runner
from gftzoo.engine.step.hooks import step_hooks

BUDGET = 5.0  # seconds


class Stopwatch(Hook):
    """The seconds of every step but the first, data and all, until there is time for no more."""

    priority = "LOWEST"

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device, self.budget = device, budget
        self.seconds: list[float] = []
        self.last: float | None = None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now
        runner.train_loop.stop_training = sum(self.seconds) > self.budget and len(self.seconds) > 1


def seconds_per_step(job: Job, place: Place, share: float = 1.0) -> float | None:
    """The median, without samples and checkpoints, of as many steps as fit in that share of the usual time.

    None where the tokenizer's weights would have to be fetched.
    """
    if job.tokenizer_needed and not job.tokenizer_at_hand:
        return None
    job = job.changed(weights=None, trackers=(), steps=1_000_000)
    stopwatch = Stopwatch(place.device, share * BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(job, Path(folder), place, lambda _, ema: [*step_hooks(job.config, ema), stopwatch])
        runner.train()
    return statistics.median(stopwatch.seconds)
