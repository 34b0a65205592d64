"""What a training run costs before it starts: parameters, FLOPs and memory, without taking any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch.nn.modules.module import register_module_module_registration_hook

from gftzoo.adapters import freeze, frozen_matrices
from gftzoo.adapters.quantising import BYTES, quantised_layers
from gftzoo.contract.objective import Forwards
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.trace import trace_forward, trace_frozen
from gftzoo.engine.step.optimizers import kept_bytes
from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.initialisation import Empty
from gftzoo.layers.temperature import checkpoint_slopes
from gftzoo.model import Model
from gftzoo.printing import plain

GIB = 2**30
MOST_PARTS = 20_000  # modules of a network; the largest of the zoo has less than a tenth
LATER = 0.05 * GIB  # what libraries take when they are first used


@dataclass(frozen=True)
class Cost:
    """Of one training step on one device."""

    parameters: int
    state_bytes: float  # weights, gradients, Adam's moments, EMA, frozen copies, all fp32, and autocast's copies
    activation_bytes: float | None  # per micro-batch; None where it could not be traced
    flops_per_image: float | None  # forward and backward of the objective, counted as multiply + add
    trained: int = 0  # of the parameters
    halvable: int = 0  # of the parameters, the frozen ones that lora.base=half keeps in half precision

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
    """Free memory of a device, with what this process holds of a GPU and does not use."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        limit = torch.cuda.get_per_process_memory_fraction(device) * total - reserved  # as this process may be held to
        return float(min(free, limit) + reserved - torch.cuda.memory_allocated(device))
    return float(psutil.virtual_memory().available)


@contextmanager
def within_parts(name: str) -> Iterator[None]:
    """Stops a network that is built without end, e.g. of a hundred million blocks: UsageError past `MOST_PARTS`.

    UsageError too for a part of more numbers than a tensor can have.
    """
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MOST_PARTS:
            raise UsageError(
                f"the network of {name} would have more than {MOST_PARTS:,} parts; choose smaller -o network. options."
            )

    handle = register_module_module_registration_hook(counted)
    try:
        yield
    except (RuntimeError, OverflowError, TypeError) as error:
        if "overflow" not in plain(error).lower():  # what torch says in all its ways of saying it
            raise
        raise UsageError(
            f"the network of {name} would be larger than any memory; choose smaller -o network. options."
        ) from error
    finally:
        handle.remove()


def training_cost(job: Job, place: Place, world: int = 1) -> Cost:
    """The cost of a step as configured, for each of `world` devices of a kind."""
    config, family = job.config, job.family
    with Empty(), within_parts(config.card.name):
        model = Model(config.card, family.build_network(config.card), None, family)
    freeze(model, config.train, config.lora)
    model.network.to("meta")
    if config.activation_checkpointing:
        checkpoint_slopes(model.network)
    parameters = sum(p.numel() for p in model.network.parameters())
    trainable = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    averages = trainable if config.ema_decay is not None else 0
    halves = 0 if place.half is None else trainable  # autocast keeps them until the step's end
    objective = job.objective
    state = 4.0 * (parameters + trainable + averages) + kept_bytes(model.network, family, config) + 2.0 * halves
    halvable = sum(p.numel() for p in frozen_matrices(model.network)) if config.train == "lora" else 0
    if config.quantises_base:
        layers = quantised_layers(family.blocks(model.network), config.lora.base)
        few = sum(layer.weight.numel() for _, _, layer in layers)
        state -= (4.0 - BYTES[config.lora.base]) * few + (0.0 if place.half is None else 2.0 * (halvable - few))
    elif config.halves_base and place.half is not None:
        state -= 2.0 * halvable
    elif place.half is not None and not config.activation_checkpointing:  # autocast's copies, for the backward pass
        state += 2.0 * halvable
    if config.parallel == "fsdp" and (world > 1 or config.offload):  # two blocks are put together, one ahead of its use
        largest = max((sum(p.numel() for p in b.parameters()) for b in family.blocks(model.network)), default=0)
        waits = config.offload and place.device.type != "cpu"
        state = (0.0 if waits else state / world) + 2 * 4.0 * largest
    state += 4.0 * parameters * objective.copies  # every rank has the frozen ones whole
    micro = max(config.batch_size // (config.accumulate * world), 1)
    activations, flops = _passes(model, objective.forwards, place.half, config)
    activations = None if activations is None else activations * micro
    return Cost(parameters, state, activations, flops, trainable, halvable)


def _passes(
    model: Model, forwards: Forwards, half: torch.dtype | None, config: TrainConfig
) -> tuple[float | None, float | None]:
    """Bytes of activations and FLOPs of one image's passes."""
    frozen = trace_frozen(model, half) if config.train != "all" else None
    if frozen is not None:
        flops = forwards.with_gradient * frozen.step_flops + forwards.without_gradient * frozen.forward_flops
        if config.train == "temperature":  # next to nothing is kept, so that a pass itself needs the most
            return forwards.with_gradient * frozen.peak_bytes, flops
    traced = trace_forward(model, half, config.activation_checkpointing)
    if traced is None:
        return None, None
    return traced[1] * forwards.with_gradient, flops if frozen is not None else traced[0] * forwards.units
