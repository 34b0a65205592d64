"""Multi-scale residual quantisation: one code book looks up what the scales before have left.

Suffixes: B batch, E width of a code vector, V codebook, K scales, p side of a scale, h side of the full map, N = p p
codes of a scale, L codes of all scales, T = L - 1 (the first scale is one code). "Visual Autoregressive Modeling"
(arXiv 2404.02905), algorithms 1 and 2; FoundationVision/VAR, models/quant.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.codebook import nearest

PHI_SHARE = 0.5  # of the convolution in phi; the rest is its input


def phi_index(scales: int, phis: int) -> list[int]:
    """Which phi convolution each of the scales uses: the nearest of evenly spaced ticks to k / (K - 1).

    The ticks go from 1/(3 phis) to 1 - 1/(3 phis). Exact integers decide and a tie goes to the later convolution:
    with 10 scales and 4 convolutions k = 2 and k = 7 lie half-way, and the official floating-point search puts them
    so.
    """
    if phis == 1 or scales == 1:
        return [0] * scales
    common = 3 * phis * (phis - 1)  # every tick is an integer over this
    ticks = [phis - 1 + i * (3 * phis - 2) for i in range(phis)]
    return [min(range(phis), key=lambda i: (abs(ticks[i] * (scales - 1) - k * common), -i)) for k in range(scales)]


class Phi(nn.Conv2d):
    """Half its input, half a convolution of it: repairs what upsampling has blurred."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)

    def forward(self, h_BEhh: Tensor) -> Tensor:
        return (1 - PHI_SHARE) * h_BEhh + PHI_SHARE * super().forward(h_BEhh)


class Phis(nn.Module):
    """The phi convolutions, under the official name."""

    def __init__(self, width: int, phis: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(Phi(width) for _ in range(phis))


class Quantizer(nn.Module):
    """Maps (B, E, h, h) to codes of every scale and back.

    Args:
        codes: V.
        width: E.
        scales: sides of the scales, rising; the last is h.
        phis: number of phi convolutions.
    """

    def __init__(self, codes: int, width: int, scales: Sequence[int], phis: int) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.side = self.scales[-1]
        self.embedding = nn.Embedding(codes, width)
        self.quant_resi = Phis(width, phis)
        self.phi_of = phi_index(len(self.scales), phis)

    def blank(self, batch: int) -> Tensor:
        """The map (B, E, h, h) before the first scale: zeros."""
        weight = self.embedding.weight
        return weight.new_zeros(batch, weight.shape[1], self.side, self.side)

    def split(self, codes_BL: Tensor) -> list[Tensor]:
        """The codes (B, N) of each scale."""
        return list(codes_BL.split([p * p for p in self.scales], dim=1))

    def nearest(self, z_BEpp: Tensor) -> Tensor:
        """The index of the nearest code vector at each position (B, N), int64."""
        return nearest(z_BEpp.flatten(2).transpose(1, 2), self.embedding.weight)

    def shrink(self, f_BEhh: Tensor, scale: int) -> Tensor:
        """The map at the side of a scale (B, E, p, p), by averaging areas."""
        side = self.scales[scale]
        return f_BEhh if side == self.side else F.interpolate(f_BEhh, (side, side), mode="area")

    def contribution(self, vectors_BNE: Tensor, scale: int) -> Tensor:
        """What code vectors of a scale add to the map (B, E, h, h)."""
        side = self.scales[scale]
        h_BEpp = vectors_BNE.transpose(1, 2).unflatten(-1, (side, side))
        if side != self.side:
            h_BEpp = F.interpolate(h_BEpp, (self.side, self.side), mode="bicubic")
        return self.quant_resi.qresi_ls[self.phi_of[scale]](h_BEpp)

    def encode(self, f_BEhh: Tensor) -> Tensor:
        """Codes (B, L) of all scales, each of what the scales before have left."""
        rest_BEhh, found = f_BEhh, []
        for scale in range(len(self.scales)):
            found.append(self.nearest(self.shrink(rest_BEhh, scale)))
            rest_BEhh = rest_BEhh - self.contribution(self.embedding(found[-1]), scale)
        return torch.cat(found, dim=1)

    def decode(self, codes_BL: Tensor) -> Tensor:
        """The map (B, E, h, h) of codes: the sum of the contributions."""
        f_BEhh = self.blank(len(codes_BL))
        for scale, codes_BN in enumerate(self.split(codes_BL)):
            f_BEhh = f_BEhh + self.contribution(self.embedding(codes_BN), scale)
        return f_BEhh

    def tokens(self, f_BEhh: Tensor, scale: int) -> Tensor:
        """What a generator reads to predict a scale: the map so far at that scale's side, (B, N, E)."""
        return self.shrink(f_BEhh, scale).flatten(2).transpose(1, 2)

    def teacher_inputs(self, codes_BL: Tensor) -> Tensor:
        """What a generator reads to predict all scales but the first, (B, T, E)."""
        f_BEhh, read = self.blank(len(codes_BL)), []
        for scale, codes_BN in enumerate(self.split(codes_BL)[:-1]):
            f_BEhh = f_BEhh + self.contribution(self.embedding(codes_BN), scale)
            read.append(self.tokens(f_BEhh, scale + 1))
        return torch.cat(read, dim=1) if read else f_BEhh.new_zeros(len(codes_BL), 0, f_BEhh.shape[1])
