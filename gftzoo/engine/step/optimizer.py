"""The optimizer of a step: gradients over micro-batches, mixed precision, clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gftzoo.engine.framework import OptimWrapper
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.step.memory import one_way


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor put together (every rank must call it); any other as it is."""
    full_tensor: Callable[[], torch.Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()


class MixedPrecision(OptimWrapper):
    """mmengine's optimizer wrapper with autocast on any device, an fp16 scaler, and a gradient norm for the log.

    Args:
        clip_norm: largest gradient norm; None does not clip.
        place: where the network computes, and autocast's dtype.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, accumulate: int, clip_norm: float | None, place: Place
    ) -> None:
        super().__init__(optimizer, accumulative_counts=accumulate)
        self.dtype = place.half
        self.clip_norm = clip_norm
        self.grad_norm: torch.Tensor | None = None
        self.device = place.device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=place.half is torch.float16)

    def count_from(self, model: nn.Module, done: int, steps: int, accumulate: int) -> None:
        """Counts micro-batches as `accumulate` of a step from here on, where `done` of `steps` steps are done."""
        self._accumulative_counts = accumulate
        self.initialize_count_status(model, done * accumulate, steps * accumulate)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.clip_norm is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.grad_norm = whole(norm.detach())
        with one_way():
            self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()
