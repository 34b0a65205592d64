"""Both reverse processes of unCLIP. Suffixes: B images, C channels, H W sides, D width of an embedding."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gftzoo  # its `load` imports what loads weights only when it is asked for
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered, ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator, seed_for
from gftzoo.layers.diffusion import STEPS, spaced_timesteps
from gftzoo_text2image.glide.sampling import process, respaced, reverse
from gftzoo_text2image.unclip.conditions import encode, parts_of
from gftzoo_text2image.unclip.options import DecoderNetwork, DecoderSampler, PriorSampler
from gftzoo_text2image.unclip.tokenizers import PIXELS, ClipEmbeddings, beside

FURTHEST = 10.0  # of a predicted embedding, in deviations
DECODER_CFG = 8.0  # as published, where a picture is drawn of an embedding alone


@cache
def known(source: str, family: str, tokenizer_path: str | None) -> Any:
    """The model of a run, a folder or a name; UsageError for one of another family."""
    model = gftzoo.load(source, None if Path(source).exists() else "base", tokenizer_path=tokenizer_path)
    if model.card.family != family:
        raise UsageError(f"{source!r} is of the family {model.card.family} and here one of {family} is needed.")
    return model


def sample_prior(
    model: Model, condition: Tensor, guidance: Guidance, settings: PriorSampler, generator: SampleGenerator
) -> Tensor:
    """Standardised embeddings (B, D, 1, 1) of prompts."""
    return draw_embeddings(model, Steered(model, condition, guidance), settings.steps, generator)


def draw_embeddings(model: Model, steered: Steered, steps: int, generator: SampleGenerator) -> Tensor:
    """The same, ancestral with the smaller variance; the network predicts the embedding, which is cut at 10."""
    tables = process("cosine").respaced(spaced_timesteps(str(steps), STEPS)).to(model.device)
    shape = (model.card.tokenizer.channels, 1, 1)
    x = generator.normal(*shape)

    def network(x: Tensor, t: Tensor, condition: Tensor, beta: Tensor | None) -> Tensor:
        text = parts_of(model, condition)
        return model.network(x.flatten(1), t, text["text"], text["states"], text["mask"], beta).view(x.shape)

    for progress, step in ramp(list(reversed(range(steps)))):
        t_B = torch.full((len(x),), step, device=x.device)
        x_0 = steered.predict(network, progress, x, tables.timestep_K[t_B]).clamp(-FURTHEST, FURTHEST)
        x, noise = tables.posterior_mean(x_0, x, t_B), generator.normal(*shape)
        if step:
            x = x + (0.5 * tables.at(tables.log_small_K, t_B, x)).exp() * noise
    return x


def sample_decoder(
    model: Model, condition: Tensor, guidance: Guidance, settings: DecoderSampler, generator: SampleGenerator
) -> Tensor:
    """Small pictures of prompts, (B, C, H, W); the prior draws their embeddings."""
    path = getattr(model.tokenizer, "source", None)
    prior = known(settings.prior, "unclip-prior", path if path and Path(path).is_dir() else None)
    prior.to(model.device)
    plain = prior.baked_beta is None and not prior.card.temperature
    way = prior.guidance(settings.prior_beta if prior.card.temperature else None, settings.prior_cfg if plain else None)
    streams = SampleGenerator([seed_for("prior", s.initial_seed()) for s in generator.streams], model.device)
    steered = Steered(prior, condition, way, model.null_condition(condition))
    latents = draw_embeddings(prior, steered, settings.prior_steps, streams)
    tokenizer = prior.require_tokenizer()
    assert isinstance(tokenizer, ClipEmbeddings)
    return draw_pictures(model, condition, tokenizer.embeddings(latents), guidance, settings, generator)


def draw_pictures(
    model: Model,
    condition: Tensor,
    image_BD: Tensor,
    guidance: Guidance,
    settings: DecoderSampler,
    generator: SampleGenerator,
) -> Tensor:
    """Small pictures of embeddings and prompts, (B, C, H, W), with zeros where the tokenizer has embeddings."""
    card, steered = model.card, Steered(model, condition, guidance)
    text = parts_of(model, steered.condition_G)

    def denoise(x: Tensor, t: Tensor, _: Tensor, beta: Tensor | None) -> Tensor:
        return model.network(x, t, guidance.repeat(image_BD), text, beta)

    steps = respaced(card.network_options(DecoderNetwork).schedule, settings)
    noise = generator.normal(PIXELS, card.grid, card.grid)
    pictures = reverse(model, steered, denoise, noise, steps, settings, generator)
    return beside(pictures, torch.zeros_like(image_BD), card.tokenizer.channels)


def picture_of(decoder: str, tokenizer_path: str | None, image_BD: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] that a decoder draws of embeddings alone, its text empty, each with seed 0."""
    local = tokenizer_path if tokenizer_path and Path(tokenizer_path).is_dir() else None
    model = known(decoder, "unclip-decoder", local).to(image_BD.device)
    condition = encode(model, [""] * len(image_BD), False)
    plain = model.baked_beta is None and not model.card.temperature
    guidance = model.guidance(1 / DECODER_CFG if model.card.temperature else None, DECODER_CFG if plain else None)
    settings = model.family.sampler_settings(model.card)
    generator = SampleGenerator([0] * len(image_BD), image_BD.device)
    with torch.no_grad():
        drawn = draw_pictures(model, condition, image_BD, guidance, settings, generator)
    found: Tensor = 2 * model.decode(drawn) - 1
    return found
