"""Several ranks, activation checkpointing and compilation, applied to single-device code from outside."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.loop import choose_dtype
from gftzoo.engine.training import TrainingModel


def start_process_group(config: TrainConfig) -> None:
    """Joins the group that torchrun (or Slurm through torchrun) describes; one process needs none."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() and config.device != "cpu" else "gloo"
        torch.distributed.init_process_group(backend)


def stop_process_group() -> None:
    """Leaves the group in order, where there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def parallelize(trained: TrainingModel, config: TrainConfig, device: torch.device) -> nn.Module:
    """The module that trains: blocks checkpointed or compiled if asked for, DDP around it or sharded in place."""
    model = trained.zoo_model
    blocks = model.family.blocks(model.network)
    if config.activation_checkpointing:
        checkpoint_blocks(blocks)
    if config.compile:
        for block in blocks:
            block.compile()
    if not torch.distributed.is_initialized():
        return trained
    if config.parallel == "fsdp":
        shard(model.network, blocks, choose_dtype(config.precision, device), device)
        return trained
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(trained, device_ids=devices)


def shard(network: nn.Module, blocks: list[nn.Module], dtype: torch.dtype | None, device: torch.device) -> None:
    """Shards parameters, gradients and optimizer state over all ranks, in place (FSDP2): block by block, then the rest.

    The network and not the training module is the root, because GFT runs it twice per step.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)


def checkpoint_blocks(blocks: list[nn.Module]) -> None:
    """Recomputes each block's activations in the backward pass instead of keeping them."""
    from torch.utils.checkpoint import checkpoint

    for block in blocks:
        inner = block.forward

        def forward(*args: Any, _inner: Any = inner, **kwargs: Any) -> Any:
            return checkpoint(_inner, *args, use_reentrant=False, **kwargs)

        block.forward = forward
