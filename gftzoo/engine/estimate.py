"""What a training run costs before it starts: parameters, FLOPs and memory, measured on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gftzoo.engine.config import TrainConfig
from gftzoo.errors import GftzooError
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.objectives import find_objective
from gftzoo.plugins import load_family
from gftzoo.zoo import ModelCard

GIB = 2**30
LATER = 0.05 * GIB  # what libraries take when they are first used


@dataclass(frozen=True)
class Cost:
    """Of one training step on one device."""

    parameters: int
    state_bytes: float  # weights, gradients, Adam's moments, EMA, frozen copies, all fp32, and autocast's copies
    activation_bytes: float | None  # per micro-batch; None where it could not be traced
    flops_per_image: float | None  # forward and backward of the objective, counted as multiply + add

    @property
    def step_bytes(self) -> float:
        """What a run takes beside what its process holds already."""
        return self.state_bytes + (self.activation_bytes or 0.0) + LATER

    def total_bytes(self, device: torch.device) -> float:
        """The most that a device will have given: on a CPU to the whole process, libraries and all."""
        return self.step_bytes + (psutil.Process().memory_info().rss if device.type == "cpu" else 0.0)

    def fits(self, device: torch.device) -> bool:
        """Whether there is room for the run on a device."""
        return self.step_bytes <= available_bytes(device)

    def refuse_if_too_large(self, device: torch.device) -> None:
        """GftzooError with the numbers if the run cannot fit."""
        if not self.fits(device):
            room = available_bytes(device)
            raise GftzooError(
                f"this run needs about {self.step_bytes / GIB:.1f} GiB ({self.state_bytes / GIB:.1f} for weights, "
                f"gradients, optimizer and average, {(self.activation_bytes or 0) / GIB:.1f} for activations) and "
                f"{room / GIB:.1f} GiB are free on {device}; try -o accumulate=N, -o ema_decay=null, "
                "-o activation_checkpointing=true, or a smaller model."
            )


def available_bytes(device: torch.device) -> float:
    """Free memory of a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def count_parameters(card: ModelCard) -> int:
    """The exact number of parameters, without allocating them."""
    with torch.device("meta"):
        network = load_family(card.family).build_network(card)
    return sum(parameter.numel() for parameter in network.parameters())


def training_cost(config: TrainConfig, world: int = 1) -> Cost:
    """The cost of a step as configured, for each of `world` devices."""
    with torch.device("meta"):
        family = load_family(config.card.family)
        model = Model(config.card, family.build_network(config.card), None, family)
    parameters = sum(p.numel() for p in model.network.parameters())
    trainable = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    averages = parameters if config.ema_decay is not None else 0
    halves = trainable if config.precision in ("bf16", "fp16") else 0  # autocast keeps them until the step's end
    objective = find_objective(config.objective)
    state = 4.0 * (parameters * (1 + objective.copies) + 3 * trainable + averages) + 2.0 * halves
    if world > 1 and config.parallel == "fsdp":  # two blocks are put together at a time, one ahead of its use
        largest = max((sum(p.numel() for p in b.parameters()) for b in family.blocks(model.network)), default=0)
        state = state / world + 2 * 4.0 * largest
    micro = max(config.batch_size // (config.accumulate * world), 1)
    traced = trace_forward(model)
    if traced is None:
        return Cost(parameters, state, None, None)
    flops, saved = traced
    forwards = objective.forwards
    return Cost(parameters, state, saved * micro * forwards.with_gradient, flops * forwards.units)


def trace_forward(model: Model) -> tuple[float, float] | None:
    """(FLOPs, bytes saved for the backward pass) of one image's conditional forward; None if it cannot be traced."""
    # A family whose problems depend on values, on how much a mask hides, gets some that have values, and then forgets.
    for device, rows in (("meta", 2), ("cpu", 8)):
        try:
            return _trace(model, torch.device(device), rows)
        except Exception:  # noqa: S112  # shapes that follow from values fail in many ways
            continue
    return None


def _trace(model: Model, device: torch.device, rows: int) -> tuple[float, float]:
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
            saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    latents = torch.zeros_like(example_latents(model.card, rows), device=device)
    problem = model.family.draw_problem(model, latents, SampleGenerator(list(range(rows)), device)).to("meta")
    beta = torch.ones(rows, device="meta") if model.card.temperature else None
    condition = model.family.encode_condition(model, example_conditions(model.card, rows))
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(record, _identity):
        prediction = model.family.predict(model, problem, condition, beta)
        model.family.loss_term(model, prediction, problem).sum()
    return counter.get_total_flops() / rows, sum(saved.values()) / rows


def _identity(value: Any) -> Any:
    return value


def example_latents(card: ModelCard, rows: int) -> Tensor:
    """Latents of the right shape and type without values."""
    spec = card.tokenizer
    if spec.codebook is None:
        return torch.empty(rows, spec.channels, card.grid, card.grid, device="meta")
    sides = spec.scales or (card.grid,)
    return torch.empty(rows, sum(side * side for side in sides), dtype=torch.int64, device="meta")


def example_conditions(card: ModelCard, rows: int) -> list[int | str]:
    """Conditions of the right kind."""
    return [0] * rows if card.condition == "class" else [""] * rows
