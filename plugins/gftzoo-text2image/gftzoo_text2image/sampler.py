"""One sampler for all pipelines: the solver is the pipeline's own scheduler, guidance is gftzoo's."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered, away_from, ramp
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_text2image.network import pipeline_of, predict
from gftzoo_text2image.options import PipelineSampler
from gftzoo_text2image.process import build_scheduler, is_flow, time_shift
from gftzoo_text2image.text import shapes_of, split


def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: PipelineSampler, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, h, w) of prompt features (B, N); UsageError for a negative prompt without CFG."""
    card, shapes = model.card, shapes_of(model.card)
    scheduler = timed_scheduler(model, settings.steps)
    steered = Steered(model, condition, guidance, away_from(model, condition, guidance, settings.negative_prompt))

    def network(x: Tensor, t: Tensor, text: Tensor, beta: Tensor | None) -> Prediction:
        return predict(model, x, t, split(text, shapes), beta)

    x_BChw = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    x_BChw = x_BChw * getattr(scheduler, "init_noise_sigma", 1.0)
    scaled = getattr(scheduler, "scale_model_input", None)
    for progress, t in ramp(scheduler.timesteps):
        inputs = x_BChw if scaled is None else scaled(x_BChw, t)
        prediction = steered.predict(network, progress, inputs, t.expand(len(inputs)))
        x_BChw = scheduler.step(prediction, t, x_BChw, return_dict=False)[0]
    return x_BChw


def timed_scheduler(model: Model, steps: int) -> Any:
    """The pipeline's scheduler with its times set, as the stock pipeline sets them."""
    scheduler, shift = build_scheduler(model.card), time_shift(model.card, steps)
    told: dict[str, Any] = {"num_inference_steps": steps}
    if pipeline_of(model.card).gives_times and not scheduler.config.get("use_flow_sigmas"):
        told = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
    scheduler.set_timesteps(**told, **shift, device=model.device)
    if is_flow(dict(scheduler.config) | {"_class_name": type(scheduler).__name__}):
        scheduler.set_begin_index(0)
    return scheduler
