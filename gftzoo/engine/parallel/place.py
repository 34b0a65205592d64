"""Where a network computes, and in which precision."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from gftzoo.errors import UsageError
from gftzoo.precision import choose_dtype


class Place(NamedTuple):
    """Chosen once for a run, and passed down.

    Attributes:
        device: where the network computes.
        half: autocast's dtype; None computes in fp32.
    """

    device: torch.device
    half: torch.dtype | None = None


def choose_place(device: str, precision: str) -> Place:
    """The place that `device` and `precision` of a configuration name; UsageError for a device that is not there."""
    found = choose_device(device)
    return Place(found, choose_dtype(precision, found))


def choose_device(wanted: str) -> torch.device:
    """The device of this process; UsageError for one that is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {wanted!r} is not available here; name cpu, or leave it to auto.") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return device
