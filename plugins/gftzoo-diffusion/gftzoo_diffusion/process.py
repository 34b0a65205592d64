"""The diffusion process of DiT: 1,000 linear steps (DDPM, arXiv 2006.11239), and how they are respaced."""

from __future__ import annotations

from functools import cache

import torch

from gftzoo.layers.diffusion import Diffusion, even_timesteps, strided_timesteps

STEPS = 1000


@cache
def training_process(device: torch.device | None = None) -> Diffusion:
    """DiT's training process: in float32 on `device`, or its float64 tables."""
    if device is not None:
        return training_process().to(device)
    return Diffusion(torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64))


def spaced_timesteps(spacing: str) -> list[int]:
    """The timesteps of a spacing, ascending.

    `"50"`: 50 of them, evenly spaced and rounded, ends included; `"6,3,1"`: so many in each of three equal sections;
    `"ddim50"`: 50 with an integer stride from 0. Raises ValueError where that is not possible.
    """
    counts = spacing.removeprefix("ddim").split(",")
    if not all(count.strip().isdecimal() for count in counts) or (spacing.startswith("ddim") and len(counts) > 1):
        raise ValueError("it must read like 50, 6,3,1 or ddim50")
    sections = [int(count) for count in counts]
    if spacing.startswith("ddim"):
        return strided_timesteps(sections[0], STEPS)
    taken: list[int] = []
    start = 0
    for index, count in enumerate(sections):
        size = STEPS // len(sections) + (index < STEPS % len(sections))
        if not 0 < count <= size:
            raise ValueError(f"a section of {size} steps cannot be spaced to {count}")
        taken += [start + step for step in even_timesteps(count, size)]
        start += size
    return taken
