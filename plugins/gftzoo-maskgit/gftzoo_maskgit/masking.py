"""Which codes are hidden: the schedules of training and sampling, and the draws of training.

Suffixes: B batch, N codes of an image, S parts of a code. "MaskGIT" (arXiv 2202.04200), "MAGE" (arXiv 2211.09117),
"MaskBit" (arXiv 2409.16211).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gftzoo.generator import SampleGenerator, to_device

Schedule = Literal["linear", "cosine", "arccos", "root", "square", "cube", "log", "exp"]
SMALLEST = 1e-6  # share that MaskGIT's schedules are cut to
MAGE_MEAN, MAGE_STD, MAGE_LEAST = 0.55, 0.25, 0.5  # of the cut normal distribution of MAGE's share


def share(progress: Tensor, schedule: Schedule, codes: int) -> Tensor:
    """The share of `codes` that is masked at `progress` in [0, 1]: 1 at the start, about 0 at the end.

    In the precision of `progress`: where the share of the codes is a whole number, one code may hang on it.
    """
    r = progress
    most = math.log2(codes)
    masked = {
        "linear": lambda: 1 - r,
        "cosine": lambda: torch.cos(r * math.pi / 2),
        "arccos": lambda: torch.arccos(r) / (math.pi / 2),
        "root": lambda: 1 - r**0.5,
        "square": lambda: 1 - r**2,
        "cube": lambda: 1 - r**3,
        "log": lambda: -torch.log2(r) / most,
        "exp": lambda: 1 - torch.exp2(-most * (1 - r)),
    }[schedule]()
    return masked.clamp(SMALLEST, 1)


def smallest(noise_BN: Tensor, count_B: Tensor) -> Tensor:
    """True for the `count_B` (B,) smallest of each row (B, N)."""
    rank_BN = noise_BN.argsort(dim=1, stable=True).argsort(dim=1)
    return rank_BN < count_B[:, None]


def draw_count(generator: SampleGenerator, schedule: Schedule, codes: int, parts: int) -> Tensor:
    """MaskGIT's mask (B, N S): a share of the codes for each sample, one at least, all parts of a code alike."""
    count_B = (share(generator.uniform(), schedule, codes) * codes).ceil()
    return smallest(generator.uniform(codes), count_B).repeat_interleave(parts, 1)


def draw_each(generator: SampleGenerator, schedule: Schedule, codes: int, parts: int) -> Tensor:
    """MaskBit's mask (B, N S), code by code: each part of each code with the sample's share as its chance."""
    chance_B = share(generator.uniform(), schedule, codes)
    return generator.uniform(codes, parts).flatten(1) < chance_B[:, None]


def draw_mage(generator: SampleGenerator, codes: int) -> tuple[Tensor, Tensor]:
    """MAGE's masked codes (B, N), and those of them that its encoder is not shown.

    The first sample's stream draws the share for all: rows have equal lengths, so that none is padded.
    """
    rate = mage_share(generator.host.uniform()[0])
    noise_BN = generator.uniform(codes)
    count_2 = to_device(torch.stack([codes * rate, rate.new_tensor(codes * MAGE_LEAST)]).ceil(), noise_BN.device)
    masked_BN, left_out_BN = (smallest(noise_BN, count.expand(len(noise_BN))) for count in count_2)
    return masked_BN, left_out_BN


def mage_share(uniform: Tensor) -> Tensor:
    """A normal distribution cut to [1/2, 1], by its inverse distribution function."""
    ends = torch.special.ndtr(uniform.new_tensor([(MAGE_LEAST - MAGE_MEAN) / MAGE_STD, (1 - MAGE_MEAN) / MAGE_STD]))
    drawn = MAGE_MEAN + MAGE_STD * torch.special.ndtri(torch.lerp(ends[0], ends[1], uniform))
    return drawn.clamp(MAGE_LEAST, 1)
