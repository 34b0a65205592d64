"""What an optimizer knows beside its tensors, and the weights that it shows where those are not the ones that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

# Of a group of parameters: schedule-free's steps and weights of its average, and the rate that Prodigy has found.
COUNTED = ("k", "weight_sum", "lr_max", "d", "d_max", "d_numerator")
TRAINED = "y"  # of a parameter's state, while the weights that are shown are in the network


def counted(optimizer: torch.optim.Optimizer) -> list[dict[str, int | float]]:
    """What it counts for each group of parameters, as plain numbers."""
    groups = [{key: group[key] for key in COUNTED if key in group} for group in optimizer.param_groups]
    return groups if any(groups) else []


def go_on(optimizer: torch.optim.Optimizer, numbers: Sequence[Mapping[str, int | float]]) -> None:
    """Takes up what was counted, and the weights that train; ValueError where it counted something else."""
    if [sorted(group) for group in numbers] != [sorted(group) for group in counted(optimizer)]:
        raise ValueError("the optimizer counted something else")
    for group, found in zip(optimizer.param_groups, numbers, strict=False):
        group.update(found)
    for state in optimizer.state.values():
        step = state.get("step")
        if isinstance(step, torch.Tensor) and step.dtype == torch.int64:  # counted by Python
            state["step"] = int(step)
    _back(optimizer)


@contextmanager
def shown_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The network has the weights that are sampled, scored and saved, and afterwards those that train, to the bit.

    They are other ones with schedule-free, which trains between its average and its newest point.
    """
    show: Any = getattr(optimizer, "eval", None)
    if show is None:
        yield
        return
    with torch.no_grad():
        for parameter, state in optimizer.state.items():
            if "z" in state:
                state[TRAINED] = parameter.detach().clone()
    show()
    try:
        yield
    finally:
        _back(optimizer)


@torch.no_grad()
def _back(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights that train back."""
    for parameter, state in optimizer.state.items():
        if TRAINED in state:
            parameter.copy_(state.pop(TRAINED))
    for group in optimizer.param_groups:
        if "train_mode" in group:
            group["train_mode"] = True
