"""Conditions that are class indices. Suffix B: batch."""

from __future__ import annotations

import torch
from torch import Tensor

from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model


class ClassConditions:
    """Class indices (B,), of which `card.classes`, the row after the last class, is the null condition.

    Encoding them is the default of the contract.
    """

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped, model.card.classes, condition)
