"""The optimizers by name, all behind torch's interface, those of other packages imported when they are asked for."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.engine.config import TrainConfig
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.printing import words


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


def adamw(groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW as the recipe has it, one kernel for all parameters where the device has one: it reads memory once."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = devices <= {"cpu", "cuda"} or None
    return torch.optim.AdamW(_copied(groups), lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def schedule_free(groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW that averages as it goes, in place of a schedule of the rate (arXiv 2405.15682)."""
    library = library_of("schedule-free")
    found: Any = library.AdamWScheduleFree(_copied(groups), lr=config.lr, betas=config.betas, eps=config.eps)
    found.train()
    return found


def prodigy(groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW that finds its rate by itself (arXiv 2306.06101), with what its authors advise for diffusion."""
    advised = {"use_bias_correction": True, "safeguard_warmup": True}
    with redirect_stdout(io.StringIO()):  # where it says that decay is decoupled
        found = library_of("prodigy").Prodigy(
            _copied(groups), lr=config.lr, betas=config.betas, eps=config.eps, **advised
        )
    return found


def adamw_8bit(groups: Sequence[Mapping[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW whose moments are kept in 8 bits, block by block (arXiv 2110.02861); UsageError where a device has none."""
    library = library_of("adamw-8bit").optim
    found = library.AdamW8bit(_copied(groups), lr=config.lr, betas=config.betas, eps=config.eps)
    device = found.param_groups[0]["params"][0].device
    tried = nn.Parameter(torch.zeros(SMALLEST_8BIT, device=device))
    tried.grad = torch.zeros_like(tried)
    try:
        library.AdamW8bit([tried]).step()
    except Exception as error:  # of a build without kernels for the device, in many types
        raise UsageError(
            f"bitsandbytes has no 8-bit AdamW for {device} ({words(error)}); take a GPU with CUDA, or another of "
            "-o optimizer.kind=adamw, muon, schedule-free, prodigy."
        ) from error
    return found


def _copied(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(group) for group in groups]


def library_of(kind: str) -> Any:
    """The package behind an optimizer; UsageError where it is not installed."""
    name = PACKAGES[kind]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"optimizer {kind!r} needs the package {name!r}, which is not installed; `pip install "
            "'gftzoo[optimizers]'`, or take -o optimizer.kind=adamw or muon."
        ) from error


def refuse_missing_package(config: TrainConfig) -> None:
    """UsageError where the package behind the optimizer of a run is not installed."""
    if config.optimizer.kind in PACKAGES:
        library_of(config.optimizer.kind)


PACKAGES = {"adamw-8bit": "bitsandbytes", "schedule-free": "schedulefree", "prodigy": "prodigyopt"}
SMALLEST_8BIT = 4096  # numbers of a parameter below which bitsandbytes keeps its moments whole
BUILDERS = {"adamw": adamw, "adamw-8bit": adamw_8bit, "schedule-free": schedule_free, "prodigy": prodigy}


def build_optimizer(network: nn.Module, family: Family, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a run over the family's groups of parameters; UsageError where its package is missing."""
    groups = family.parameter_groups(network, config.weight_decay)
    kind = config.optimizer.kind
    return muon(groups, network, family, config) if kind == "muon" else BUILDERS[kind](groups, config)


def kept_bytes(network: nn.Module, family: Family, config: TrainConfig) -> float:
    """The bytes that the optimizer keeps for what trains."""
    trained, kind = [p for p in network.parameters() if p.requires_grad], config.optimizer.kind
    numbers = sum(p.numel() for p in trained)
    if kind == "muon":  # one number for each that Muon moves
        return 4.0 * (2 * numbers - sum(p.numel() for p in matrices(network, family)))
    if kind == "adamw-8bit":  # with two scales for each block of 256
        large = sum(p.numel() for p in trained if p.numel() >= SMALLEST_8BIT)
        return 8.0 * (numbers - large) + (2 + 8 / 256) * large
    return 4.0 * numbers * (4 if kind == "prodigy" else 2)
