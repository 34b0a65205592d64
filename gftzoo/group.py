"""The ranks of the process group, without mmengine, whose import takes as long as torch's."""

from __future__ import annotations

from typing import Any

import torch


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) where there is no group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


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
