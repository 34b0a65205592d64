"""What a pipeline's scheduler says of training and sampling: noise or flow, what is predicted, the shift of time.

Suffixes: B batch, C channels, h w sides of the latent.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from json import dumps, loads
from math import exp
from typing import Any

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.pieces import NoisedProblem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo_text2image.network import config_of, options_of, pipeline_of

STEPS = 1000  # of every published process
USUAL_STEPS = 50  # of sampling, where the shift of time depends on them
SCHEDULERS = (
    "FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler", "DDIMScheduler", "PNDMScheduler",
)  # fmt: skip


@dataclass(frozen=True)
class WeightedProblem(NoisedProblem):
    """A noised latent, and the weight (B,) of its loss."""

    weight: Tensor


def is_flow(scheduler: dict[str, Any]) -> bool:
    """Whether pictures go to noise in straight lines, and the network predicts the velocity, noise less picture."""
    flows = scheduler.get("use_flow_sigmas") or scheduler.get("prediction_type") == "flow_prediction"
    return bool(flows) or scheduler["_class_name"].startswith("FlowMatch")


def build_scheduler(card: ModelCard) -> Any:
    """The pipeline's scheduler; UsageError for one that is not known, or draws noise of its own."""
    import diffusers  # slow to import

    config = options_of(card).scheduler
    name = str(config.get("_class_name"))
    draws = config.get("stochastic_sampling") or "sde" in str(config.get("algorithm_type", ""))
    if name not in SCHEDULERS or draws:
        what = "draws noise at every step" if draws else "is not among those that are known"
        raise UsageError(
            f"{card.name}: its scheduler, {name}, {what}; choose one that is deterministic with -o "
            f"network.scheduler='{{_class_name: {SCHEDULERS[1]}, ...}}', of {', '.join(SCHEDULERS)}."
        )
    return built(getattr(diffusers, name), config)


def built(kind: Any, config: dict[str, Any]) -> Any:
    """A scheduler of a class with what of a configuration it knows."""
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in config.items() if key in known})


def time_shift(card: ModelCard, steps: int) -> dict[str, float]:
    """What the scheduler's `set_timesteps` needs to know of the size of the picture: `mu`, or nothing."""
    options, pipeline = options_of(card), pipeline_of(card)
    if not options.scheduler.get("use_dynamic_shifting"):
        return {}
    return {"mu": pipeline.shift(options.scheduler, config_of(card), card.grid, steps)}


def shift_factor(card: ModelCard) -> float:
    """How many times the odds of noise against picture are raised in training: those of the sampler's own times."""
    scheduler, found = options_of(card).scheduler, time_shift(card, USUAL_STEPS)
    if found:
        return exp(found["mu"])
    return float(scheduler.get("shift", scheduler.get("flow_shift", 1.0)))


@cache
def noising(scheduler: str, device: torch.device) -> Any:
    """The tables of a process of noise, on a device; `scheduler` is its configuration as JSON."""
    from diffusers import DDPMScheduler  # slow to import

    process = built(DDPMScheduler, loads(scheduler))
    process.alphas_cumprod = process.alphas_cumprod.to(device)
    return process


def draw(card: ModelCard, latents: Tensor, generator: SampleGenerator) -> WeightedProblem:
    """Latents (B, C, h, w), noised at a time of their own."""
    options = options_of(card)
    noise = generator.normal(*latents.shape[1:])
    if not is_flow(options.scheduler):
        process = noising(dumps(options.scheduler, sort_keys=True), latents.device)
        t_B = generator.integers(STEPS)
        velocity = process.config.prediction_type == "v_prediction"
        target = process.get_velocity(latents, noise, t_B) if velocity else noise
        weight_B = min_snr_weight(process.alphas_cumprod[t_B], options.min_snr, velocity)
        return WeightedProblem(process.add_noise(latents, noise, t_B), t_B, target, weight_B)
    if options.min_snr is not None:
        raise UsageError(f"{card.name} is a flow, to whose losses min_snr gives no weights; leave it out.")
    u_B = generator.uniform() if options.times == "uniform" else torch.sigmoid(generator.normal())
    factor = shift_factor(card)
    sigma_B = factor * u_B / (1 + (factor - 1) * u_B)
    sigma_B111 = sigma_B.view(-1, 1, 1, 1)
    x_BChw = (1 - sigma_B111) * latents + sigma_B111 * noise
    return WeightedProblem(x_BChw, STEPS * sigma_B, noise - latents, torch.ones_like(sigma_B))


def min_snr_weight(alpha_bar_B: Tensor, most: float | None, velocity: bool) -> Tensor:
    """min(SNR, most) over the SNR that the loss weighs by itself, arXiv 2303.09556; ones without it."""
    if most is None:
        return torch.ones_like(alpha_bar_B)
    snr_B = alpha_bar_B / (1 - alpha_bar_B)
    return snr_B.clamp(max=most) / (snr_B + 1 if velocity else snr_B)
