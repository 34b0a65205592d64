"""The ranks of the process group, without mmengine, whose import takes as long as torch's."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gftzoo.errors import GftzooError

LOST = re.compile(r"closed by peer|reset by peer|timed out|timeout|NCCL|remote process|Broken pipe", re.IGNORECASE)


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Joins the group that torchrun (under Slurm too) describes, and leaves it in order at the end.

    One process needs none; a group that is there already stays its owner's.

    Args:
        device: on which the ranks compute, as it was asked for: `cpu`, `auto`, ...
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.distributed.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available() and device != "cpu"
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    yield
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@contextmanager
def told_of_lost_ranks(advice: str) -> Iterator[None]:
    """The end of another rank as one sentence, a GftzooError with `advice` behind it."""
    try:
        yield
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not LOST.search(str(error)):
            raise
        raise GftzooError(f"rank {rank_and_world()[0]} lost another rank, which ended before it; {advice}.") from error


@contextmanager
def told_of_the_end(advice: str) -> Iterator[None]:
    """SIGTERM, which torchrun sends to the ranks that are left when one has ended, as a GftzooError with `advice`."""
    rank, world = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1"))

    def stop(*_: object) -> None:
        raise GftzooError(f"rank {rank} of {world} was told to stop, as when another rank has ended; {advice}.")

    before = signal.signal(signal.SIGTERM, stop) if world > 1 else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) where there is no group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def rank_positions(total: int) -> range:
    """Which of so many this process takes: every `world`-th from its own number on; all without torch.distributed."""
    rank, world = rank_and_world()
    return range(rank, total, world)


def is_main_process() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank_and_world()[0] == 0


def all_gather_object(value: Any) -> list[Any]:
    """The objects of all ranks in their order; every rank must call it, and trusts the others."""
    _, world = rank_and_world()
    if world == 1:
        return [value]
    found: list[Any] = [None] * world
    torch.distributed.all_gather_object(found, value)
    return found


def gather_to_main(value: Any) -> list[Any]:
    """The objects of all ranks in their order on the main process, none elsewhere; every rank must call it."""
    rank, world = rank_and_world()
    if world == 1:
        return [value]
    found: list[Any] | None = [None] * world if rank == 0 else None
    torch.distributed.gather_object(value, found)
    return found or []
