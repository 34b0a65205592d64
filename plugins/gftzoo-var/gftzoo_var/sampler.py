"""VAR's sampler: one scale after the other, with cached keys and values; GFT, CFG and unguided.

Suffixes: B images, G rows of the network's batch (B for each pass of the guidance), N codes of a scale, L codes of all
scales, V codebook, E width of a code vector, h side of the full map. Official loop: FoundationVision/VAR, models/var.py
(autoregressive_infer_cfg), whose scale t is w = 1 + t here.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import Guidance
from gftzoo.generator import SampleGenerator
from gftzoo.layers.categorical import draw, keep_likely
from gftzoo_var.network import VAR
from gftzoo_var.quantizer import Quantizer


class SamplerOptions(Frozen):
    """Settings of the sampler."""

    top_k: int = Field(0, ge=0, description="draw from the k most likely codes; 0 draws from all, 1 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set of codes with this probability")
    more_smooth: bool = Field(
        False, description="soft code vectors (Gumbel-softmax): smoother pictures for show, not for scores"
    )


@torch.no_grad()
def sample(
    model: Any, condition_B: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Codes (B, L) int64, or with `more_smooth` the map (B, E, h, h), which no codes describe."""
    network: VAR = model.network
    quantizer: Quantizer = model.require_tokenizer().quantize
    label_G = guidance.expand(condition_B, model.null_condition(condition_B))
    f_BEhh, caches = quantizer.blank(len(condition_B)), network.new_caches()
    inputs_GNE: Tensor | None = None
    found: list[Tensor] = []
    for scale in range(len(quantizer.scales)):
        progress = scale / max(len(quantizer.scales) - 1, 1)
        steering_GC = network.condition(label_G, guidance.beta(len(label_G), progress, model.device))
        logits_BNV = guidance.combine(network.step(scale, inputs_GNE, steering_GC, caches), progress)
        logits_BNV = keep_likely(logits_BNV, settings.top_k, settings.top_p)
        found.append(draw(logits_BNV, generator.uniform(logits_BNV.shape[1])))
        vectors_BNE = quantizer.embedding(found[-1])
        if settings.more_smooth:
            noise_BNV = generator.uniform(*logits_BNV.shape[1:])
            vectors_BNE = soft_codes(logits_BNV, progress, noise_BNV) @ quantizer.embedding.weight
        f_BEhh = f_BEhh + quantizer.contribution(vectors_BNE, scale)
        if scale + 1 < len(quantizer.scales):
            inputs_GNE = guidance.repeat(quantizer.tokens(f_BEhh, scale + 1))
    return f_BEhh if settings.more_smooth else torch.cat(found, dim=1)


def soft_codes(logits_BNV: Tensor, progress: float, uniform_BNV: Tensor) -> Tensor:
    """Gumbel-softmax weights of the codes (B, N, V), sharper from scale to scale, as in the official sampler."""
    tau = max(0.27 * (1 - 0.95 * progress), 0.005)
    gumbel_BNV = -(-uniform_BNV.clamp_min(torch.finfo(torch.float32).tiny).log()).log()
    return ((logits_BNV * (1 + progress) + gumbel_BNV) / tau).softmax(-1)
