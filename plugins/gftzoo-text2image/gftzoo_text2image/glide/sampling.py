"""GLIDE's reverse process. Suffixes: B images, C channels, H W sides, K steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered, ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import Diffusion, cosine_betas, spaced_timesteps
from gftzoo.layers.temperature import plain
from gftzoo_text2image.glide.conditions import tokens_of
from gftzoo_text2image.glide.options import STEPS, GlideNetwork, GlideSampler


@cache
def process(schedule: str) -> Diffusion:
    """The diffusion of a schedule, exact tables."""
    if schedule == "cosine":
        return Diffusion(cosine_betas(STEPS))
    return Diffusion(torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64))


@cache
def process_on(schedule: str, device: torch.device) -> Diffusion:
    """The same in float32 on a device."""
    return process(schedule).to(device)


def respaced(schedule: str, settings: GlideSampler) -> Diffusion:
    """The process that visits the chosen steps; UsageError for a spacing that cannot be."""
    fast = settings.spacing == "fast27"
    try:
        timesteps = spaced_timesteps("10,10,3,2,2" if fast else settings.spacing or str(settings.steps), STEPS)
    except ValueError as error:
        raise UsageError(f"sampler setting spacing={settings.spacing!r}: {error}.") from error
    if fast:  # the official code begins two steps later
        timesteps[-1] = STEPS - 3
    return process(schedule).respaced(timesteps)


def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: GlideSampler, generator: SampleGenerator
) -> Tensor:
    """Pictures (B, C, H, W) of prompts; the text transformer reads each once."""
    card, network = model.card, model.network
    options = card.network_options(GlideNetwork)
    if options.enlarges:
        raise UsageError(f"{card.name} enlarges small pictures and draws none of its own; sample the base model.")
    steered = Steered(model, condition, guidance)
    text, vector = network.text(*tokens_of(steered.condition_G))

    def denoise(x: Tensor, t: Tensor, _: Tensor, beta: Tensor | None) -> Tensor:
        return network.denoise(x, t, text, vector, beta)

    noise = generator.normal(card.tokenizer.channels, card.grid, card.grid)
    return reverse(model, steered, denoise, noise, respaced(options.schedule, settings), settings, generator)


def reverse(
    model: Model,
    steered: Steered,
    denoise: Callable[..., Tensor],
    x_BCHW: Tensor,
    steps: Diffusion,
    settings: GlideSampler,
    generator: SampleGenerator,
) -> Tensor:
    """Pictures (B, C, H, W) from noise; `denoise` of (x, t, condition, beta) gives noise, and variance behind it."""
    tables = steps.to(x_BCHW.device)
    learned = learned_variance(model, settings)
    draw = partial(generator.normal, *x_BCHW.shape[1:])
    for progress, step in ramp(list(reversed(range(len(steps.beta_K))))):
        t_B = tables.timestep_K[step].expand(len(x_BCHW))
        passes_G = plain(steered.passes(denoise, progress, x_BCHW, t_B))
        eps = steered.combine(passes_G, progress)[:, : x_BCHW.shape[1]]
        values = variance_of(steered.guidance, passes_G, len(x_BCHW), x_BCHW.shape[1]) if learned else None
        x_BCHW = one_step(tables, step, x_BCHW, eps, values, settings, draw)
    return x_BCHW


def variance_of(guidance: Guidance, passes_G: Tensor, images: int, channels: int) -> Tensor:
    """The variance (B, C, H, W), which guidance leaves alone: the conditional's, and at scale 0 the null pass's."""
    unconditional = isinstance(guidance, ClassifierFree) and guidance.scale == 0
    return (passes_G[images:] if unconditional else passes_G[:images])[:, channels:]


def learned_variance(model: Model, settings: GlideSampler) -> bool:
    """Whether the variance channels are taken: `auto` trusts those of weights that GFT has not changed."""
    if settings.variance == "auto":
        return not model.card.temperature and model.baked_beta is None
    return settings.variance == "learned"


def one_step(
    tables: Diffusion,
    step: int,
    x_BCHW: Tensor,
    eps: Tensor,
    values: Tensor | None,
    settings: GlideSampler,
    draw: partial[Tensor],
) -> Tensor:
    """x one step nearer to the picture; ddim adds no noise, and no step does at the end."""
    t_B = torch.full((len(x_BCHW),), step, device=x_BCHW.device)
    x_0 = tables.predicted_x0(x_BCHW, t_B, eps)
    if settings.clip:
        x_0 = x_0.clamp(-1, 1)
    if settings.sampler == "ddim":
        eps = (x_BCHW - tables.at(tables.signal_K, t_B, x_0) * x_0) / tables.at(tables.noise_K, t_B, x_0)
        return x_0 if step == 0 else tables.noised(x_0, t_B - 1, eps)
    mean = tables.posterior_mean(x_0, x_BCHW, t_B)
    noise = draw()  # at the last step too, so that the number of draws is that of the steps
    if step == 0:
        return mean
    fixed = tables.at(tables.log_large_K, t_B, x_0)
    return mean + (0.5 * (fixed if values is None else tables.log_variance(values, t_B))).exp() * noise
