"""Several ranks, activation checkpointing and compilation, applied to single-device code from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.layers.temperature import checkpoint_slopes
from gftzoo.model import Model


def parallelize(trained: nn.Module, model: Model, config: TrainConfig, place: Place) -> nn.Module:
    """What trains a model: blocks checkpointed or compiled if asked for, DDP around it or sharded in place."""
    blocks = model.family.blocks(model.network)
    if config.activation_checkpointing:
        checkpoint_blocks(blocks)
        checkpoint_slopes(model.network)
    if config.compile:
        for block in blocks:
            block.compile()
    if not torch.distributed.is_initialized():
        return trained
    if config.parallel == "fsdp":
        shard(model.network, blocks, place, config.offload)
        return trained
    devices = [place.device.index] if place.device.type == "cuda" else None
    return DistributedDataParallel(trained, device_ids=devices, gradient_as_bucket_view=True)


def shard(network: nn.Module, blocks: list[nn.Module], place: Place, offload: bool = False) -> None:
    """Shards parameters, gradients and optimizer state over all ranks, in place (FSDP2): block by block, then the rest.

    The network and not the training module is the root, because GFT runs it twice per step. Weights travel and multiply
    in the place's precision and are kept, and their gradients summed, in fp32. Inputs are left to autocast, which knows
    what must stay in fp32. With `offload` weights, gradients and moments wait on the CPU; the optimizer steps there.
    """
    mesh = init_device_mesh(place.device.type, (torch.distributed.get_world_size(),))
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(place.half, torch.float32, cast_forward_inputs=False),
        "offload_policy": CPUOffloadPolicy(pin_memory=place.device.type == "cuda") if offload else OffloadPolicy(),
    }
    for part in [*blocks, network]:
        fully_shard(part, **options)


def checkpoint_blocks(blocks: list[nn.Module]) -> None:
    """Recomputes each block's activations in the backward pass instead of keeping them."""
    for block in blocks:
        inner = block.forward

        def forward(*args: Any, _inner: Any = inner, **kwargs: Any) -> Any:
            return checkpoint(_inner, *args, use_reentrant=False, **kwargs)

        block.forward = forward
