"""What one batch asks of a network."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """What one batch asks of the network. Subclass it; every tensor field has the batch as its first dimension."""

    def select(self, rows: Tensor) -> Self:
        """The problem of the samples at `rows` (indices or a boolean mask)."""
        return self._map(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Self:
        """The batch `times` over, one copy after the other, as a guidance with several passes needs it."""
        return self._map(lambda tensor: torch.cat([tensor] * times)) if times > 1 else self

    def to(self, device: torch.device | str) -> Self:
        """The problem on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Any) -> Self:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(t) for name, t in tensors.items() if isinstance(t, Tensor)})
