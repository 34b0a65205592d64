"""mmengine's Runner as gftzoo uses it."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gftzoo.engine.checkpoints.restoring import restore
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import MMLogger, Runner, Visualizer
from gftzoo.engine.record.log import run_logger
from gftzoo.engine.record.trackers import build_trackers
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.loop import StepLoop
from gftzoo.group import is_main_process, rank_and_world


class ZooRunner(Runner):
    """mmengine's Runner with gftzoo's loop, parallel wrapping, log and checkpoints, all by its public overrides."""

    def __init__(
        self, *, run: Path, config: TrainConfig, resume_from: Path | None, ema: EMA | None, **arguments: Any
    ) -> None:
        self.run_folder, self.config, self.resume_from, self.ema = run, config, resume_from, ema
        super().__init__(
            work_dir=str(run),
            launcher="pytorch" if torch.distributed.is_initialized() else "none",
            randomness={"seed": config.seed},
            train_cfg={},  # the loop is built below, not from a description
            experiment_name=f"{run.name}-{uuid.uuid4().hex[:8]}",  # mmengine keeps loggers by this name
            **arguments,
        )

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        self._rank, self._world_size = rank_and_world()
        self._timestamp = "trackers"  # the sub-folder of a run for what trackers write

    def build_logger(self, *arguments: Any, **options: Any) -> logging.Logger:
        MMLogger.get_instance(self.experiment_name, log_level="ERROR")  # mmengine's own messages
        return run_logger(self.run_folder)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        backends = build_trackers(self.config, self.run_folder) if self.config.trackers and is_main_process() else []
        return Visualizer(name=self.experiment_name, vis_backends=backends)

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        return model  # parallelised before the optimizer was built

    def build_train_loop(self, loop: Any) -> StepLoop:
        return StepLoop(self, self._train_dataloader, self.config)

    def load_or_resume(self) -> None:
        if self.resume_from is not None:
            trained: Any = getattr(self.model, "module", self.model)
            wrapper = self.optim_wrapper
            state = restore(self.resume_from, trained.zoo_model, wrapper.optimizer, self.ema)
            if state.get("scaler"):
                wrapper.scaler.load_state_dict(state["scaler"])
            self.train_loop.start_at(state["step"])

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Without mmengine's survey of compilers, which takes seconds; versions are in every record instead."""

    def dump_config(self) -> None:
        """The run's `config.yaml` is written by `TrainConfig.write`."""
