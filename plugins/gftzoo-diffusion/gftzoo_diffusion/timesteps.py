"""The timestep embedding of DiT in the frequencies of diffusers.

DiT's i-th frequency is 10000^(-i/128); the one in diffusers' DiT is 10000^(-i/127), and its configuration cannot change
that. At high frequencies the two are soon out of phase. The layer behind the sinusoids is therefore fitted anew: exact
where a scheduler asks, and as near as can be elsewhere. Suffixes: T timesteps, F features with a constant, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gftzoo.layers.diffusion import STEPS
from gftzoo.layers.sinusoid import sinusoid

MOST_EXACT = 50  # timesteps that fit exactly in float32; more of them are too much alike in the low frequencies
WEIGHT = 1e4  # of the scheduler's timesteps, beside all others
RIDGE = 1.0  # keeps the fitted weights near those they replace


def refit(weight_DF: Tensor, bias_D: Tensor, timesteps: Sequence[int], offset: int = 0) -> tuple[Tensor, Tensor]:
    """Weight (D, 256) and bias (D,) that make of diffusers' sinusoids what the given ones make of DiT's.

    Args:
        weight_DF: of the layer behind DiT's sinusoids, (D, 256).
        bias_D: of that layer.
        timesteps: where they must agree, at most MOST_EXACT of them.
        offset: what is added to the timestep that DiT's network sees.
    """
    t_T = torch.arange(STEPS, dtype=torch.float64)
    theirs_TF = sinusoid(t_T, shift=1)
    wanted_TD = (sinusoid(t_T + offset) - theirs_TF) @ weight_DF.double().T
    row_T1 = torch.ones(STEPS, 1, dtype=torch.float64)
    row_T1[list(timesteps)] = WEIGHT
    features_TF = torch.cat([theirs_TF, torch.ones_like(row_T1)], 1)
    u_TF, scale_F, v_FF = torch.linalg.svd(row_T1 * features_TF, full_matrices=False)
    inverse_F = scale_F / (scale_F.square() + RIDGE**2)
    change_FD = v_FF.T @ (inverse_F[:, None] * (u_TF.T @ (row_T1 * wanted_TD)))
    weight = weight_DF.double() + change_FD[:-1].T
    return weight.to(weight_DF.dtype), (bias_D.double() + change_FD[-1]).to(bias_D.dtype)
