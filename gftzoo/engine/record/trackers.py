"""TensorBoard and Weights & Biases, through mmengine's back-ends and only where they are asked for and installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import BaseVisBackend, TensorboardVisBackend, WandbVisBackend
from gftzoo.errors import UsageError


def tensorboard(folder: Path, _run: str) -> BaseVisBackend:
    """Event files in `folder`, for `tensorboard --logdir`."""
    return TensorboardVisBackend(save_dir=str(folder))


def wandb(folder: Path, run: str) -> BaseVisBackend:
    """A run of Weights & Biases in `folder`: offline, for `wandb sync`, unless WANDB_MODE says otherwise."""
    settings = {"mode": os.environ.get("WANDB_MODE", "offline"), "project": "gftzoo", "name": run, "dir": str(folder)}
    return WandbVisBackend(save_dir=str(folder), init_kwargs=settings)


TRACKERS: dict[str, Callable[[Path, str], BaseVisBackend]] = {"tensorboard": tensorboard, "wandb": wandb}


def build_trackers(config: TrainConfig, run: Path) -> list[BaseVisBackend]:
    """The back-ends that a run asks for, in its folder `trackers`."""
    folder = run / "trackers"
    folder.mkdir(exist_ok=True)
    return [TRACKERS[name](folder, run.name) for name in config.trackers]


def refuse_missing(config: TrainConfig) -> None:
    """UsageError if a tracker's package is not installed."""
    missing = [name for name in config.trackers if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"tracker {missing[0]!r} needs the package {missing[0]!r}, which is not installed; "
            "`pip install 'gftzoo[trackers]'`, or leave it out of -o trackers."
        )
