"""The options of a network and of the sampler."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gftzoo.catalogue.cards import Frozen
from gftzoo.layers.temperature import TemperatureInput, TemperatureOptions

STEPS = 1000


class PipelineNetwork(TemperatureOptions):
    """Which pipeline's denoiser it is, and how it is trained."""

    pipeline: str = Field(description="class of the diffusers pipeline, e.g. StableDiffusion3Pipeline")
    config: dict[str, Any] = Field({}, description="of the denoiser, where it is not the default of its class")
    scheduler: dict[str, Any] = Field(
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        description="scheduler_config.json: the noising process, what is predicted, the shift of time, the solver",
    )
    temperature_input: TemperatureInput = Field(
        "embedding",
        description="embedding of 1/beta, where the network has an input for a guidance scale; affine reads d by a "
        "last layer of its own; none trains at one temperature, of which it need not be told",
    )
    temperature_blocks: Literal[0] = Field(0, description="none: d is one layer, which is folded into the stock one")
    tokens: int | None = Field(None, gt=0, le=8192, description="length of prompts; null is the pipeline's own")
    guidance: float = Field(
        1.0, ge=0, le=100, description="what a network with a guidance input is told where no temperature enters by it"
    )
    times: Literal["logit-normal", "uniform"] = Field(
        "logit-normal", description="draw of a flow's times before their shift; noised timesteps are uniform"
    )
    min_snr: float | None = Field(
        None, gt=0, description="min-SNR weighting of the loss of noise or velocity, arXiv 2303.09556; 5 is usual"
    )


class PipelineSampler(Frozen):
    """Settings of the sampler; the solver is the scheduler's of the pipeline."""

    steps: int = Field(28, gt=0, le=STEPS, description="network evaluations (pairs of them with CFG)")
    negative_prompt: str = Field("", description="CFG only: what to steer away from, in place of the empty prompt")
