"""The embedding of timesteps and temperatures: sinusoids, then an MLP.

Suffixes: X any dimensions, D width, W width of the sinusoid. "Denoising Diffusion Probabilistic Models"
(arXiv 2006.11239); parameter names are those of facebookresearch/DiT, models.py, and of the codes that follow it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SINUSOID = 256


def sinusoid(value_X: Tensor, width: int = SINUSOID, shift: int = 0) -> Tensor:
    """Cosines, then sines, at geometric frequencies from 1 down to 1/10000 (X, W), in the dtype of `value_X`.

    With `shift` 1, as in diffusers' transformers, the lowest is 1/10000 itself, and not the one before it.
    """
    half = width // 2
    index_W = torch.arange(half, dtype=value_X.dtype, device=value_X.device)
    angle_XW = value_X.unsqueeze(-1) * torch.exp(-math.log(10_000) * index_W / (half - shift))
    return torch.cat([angle_XW.cos(), angle_XW.sin()], -1)


class SinusoidEmbedding(nn.Module):
    """Numbers (X,), timesteps 0 to 999 or temperatures in [0, 1], to vectors (X, D).

    Args:
        width: D.
        scale: what the numbers are multiplied with; 1 for timesteps, 1000 for temperatures in GFT's released codes.
        dtype: of the sinusoid.
        layers: of the MLP.
    """

    def __init__(self, width: int, scale: float = 1.0, dtype: torch.dtype = torch.float32, layers: int = 2) -> None:
        super().__init__()
        self.scale, self.dtype = scale, dtype
        steps: list[nn.Module] = [nn.Linear(SINUSOID, width)]
        for _ in range(layers - 1):
            steps += [nn.SiLU(), nn.Linear(width, width)]
        self.mlp = nn.Sequential(*steps)

    @property
    def layers(self) -> list[nn.Linear]:
        """The linear layers of the MLP, first one first."""
        return [module for module in self.mlp if isinstance(module, nn.Linear)]

    def forward(self, value_X: Tensor) -> Tensor:
        features_XW = sinusoid(self.scale * value_X.to(self.dtype))
        return self.mlp(features_XW.to(next(self.mlp.parameters()).dtype))
