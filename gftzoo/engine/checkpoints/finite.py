"""The guard of a run: what is no number is neither trained on nor saved."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import torch

from gftzoo.engine.checkpoints.kept import newest
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.errors import GftzooError


class FiniteHook(Hook):
    """Stops a run whose loss or gradient is no number, naming step and samples.

    A step is looked at one step later, so that a GPU is not waited for; checkpoints and the end of the run look at it
    at once.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self.config, self.run = config, run
        self.pending: tuple[int, list[int], dict[str, torch.Tensor]] | None = None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.check()
        positions = [int(p) for batch in data_batch for p in batch["position"]]
        numbers = {"loss": outputs["loss"]}
        if not runner.optim_wrapper.scaler.is_enabled():  # with fp16's scaler such a step is skipped
            numbers["gradient norm"] = runner.optim_wrapper.grad_norm
        self.pending = runner.iter + 1, positions, numbers

    def check(self) -> None:
        """GftzooError if the last recorded loss or gradient is not finite."""
        step, positions, numbers = self.pending or (0, [], {})
        self.pending = None
        for name, value in numbers.items():
            if not torch.isfinite(value):
                raise GftzooError(
                    f"the {name} became {float(value)} at step {step} (samples at positions {positions[0]} to "
                    f"{positions[-1]} of the data); {smaller_rate(self.config, self.run)}."
                )


def smaller_rate(config: TrainConfig, run: Path) -> str:
    """What to do about a run whose numbers became none."""
    kept = newest(run)
    advice = f"train anew with a smaller learning rate than -o lr={config.lr:g}, or with -o precision=fp32"
    return f"{advice}; --weights {quote(str(run))} starts from the last checkpoint, {kept.name}" if kept else advice
