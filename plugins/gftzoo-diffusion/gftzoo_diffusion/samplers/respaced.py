"""DDPM, DDIM and multistep DPM-Solver++ by the schedulers of diffusers.

DDPM and DDIM run on a respaced process: diffusers' scheduler gets the respaced betas and integer steps 0..n-1, the
network the timesteps those stand for, as OpenAI's code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.pieces import ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.processes.discrete import Discrete, spaced_timesteps
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.samplers.settings import DiffusionSampler
from gftzoo_diffusion.training import learned_variance

VARIANCE_TYPES = {"learned": "learned_range", "fixed-small": "fixed_small", "fixed-large": "fixed_large"}


@dataclass(frozen=True)
class Route:
    """A scheduler and the way through it: pairs of the scheduler's step and the timestep that stands for."""

    scheduler: Any
    steps: list[tuple[int, int]]
    arguments: dict[str, Any]
    learned_variance: bool = False


def multistep(drawing: Drawing) -> Tensor:
    """Latents by DPM-Solver++ of second order."""
    return follow(drawing, solver_route(drawing.process, drawing.settings))


def respaced(drawing: Drawing) -> Tensor:
    """Latents by DDPM or DDIM."""
    route = respaced_route(drawing.model.card, drawing.process, drawing.settings, drawing.generator)
    return follow(drawing, route)


def follow(drawing: Drawing, route: Route) -> Tensor:
    """Latents (B, C, h, w) at the end of a route."""
    process: Discrete = drawing.process
    x_BCHW = drawing.start()
    for share, (step, timestep) in ramp(route.steps):
        output = drawing.everything(x_BCHW, timestep + process.first, share, process.progress(timestep))
        if not route.learned_variance:
            output = output[:, : x_BCHW.shape[1]]
        x_BCHW = route.scheduler.step(output, step, x_BCHW, **route.arguments).prev_sample
    return x_BCHW


def solver_route(process: Discrete, settings: DiffusionSampler) -> Route:
    """DPM-Solver++ of second order on the training process, as GFT's evaluation uses it."""
    from diffusers import DPMSolverMultistepScheduler  # here, since it takes seconds and only sampling needs it

    scheduler = DPMSolverMultistepScheduler(**process.scheduler)
    scheduler.set_timesteps(settings.steps)
    return Route(scheduler, [(int(t), int(t) + settings.timestep_offset) for t in scheduler.timesteps], {})


def respaced_route(card: ModelCard, process: Discrete, settings: DiffusionSampler, generator: SampleGenerator) -> Route:
    """DDPM or DDIM on the respaced process; step noise comes from the samples' own streams."""
    from diffusers import DDIMScheduler, DDPMScheduler

    tables = process.tables.respaced(spaced_timesteps(settings.spacing or str(settings.steps)))
    steps = list(enumerate(tables.timestep_K.tolist()))[::-1]
    shared: dict[str, Any] = {
        "num_train_timesteps": len(steps),
        "trained_betas": tables.beta_K.tolist(),
        "clip_sample": settings.clip,
    }
    arguments: dict[str, Any] = {"generator": generator.streams}
    variance = choose_variance(card, settings)
    if settings.sampler == "ddpm":
        scheduler: Any = DDPMScheduler(variance_type=VARIANCE_TYPES[variance], **shared)
    else:
        scheduler = DDIMScheduler(**shared)
        # After clipping, the direction must follow the clipped prediction, as in OpenAI's code.
        arguments |= {"eta": settings.eta, "use_clipped_model_output": settings.clip}
    scheduler.alphas_cumprod = tables.alpha_bar_K  # float64, where diffusers keeps float32
    scheduler.set_timesteps(len(steps))
    return Route(scheduler, steps, arguments, settings.sampler == "ddpm" and variance == "learned")


def choose_variance(card: ModelCard, settings: DiffusionSampler) -> str:
    """`auto` trusts the variance channels only of weights that were trained with them."""
    if settings.variance == "auto":
        return "learned" if learned_variance(card) else "fixed-large"
    if settings.variance == "learned" and not card.network_options(NetworkOptions).has_variance:
        raise UsageError(
            f"{card.name} has no variance channels (network.learn_sigma is false, or no option of its network), so "
            "variance=learned is not possible; valid are auto, fixed-small and fixed-large."
        )
    return settings.variance
