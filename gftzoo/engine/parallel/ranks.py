"""The ranks of a run: their group, and what one of them must tell the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gftzoo.engine.config import TrainConfig


@contextmanager
def process_group(config: TrainConfig) -> Iterator[None]:
    """Joins the group that torchrun (under Slurm too) describes, and leaves it in order at the end.

    One process needs none; a group that is there already stays its owner's.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.distributed.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available() and config.device != "cpu"
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    yield
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank; every rank must call it. It does not wait for a GPU."""
    if not torch.distributed.is_initialized():
        return flag
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    count = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(count)
    return bool(count > 0)
