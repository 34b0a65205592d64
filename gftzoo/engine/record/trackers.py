"""TensorBoard, Weights & Biases and others, through mmengine's back-ends, where they are asked for and installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import (
    AimVisBackend,
    BaseVisBackend,
    ClearMLVisBackend,
    DVCLiveVisBackend,
    MLflowVisBackend,
    NeptuneVisBackend,
    TensorboardVisBackend,
    WandbVisBackend,
)


def tensorboard(folder: Path, _run: str) -> BaseVisBackend:
    """Event files in `folder`, for `tensorboard --logdir`."""
    return TensorboardVisBackend(save_dir=str(folder))


def wandb(folder: Path, run: str) -> BaseVisBackend:
    """A run of Weights & Biases in `folder`: offline, for `wandb sync`, unless WANDB_MODE says otherwise."""
    settings = {"mode": os.environ.get("WANDB_MODE", "offline"), "project": "gftzoo", "name": run, "dir": str(folder)}
    return WandbVisBackend(save_dir=str(folder), init_kwargs=settings)


def other(backend: type[BaseVisBackend]) -> Callable[[Path, str], BaseVisBackend]:
    """Another of mmengine's, with the settings that its own package takes from the environment."""
    return lambda folder, _run: backend(save_dir=str(folder))


TRACKERS: dict[str, Callable[[Path, str], BaseVisBackend]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": other(MLflowVisBackend),
    "clearml": other(ClearMLVisBackend),
    "neptune": other(NeptuneVisBackend),
    "dvclive": other(DVCLiveVisBackend),
    "aim": other(AimVisBackend),
}


def build_trackers(config: TrainConfig, run: Path) -> list[BaseVisBackend]:
    """The back-ends that a run asks for, in its folder `trackers`."""
    folder = run / "trackers"
    folder.mkdir(exist_ok=True)
    return [TRACKERS[name](folder, run.name) for name in config.trackers]
