"""What the engine builds on of mmengine, imported without what mmengine itself has no use for here.

Its list of optimizers looks into transformers for one class, and with it comes all of transformers and peft: several
times the start-up time of torch. While mmengine is imported transformers is not there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(package: str) -> Iterator[None]:
    """A package that has not been imported cannot be for the duration."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # so that an import raises ImportError
    try:
        yield
    finally:
        del sys.modules[package]


with without("transformers"):
    from mmengine.hooks import Hook
    from mmengine.logging import MMLogger
    from mmengine.optim import OptimWrapper
    from mmengine.runner import BaseLoop, Runner
    from mmengine.visualization import (
        AimVisBackend,
        ClearMLVisBackend,
        DVCLiveVisBackend,
        MLflowVisBackend,
        NeptuneVisBackend,
        TensorboardVisBackend,
        Visualizer,
        WandbVisBackend,
    )
    from mmengine.visualization.vis_backend import BaseVisBackend

__all__ = [
    "AimVisBackend",
    "BaseLoop",
    "BaseVisBackend",
    "ClearMLVisBackend",
    "DVCLiveVisBackend",
    "Hook",
    "MLflowVisBackend",
    "MMLogger",
    "NeptuneVisBackend",
    "OptimWrapper",
    "Runner",
    "TensorboardVisBackend",
    "Visualizer",
    "WandbVisBackend",
]
