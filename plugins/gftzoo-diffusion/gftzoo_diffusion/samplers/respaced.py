"""DDPM and DDIM by the schedulers of diffusers, and multistep DPM-Solver++.

DDPM and DDIM run on a respaced process: diffusers' scheduler gets the respaced betas and integer steps 0..n-1, the
network the timesteps those stand for, as OpenAI's code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ByClassifier
from gftzoo.contract.pieces import ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import Diffusion
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.processes.discrete import Discrete, spaced_timesteps
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.samplers.multistep import MultistepSolver
from gftzoo_diffusion.samplers.settings import DiffusionSampler
from gftzoo_diffusion.training import learned_variance

VARIANCE_TYPES = {"learned": "learned_range", "fixed-small": "fixed_small", "fixed-large": "fixed_large"}


@dataclass(frozen=True)
class Route:
    """A scheduler and the way through it.

    Attributes:
        scheduler: of diffusers, or with a `step` like its.
        steps: pairs of the scheduler's step and the timestep that it stands for.
        arguments: of every step.
        variance: of DDPM's step, None for other samplers.
        tables: of the process that is stepped through, where guidance may push.
        clip: whether data is clipped to [-1, 1] before a push changes the noise, and not by the scheduler.
    """

    scheduler: Any
    steps: list[tuple[int, int]]
    arguments: dict[str, Any]
    variance: str | None = None
    tables: Diffusion | None = None
    clip: bool = False

    def step(self, output: Tensor, step: int, x_BCHW: Tensor, push: Tensor | None = None) -> Tensor:
        """The latents of the next step, of the network's output, noise and perhaps a variance behind it."""
        channels = x_BCHW.shape[1]
        if push is not None and self.variance is None:
            output = self.pushed_noise(output[:, :channels], step, x_BCHW, push)
        told = output if self.variance == "learned" else output[:, :channels]
        after: Tensor = self.scheduler.step(told, step, x_BCHW, **self.arguments).prev_sample
        if push is None or self.variance is None:
            return after
        return after + self.step_variance(output[:, channels:], step, x_BCHW) * push

    def pushed_noise(self, eps: Tensor, step: int, x_BCHW: Tensor, push: Tensor) -> Tensor:
        """The noise that the push is taken from (arXiv 2105.05233, algorithm 2)."""
        tables = self.tables
        assert tables is not None
        t_B = torch.full((len(eps),), step, device=eps.device)
        if self.clip:
            x_0 = tables.predicted_x0(x_BCHW, t_B, eps).clamp(-1, 1)
            eps = (tables.at(tables.clean_xt_K, t_B, eps) * x_BCHW - x_0) / tables.at(tables.clean_eps_K, t_B, eps)
        return eps - tables.at(tables.noise_K, t_B, eps) * push

    def step_variance(self, values: Tensor, step: int, x_BCHW: Tensor) -> Tensor:
        """The variance of DDPM's step, which scales the push (arXiv 2105.05233, algorithm 1)."""
        tables = self.tables
        assert tables is not None
        t_B = torch.full((len(x_BCHW),), step, device=x_BCHW.device)
        if self.variance == "learned":
            return tables.log_variance(values, t_B).exp()
        bound_K = tables.log_large_K if self.variance == "fixed-large" else tables.log_small_K
        return tables.at(bound_K, t_B, x_BCHW).exp()


def multistep(drawing: Drawing) -> Tensor:
    """Latents by DPM-Solver++ of second order."""
    return follow(drawing, solver_route(drawing.process, drawing.settings))


def respaced(drawing: Drawing) -> Tensor:
    """Latents by DDPM or DDIM."""
    pushed = isinstance(drawing.steered.guidance, ByClassifier)
    return follow(
        drawing, respaced_route(drawing.model.card, drawing.process, drawing.settings, drawing.generator, pushed)
    )


def follow(drawing: Drawing, route: Route) -> Tensor:
    """Latents (B, C, h, w) at the end of a route."""
    process: Discrete = drawing.process
    x_BCHW = drawing.start()
    for share, (step, timestep) in ramp(route.steps):
        output = drawing.everything(x_BCHW, timestep + process.first, share, process.progress(timestep))
        x_BCHW = route.step(output, step, x_BCHW, drawing.push(x_BCHW, timestep + process.first))
    return x_BCHW


def solver_route(process: Discrete, settings: DiffusionSampler) -> Route:
    """DPM-Solver++ of second order on the training process, as GFT's evaluation uses it."""
    solver = MultistepSolver(process.scheduler, settings.steps)
    return Route(solver, [(t, t + settings.timestep_offset) for t in solver.timesteps], {})


def respaced_route(
    card: ModelCard,
    process: Discrete,
    settings: DiffusionSampler,
    generator: SampleGenerator,
    pushed: bool = False,
) -> Route:
    """DDPM or DDIM on the respaced process, `pushed` by a classifier or not; noise comes from the samples' streams."""
    from diffusers import DDIMScheduler, DDPMScheduler  # here, since it takes seconds and no other sampler needs it

    tables = process.tables.respaced(spaced_timesteps(settings.spacing or str(settings.steps)))
    steps = list(enumerate(tables.timestep_K.tolist()))[::-1]
    clip = settings.clip and not (pushed and settings.sampler == "ddim")
    shared: dict[str, Any] = {
        "num_train_timesteps": len(steps),
        "trained_betas": tables.beta_K.tolist(),
        "clip_sample": clip,
    }
    arguments: dict[str, Any] = {"generator": generator.streams}
    chosen = choose_variance(card, settings) if settings.sampler == "ddpm" else None
    if chosen is not None:
        scheduler: Any = DDPMScheduler(variance_type=VARIANCE_TYPES[chosen], **shared)
    else:
        scheduler = DDIMScheduler(**shared)
        # After clipping, the direction must follow the clipped prediction, as in OpenAI's code.
        arguments |= {"eta": settings.eta, "use_clipped_model_output": clip}
    scheduler.alphas_cumprod = tables.alpha_bar_K  # float64, where diffusers keeps float32
    scheduler.set_timesteps(len(steps))
    return Route(scheduler, steps, arguments, chosen, tables, settings.clip)


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
