"""LlamaGen's sampler: one code after the other, with cached keys and values.

Suffixes: B images, G rows of the network's batch (B for each pass of the guidance), N codes of an image, V codebook.
Official loop: FoundationVision/LlamaGen, autoregressive/models/generate.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance, Temperature
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import CodeSampling, Steered, ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction, plain
from gftzoo_llamagen.network import Decoder, Transformer


class SamplerOptions(CodeSampling):
    """Settings of the sampler; the defaults are those the published scores were computed with."""

    temperature: float = Field(1.0, ge=0, description="of the softmax over codes; beta, GFT's, is another")
    cfg_interval: int | None = Field(
        None, ge=0, description="CFG acts on the first code and this many + 1 after it; null: on all"
    )
    compile: bool = Field(False, description="torch.compile the decoding step")

    def likely(self, logits_XV: Tensor) -> Tensor:
        return super().likely(logits_XV / max(self.temperature, 1e-5))


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
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
    steered = Steered(model, condition, guidance)
    decoder = network.new_decoder(steered.condition_G, steered.beta())
    step = compiled(decoder) if settings.compile else decoder.step
    uniform_BN = generator.uniform(network.codes)
    steering, codes = True, list[Tensor]()
    logits_GV = decoder.prefill()
    for progress, n in ramp(range(network.codes)):
        if n > 0:
            if steering and settings.cfg_interval is not None and n > settings.cfg_interval + 1:
                decoder.keep(len(condition))  # the conditional rows come first
                steering = False
            code_G = guidance.repeat(codes[-1]) if steering else codes[-1]
            logits_GV = step(code_G, decoder.slot_S[network.prefix + n - 1 :][:1])
        logits_BV = guidance.combine(logits_GV, progress) if steering else plain(logits_GV)
        codes.append(settings.draw(logits_BV, uniform_BN[:, n]))
    return torch.stack(codes, 1)


def compiled(decoder: Decoder) -> Callable[[Tensor, Tensor], Prediction]:
    """The decoding step as one graph; on a GPU it is recorded once and replayed."""
    on_gpu = decoder.slot_S.is_cuda
    for cache in decoder.caches if on_gpu else ():
        torch._dynamo.mark_static_address(cache.k_BHSK)  # or CUDA graphs would refuse to write to them
        torch._dynamo.mark_static_address(cache.v_BHSK)
    return torch.compile(decoder.step, fullgraph=True, mode="reduce-overhead" if on_gpu else None)
