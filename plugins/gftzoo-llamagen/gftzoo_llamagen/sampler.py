"""LlamaGen's sampler: one code after the other, with cached keys and values.

Official loop: FoundationVision/LlamaGen, autoregressive/models/generate.py.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import DecodingSettings, Steered, decode, refuse_ramp
from gftzoo.generator import SampleGenerator
from gftzoo_llamagen.network import CodeDecoder, Transformer


class SamplerOptions(DecodingSettings):
    """Settings of the sampler; the defaults are those the published scores were computed with."""

    cfg_interval: int | None = Field(
        None, ge=0, description="CFG acts on the first code and this many + 1 after it; null: on all"
    )


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N), int64.

    Raises UsageError for a temperature that changes on the way: the network reads beta once, with the condition.
    """
    network: Transformer = model.network
    refuse_ramp(model, network.t_embedder is not None, guidance)
    steered = Steered(model, condition, guidance)
    decoder = CodeDecoder(network, steered.condition_G)
    guided = None if settings.cfg_interval is None else settings.cfg_interval + 2
    return decode(decoder, steered, settings, generator.uniform(network.codes), guided=guided)
