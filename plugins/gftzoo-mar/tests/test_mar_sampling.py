"""The sampler against the straightforward loop, and each sample's independence of its batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gftzoo_mar.network import MAR, unpatchify
from gftzoo_mar.sampler import SamplerOptions, learned_variance, sample
from gftzoo_mar.schedule import sampling_schedule
from nano import nano_model
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

SETTINGS = SamplerOptions(steps=5, head_steps=4, head_temperature=0.9, variance_share=-0.5)
LABELS = torch.tensor([3, 1, 4])
GUIDANCE: list[Guidance] = [Unguided(), ClassifierFree(2.0), ClassifierFree(3.0, "linear")]
TEMPERATURES: list[Guidance] = [Temperature(1.0), Temperature(0.5), Temperature(0.4, "linear")]


def generator(*positions: int) -> SampleGenerator:
    return SampleGenerator.for_samples("image", 0, positions)


@pytest.fixture
def plain() -> Model:
    return quiet(nano_model("mar-nano", temperature=False))


@pytest.fixture
def steered() -> Model:
    return quiet(nano_model("mar-nano", temperature=True))


def quiet(model: Model) -> Model:
    model.network.eval()
    return model


def every_vector(network: MAR, tokens: Tensor, masked: Tensor, classes: Tensor, beta: Tensor | None) -> Tensor:
    """z at all positions, computed with timm's blocks over all tokens; masked tokens are only kept from being keys."""
    buffer = network.options.buffer
    condition = network.embed_condition(classes, beta)[:, None].expand(-1, buffer, -1)
    x = torch.cat([condition, network.z_proj(tokens)], 1) + network.encoder_pos_embed_learned
    x = network.z_proj_ln(x)
    is_key = torch.cat([torch.ones(len(x), buffer, dtype=torch.bool), ~masked], 1)[:, None, None]
    for block in network.encoder_blocks:
        x = block(x, attn_mask=is_key)
    x = network.decoder_embed(network.encoder_norm(x))
    hidden = torch.cat([torch.zeros(len(x), buffer, dtype=torch.bool), masked], 1)[..., None]
    x = torch.where(hidden, network.mask_token, x) + network.decoder_pos_embed_learned
    for block in network.decoder_blocks:
        x = block(x)
    return network.decoder_norm(x)[:, buffer:] + network.diffusion_pos_embed_learned


@torch.no_grad()
def straightforward(model: Model, labels: Tensor, guidance: Guidance, settings: Any, draws: SampleGenerator) -> Tensor:
    """The loop as it is written in the paper: everything is computed for every token in every iteration and step."""
    network, batch, count = model.network, len(labels), model.network.tokens
    schedule = sampling_schedule(settings.head_steps, settings.head_spacing, torch.device("cpu"))
    order = draws.permutation(count)
    tokens, masked = torch.zeros(batch, count, network.channels), torch.ones(batch, count, dtype=torch.bool)
    classes = guidance.expand(labels, torch.full_like(labels, model.card.classes))
    for i in range(settings.steps):
        left = math.floor(count * math.cos(math.pi / 2 * (i + 1) / settings.steps))
        left = max(1, min(int(masked[0].sum()) - 1, left))
        after = torch.zeros_like(masked).scatter(1, order[:, :left], value=True)
        reveal = masked if i == settings.steps - 1 else masked & ~after
        progress = (count - left) / count
        beta = guidance.beta(len(classes), progress)
        z = every_vector(network, guidance.repeat(tokens), guidance.repeat(masked), classes, beta)
        noise = draws.normal(settings.head_steps + 1, int(reveal[0].sum()), network.channels)
        drawn = torch.zeros(settings.head_steps + 1, batch, count, network.channels)
        drawn[:, reveal] = noise.transpose(0, 1).flatten(1, 2)
        x = drawn[0]
        for row, k in enumerate(reversed(range(settings.head_steps)), start=1):
            t = schedule.timestep_K[k].expand(len(classes), count)
            out = network.diffloss.net(guidance.repeat(x), t, z, None if beta is None else beta[:, None].expand_as(t))
            eps, share = out.chunk(2, -1)
            share = share[:batch] if learned_variance(model) else settings.variance_share
            x = schedule.step(x, k, guidance.combine(eps, progress), share, settings.head_temperature * drawn[row])
        tokens = torch.where(reveal[..., None], x, tokens)
        masked = masked & ~reveal
    assert not masked.any()
    return unpatchify(tokens, network.options.patch_size, model.card.grid)


def check(model: Model, guidance: Guidance) -> None:
    fast = sample(model, LABELS, guidance, SETTINGS, generator(0, 1, 2))
    slow = straightforward(model, LABELS, guidance, SETTINGS, generator(0, 1, 2))
    scale = float(slow.abs().max())  # random weights: the last timestep of the cosine schedule makes large numbers
    assert float((fast - slow).abs().max()) < 1e-4 * max(1.0, scale)


@pytest.mark.parametrize("guidance", GUIDANCE, ids=str)
def test_guided_sampling_equals_the_straightforward_loop(plain: Model, guidance: Guidance) -> None:
    check(plain, guidance)


@pytest.mark.parametrize("guidance", TEMPERATURES, ids=str)
def test_sampling_with_temperature_equals_the_straightforward_loop(steered: Model, guidance: Guidance) -> None:
    check(steered, guidance)


@pytest.mark.parametrize("guidance", [TEMPERATURES[2], GUIDANCE[2]], ids=str)
def test_an_image_does_not_depend_on_its_batch(plain: Model, steered: Model, guidance: Guidance) -> None:
    model = steered if isinstance(guidance, Temperature) else plain
    whole = sample(model, LABELS, guidance, SETTINGS, generator(7, 8, 9))
    alone = sample(model, LABELS[2:], guidance, SETTINGS, generator(9))
    scale = float(whole.abs().max())
    assert float((whole[2:] - alone).abs().max()) < 1e-4 * max(1.0, scale)
    other = sample(model, LABELS[2:], guidance, SETTINGS, generator(10))
    assert float((whole[2:] - other).abs().max()) > 1e-2


def test_guidance_at_strength_one_is_none(plain: Model, steered: Model) -> None:
    unguided = sample(plain, LABELS, Unguided(), SETTINGS, generator(0, 1, 2))
    torch.testing.assert_close(
        sample(plain, LABELS, ClassifierFree(1.0), SETTINGS, generator(0, 1, 2)), unguided, rtol=1e-3, atol=1e-3
    )
    constant, ramp = (
        sample(steered, LABELS, Temperature(1.0, schedule), SETTINGS, generator(0, 1, 2))
        for schedule in ("constant", "linear")
    )
    assert torch.equal(constant, ramp)


def test_more_iterations_than_tokens_reveal_one_at_a_time(plain: Model) -> None:
    exact, more = (SETTINGS.model_copy(update={"steps": n}) for n in (16, 64))
    first, second = (sample(plain, LABELS, Unguided(), s, generator(0, 1, 2)) for s in (exact, more))
    assert torch.equal(first, second)


def test_impossible_settings_are_one_sentence(plain: Model) -> None:
    for settings in ({"head_steps": 1001}, {"head_steps": 600, "head_spacing": "stride"}):
        with pytest.raises(UsageError, match="head_steps"):
            plain.sample_latents([1], Unguided(), [0], **settings)
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        plain.sample_latents([1], Unguided(), [0], stepps=3)
