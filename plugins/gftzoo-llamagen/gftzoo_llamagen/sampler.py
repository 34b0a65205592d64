"""LlamaGen's sampler: one code after the other, with cached keys and values.

Suffixes: B images, G rows of the network's batch (B for each pass of the guidance), N codes of an image, V codebook.
Official loop: FoundationVision/LlamaGen, autoregressive/models/generate.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import Guidance, Temperature
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo.layers.temperature import Prediction
from gftzoo_llamagen.network import Decoder, Transformer


class SamplerOptions(Frozen):
    """Settings of the sampler; the defaults are those the published scores were computed with."""

    temperature: float = Field(1.0, ge=0, description="of the softmax over codes; beta, GFT's, is another")
    top_k: int = Field(0, ge=0, description="draw from the k most likely codes; 0 draws from all, 1 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set of codes with this probability")
    cfg_interval: int | None = Field(
        None, ge=0, description="CFG acts on the first code and this many + 1 after it; null: on all"
    )
    compile: bool = Field(False, description="torch.compile the decoding step")


@torch.no_grad()
def sample(
    model: Any, condition_B: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N) int64; each code takes one uniform number of its image's own stream.

    Raises UsageError for a temperature that changes on the way: the network reads beta once, with the condition.
    """
    network: Transformer = model.network
    embeds = network.t_embedder is not None
    if embeds and isinstance(guidance, Temperature) and guidance.schedule != "constant":
        raise UsageError(
            f"{model.card.name} reads beta once, before the first code, and cannot follow schedule "
            f"{guidance.schedule!r}; valid is 'constant' (leave --schedule out), or a model trained with "
            "-o network.temperature_input=affine."
        )
    condition_G = guidance.expand(condition_B, model.null_condition(condition_B))
    decoder = network.new_decoder(condition_G, guidance.beta(len(condition_G), device=model.device))
    step = compiled(decoder) if settings.compile else decoder.step
    uniform_BN = generator.uniform(network.codes)
    steered, codes = True, []
    logits_GV = decoder.prefill()
    for n in range(network.codes):
        if n > 0:
            if steered and settings.cfg_interval is not None and n > settings.cfg_interval + 1:
                decoder.keep(len(condition_B))  # the conditional rows come first
                steered = False
            code_G = guidance.repeat(codes[-1]) if steered else codes[-1]
            logits_GV = step(code_G, decoder.slot_S[network.prefix + n - 1 :][:1])
        progress = n / max(network.codes - 1, 1)
        logits_BV = guidance.combine(logits_GV, progress) if steered else logits_GV
        codes.append(draw(logits_BV, uniform_BN[:, n], settings))
    return torch.stack(codes, 1)


def compiled(decoder: Decoder) -> Callable[[Tensor, Tensor], Prediction]:
    """The decoding step as one graph; on a GPU it is recorded once and replayed."""
    on_gpu = decoder.slot_S.is_cuda
    for cache in decoder.caches if on_gpu else ():
        torch._dynamo.mark_static_address(cache.k_BHSK)  # or CUDA graphs would refuse to write to them
        torch._dynamo.mark_static_address(cache.v_BHSK)
    return torch.compile(decoder.step, fullgraph=True, mode="reduce-overhead" if on_gpu else None)


def draw(logits_BV: Tensor, uniform_B: Tensor, settings: SamplerOptions) -> Tensor:
    """One code (B,) for each row, of those that the settings leave."""
    logits_BV = logits_BV / max(settings.temperature, 1e-5)
    return categorical.draw(categorical.keep_likely(logits_BV, settings.top_k, settings.top_p), uniform_B)
