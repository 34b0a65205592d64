"""How long a step takes: a few are taken, on the device and the data of the run, and nothing of them is kept."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from gftzoo.data import open_source
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.runner import build_runner, step_hooks, tokenizer_at_hand, tokenizer_needed

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


def seconds_per_step(config: TrainConfig, device: torch.device, share: float = 1.0) -> float | None:
    """The median, without samples and checkpoints, of as many steps as fit in that share of the usual time.

    None where the tokenizer's weights would have to be fetched.
    """
    source = open_source(config.data, split="train")
    if tokenizer_needed(config, source) and not tokenizer_at_hand(config):
        return None
    config = config.model_copy(update={"weights": None, "trackers": (), "steps": 1_000_000})
    stopwatch = Stopwatch(device, share * BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        runner = build_runner(config, run, source, device, lambda _model, ema: [*step_hooks(config, ema), stopwatch])
        runner.train()
    return statistics.median(stopwatch.seconds)
