"""VAR's sampler: one scale after the other, with cached keys and values; GFT, CFG and unguided.

Suffixes: B images, G rows of the network's batch (B for each pass of the guidance), N codes of a scale, L codes of all
scales, V codebook, E width of a code vector, h side of the full map. Official loop: FoundationVision/VAR, models/var.py
(autoregressive_infer_cfg), whose scale t is w = 1 + t here.
"""

from __future__ import annotations

from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import CodeSampling, Steered, ramp
from gftzoo.generator import SampleGenerator
from gftzoo.layers.categorical import draw
from gftzoo.layers.compiling import compiled
from gftzoo.precision import exact
from gftzoo_var.network import VAR
from gftzoo_var.tokenizer import MultiScaleVQ


class SamplerOptions(CodeSampling):
    """Settings of the sampler."""

    more_smooth: bool = Field(
        False, description="soft code vectors (Gumbel-softmax): smoother pictures for show, not for scores"
    )


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Codes (B, L) int64, or with `more_smooth` the map (B, E, h, h), which no codes describe."""
    network: VAR = model.network
    quantizer = cast(MultiScaleVQ, model.require_tokenizer()).quantize
    steered = Steered(model, condition, guidance)
    f_BEhh, caches = quantizer.blank(len(condition)), network.new_caches(len(steered.condition_G))
    network.report_attention(masked=False)
    step = compiled(network.step, True) if steered.replays else network.step
    inputs_GNE: Tensor | None = None
    found: list[Tensor] = []
    for progress, scale in ramp(range(len(quantizer.scales))):
        if scale == 0 or guidance.schedule != "constant":
            steering_GC = network.condition(steered.condition_G, steered.beta(progress))
        logits_BNV = settings.likely(guidance.combine(step(scale, inputs_GNE, steering_GC, caches), progress))
        found.append(draw(logits_BNV, generator.uniform(logits_BNV.shape[1])))
        vectors_BNE = quantizer.embedding(found[-1])
        if settings.more_smooth:
            noise_BNV = generator.uniform(*logits_BNV.shape[1:])
            with exact(f_BEhh.device):
                vectors_BNE = soft_codes(logits_BNV, progress, noise_BNV) @ quantizer.embedding.weight
        with exact(f_BEhh.device):  # in half precision what the last scales add would be lost
            f_BEhh = f_BEhh + quantizer.contribution(vectors_BNE, scale)
            if scale + 1 < len(quantizer.scales):
                inputs_GNE = guidance.repeat(quantizer.tokens(f_BEhh, scale + 1))
    return f_BEhh if settings.more_smooth else torch.cat(found, dim=1)


def soft_codes(logits_BNV: Tensor, progress: float, uniform_BNV: Tensor) -> Tensor:
    """Gumbel-softmax weights of the codes (B, N, V), sharper from scale to scale, as in the official sampler."""
    tau = max(0.27 * (1 - 0.95 * progress), 0.005)
    gumbel_BNV = -(-uniform_BNV.clamp_min(torch.finfo(torch.float32).tiny).log()).log()
    return ((logits_BNV * (1 + progress) + gumbel_BNV) / tau).softmax(-1)
