"""The guard of a run: what is no number is neither trained on nor saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from gftzoo.engine.checkpoints.kept import newest
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.errors import GftzooError


class Pending:
    """Numbers of a step, on their way from the device.

    Args:
        step: from 1.
        positions: of its samples in the data.
        numbers: scalars by their names.
    """

    def __init__(self, step: int, positions: list[int], numbers: Mapping[str, torch.Tensor]) -> None:
        self.step, self.positions, self.names = step, positions, list(numbers)
        together = torch.stack([number.detach().float() for number in numbers.values()])
        self.values = together.to("cpu", non_blocking=True)  # from a GPU into pinned memory
        self.copied = torch.cuda.Event() if together.is_cuda else None
        if self.copied is not None:
            self.copied.record()

    def arrived(self) -> dict[str, float]:
        """The numbers, waited for where they are not there yet."""
        if self.copied is not None:
            self.copied.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


class FiniteHook(Hook):
    """Stops a run whose loss or gradient is no number, naming step and samples.

    Its numbers set out for the CPU when the step is launched, and are looked at when the next one is: a GPU has work
    meanwhile. Checkpoints and the end of the run look at them at once.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self.config, self.run = config, run
        self.pending: Pending | None = None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.check()
        positions = [position for batch in data_batch for position in batch["position"].tolist()]
        numbers = {"loss": outputs["loss"]}
        if not runner.optim_wrapper.scaler.is_enabled():  # with fp16's scaler such a step is skipped
            numbers["gradient norm"] = runner.optim_wrapper.grad_norm
        self.pending = Pending(runner.iter + 1, positions, numbers)

    def check(self) -> None:
        """GftzooError if the last recorded loss or gradient is not finite."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        for name, value in pending.arrived().items():
            if not math.isfinite(value):
                raise GftzooError(
                    f"the {name} became {value} at step {pending.step} (samples at positions {pending.positions[0]} to "
                    f"{pending.positions[-1]} of the data); {smaller_rate(self.config, self.run)}."
                )


def smaller_rate(config: TrainConfig, run: Path) -> str:
    """What to do about a run whose numbers became none."""
    kept = newest(run)
    advice = f"train anew with a smaller learning rate than -o lr={config.lr:g}, or with -o precision=fp32"
    return f"{advice}; --weights {quote(str(run))} starts from the last checkpoint, {kept.name}" if kept else advice
