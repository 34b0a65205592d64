"""When a run saves: every so many steps, at its end, and when it is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gftzoo.engine.checkpoints.finite import FiniteHook, smaller_rate
from gftzoo.engine.checkpoints.kept import prune
from gftzoo.engine.checkpoints.tensors import not_finite
from gftzoo.engine.checkpoints.writing import write
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.parallel.ranks import any_rank
from gftzoo.engine.step.counting import counted, shown_weights
from gftzoo.engine.step.ema import EMA
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.systems import STOPS


class CheckpointHook(Hook):
    """Saves every N steps, at the end, and when the process is asked to stop.

    `about` is what the state of every checkpoint says besides.
    """

    priority = "LOW"

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        model: Model,
        ema: EMA | None,
        finite: FiniteHook,
        about: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.config, self.run, self.model, self.ema, self.finite = config, run, model, ema, finite
        self.about = about
        self.stopped_by: str | None = None

    def before_train(self, runner: Any) -> None:
        for number in STOPS if self.config.save_on_signal else ():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)  # a second one is not waited for

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter + 1
        stop = self.config.save_on_signal and any_rank(self.stopped_by is not None)
        if self.config.saves_at(step) or stop:
            self.save(runner, step)
        if stop:
            runner.train_loop.stop_training = True

    def save(self, runner: Any, step: int) -> None:
        """Writes a checkpoint and removes what is older than the run keeps."""
        self.finite.check()
        wrapper = runner.optim_wrapper
        self._refuse_not_finite(wrapper.optimizer, step)
        state = {"step": step, "seed": self.config.seed, "scaler": wrapper.scaler.state_dict(), **self.about()}
        state["optimizer"] = counted(wrapper.optimizer)
        with shown_weights(wrapper.optimizer):
            write(self.run, self.model, wrapper.optimizer, self.ema, state, self.config.sharded_checkpoints)
        if is_main_process():
            prune(self.run, self.config.keep_last, self.config.keep_every)

    def _refuse_not_finite(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """GftzooError on every rank where a weight, an average or a moment is no number; what is older stays."""
        broken = not_finite(self.model, optimizer, self.ema)
        if any_rank(broken is not None):
            raise GftzooError(
                f"tensor {broken or 'of another rank'} holds what is no number after step {step}, which is not saved; "
                f"{smaller_rate(self.config, self.run)}."
            )

    def after_train(self, runner: Any) -> None:
        for number in STOPS if self.config.save_on_signal else ():
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
