"""The embedding of a guidance scale that pipelines of diffusers feed to UNets as `timestep_cond`.

Suffixes: B batch, E width of the sinusoid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def embed_strength(s_B: Tensor, width: int) -> Tensor:
    """The sinusoid (B, E) of s = 1/beta - 1, sines first: what a pipeline feeds for guidance_scale s + 1.

    thu-ml/GFT stable-diffusion-v1-5/train.py; at s = 0 it is 0 ... 0, 1 ... 1.
    """
    half = width // 2
    index_E = torch.arange(half, dtype=torch.float32, device=s_B.device)
    frequency_E = torch.exp(-math.log(10_000.0) / (half - 1) * index_E)
    angle_BE = torch.outer(1000.0 * s_B, frequency_E)
    return torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1)
