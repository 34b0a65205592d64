"""The optimizers by name, all behind torch's interface: what they keep is tensors, so that a resume is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.engine.config import TrainConfig
from gftzoo.families.family import Family


class Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        rate = optimizers[0].param_groups[0]["lr"]
        groups = [group for each in optimizers for group in each.param_groups]
        super().__init__(groups, {"lr": rate, "weight_decay": 0.0})
        self.optimizers = optimizers
        for each in optimizers:
            each.state = self.state  # one table, in which checkpoints find what all of them keep

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of each; the closure is called once."""
        loss = None if closure is None else closure()
        for each in self.optimizers:
            each.step()
        return loss


def matrices(network: nn.Module, family: Family) -> list[Tensor]:
    """The matrices of a network's blocks, which Muon is for; embeddings, heads, biases and convolutions are not."""
    found = {
        id(p): p for block in family.blocks(network) for p in block.parameters() if p.ndim == 2 and p.requires_grad
    }
    return list(found.values())


def muon(groups: Iterable[Mapping[str, Any]], network: nn.Module, family: Family, config: TrainConfig) -> Together:
    """Muon for the matrices of the blocks and AdamW for the rest, at one learning rate.

    Muon's step is scaled to the size that AdamW's has (Moonlight, arXiv 2502.16982), so that the rate, its schedule and
    the decay of a recipe hold for both.
    """
    ours = {id(p) for p in matrices(network, family)}
    halves: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for group in groups:
        for half, taken in zip(halves, (True, False), strict=True):
            parameters = [p for p in group["params"] if (id(p) in ours) == taken]
            half.extend([{**group, "params": parameters}] if parameters else [])
    momentum = config.optimizer.momentum
    parts: list[torch.optim.Optimizer] = []
    if halves[0]:
        parts.append(torch.optim.Muon(halves[0], lr=config.lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"))
    if halves[1]:
        parts.append(adamw(halves[1], config))
    return Together(*parts)


def adamw(groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW as the recipe has it, one kernel for all parameters where the device has one: it reads memory once."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = devices <= {"cpu", "cuda"} or None
    found = [dict(group) for group in groups]
    return torch.optim.AdamW(found, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def build_optimizer(network: nn.Module, family: Family, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a run over the family's groups of parameters."""
    groups = family.parameter_groups(network, config.weight_decay)
    return muon(groups, network, family, config) if config.optimizer.kind == "muon" else adamw(groups, config)


def moments(network: nn.Module, family: Family, config: TrainConfig) -> int:
    """The numbers that the optimizer keeps: two for each that trains, one for those that Muon moves."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    moved = sum(p.numel() for p in matrices(network, family)) if config.optimizer.kind == "muon" else 0
    return 2 * trained - moved
