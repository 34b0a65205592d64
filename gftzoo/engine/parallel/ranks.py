"""What one rank of a run must tell the others."""

from __future__ import annotations

import torch


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank; every rank must call it. It does not wait for a GPU."""
    if not torch.distributed.is_initialized():
        return flag
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    count = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(count)
    return bool(count > 0)
