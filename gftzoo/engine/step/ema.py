"""The exponential moving average of the weights, in fp32, kept beside the raw weights and never instead of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, or the tensor itself."""
    to_local = getattr(tensor, "to_local", None)
    return cast(Tensor, to_local()) if to_local is not None else tensor


class EMA:
    """A shadow of a network's parameters that train.

    Args:
        decay: share of the old average kept at every step, in [0, 1).
        warmup: decay min(decay, (1 + n) / (10 + n)) after n steps, as diffusers does.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool = False) -> None:
        self.decay = decay
        self.warmup = warmup
        self.network = network
        trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.shadow = {name: local(p).detach().float().clone() for name, p in trained}

    def decay_at(self, step: int) -> float:
        """The decay used after `step` completed steps."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the current weights."""
        current = [local(p).detach().float() for _, p in self._trained()]
        average: Any = get_ema_multi_avg_fn(self.decay_at(step))
        average(list(self.shadow.values()), current, None)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.network.named_parameters() if name in self.shadow]

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The network has the averaged weights for the duration."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._trained():
            mine, kept = local(parameter), self.shadow[name]
            previous = mine.detach().float().clone()
            mine.copy_(kept)
            kept.copy_(previous)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up a saved average (this rank's parts)."""
        for name, shadow in self.shadow.items():
            shadow.copy_(tensors[name])
