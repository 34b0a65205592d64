"""One training step against a straight computation that uses nothing of the plugin but the UNet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gftzoo_sd.network import embed_temperature
from sd_tiny import PROMPTS, tiny_model
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from gftzoo.foreign_folders import PIPELINES
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.model import Model
from gftzoo.objectives import build_objective

BETA = torch.tensor([0.9, 0.37, 0.05])


def sinusoid(beta: float, width: int = 512) -> np.ndarray:
    """The released code's embedding of 1/beta - 1, in float64."""
    half = width // 2
    angles = [1000.0 * (1.0 / beta - 1.0) * 10_000.0 ** (-i / (half - 1)) for i in range(half)]
    return np.concatenate([np.sin(angles), np.cos(angles)])


def text_features(prompts: list[str]) -> Tensor:
    tokenizer = CLIPTokenizer.from_pretrained(PIPELINES / "nano" / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(PIPELINES / "nano" / "text_encoder", torch_dtype=torch.float32).eval()
    ids = tokenizer(prompts, padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state


def straight_loss(
    unet: torch.nn.Module, x: Tensor, t: Tensor, noise: Tensor, dropped: list[bool], *, omitted: bool
) -> Tensor:
    """The loss (B,) of one step, sample by sample."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, 0)
    captions, empty = text_features(PROMPTS), text_features([""])[0]
    losses = []
    for i, drop in enumerate(dropped):
        a = float(alpha_bar[t[i]])
        x_t = (a**0.5 * x[i] + (1 - a) ** 0.5 * noise[i])[None]
        seen = 1.0 if drop else float(BETA[i])
        embedding = torch.tensor(sinusoid(seen), dtype=torch.float32)[None]
        text = (empty if drop else captions[i])[None]
        f_s = unet(x_t, t[i : i + 1], text, timestep_cond=embedding).sample
        with torch.no_grad():
            one = None if omitted else torch.tensor(sinusoid(1.0), dtype=torch.float32)[None]
            f_u = unet(x_t, t[i : i + 1], empty[None], timestep_cond=one).sample
        mixed = BETA[i] * f_s + (1 - BETA[i]) * f_u
        losses.append(((mixed - noise[i]) ** 2).mean())
    return torch.stack(losses)


@pytest.mark.parametrize("dropped", [[False] * 3, [True, False, True]])
@pytest.mark.parametrize("omitted", [True, False])
def test_a_step_is_the_released_codes(dropped: list[bool], omitted: bool, steered: Model) -> None:
    latents = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    problem = steered.family.draw_problem(steered, latents, SampleGenerator([1, 2, 3]))
    options = {"unconditional_input": "omitted", "skip_dropped": False} if omitted else {}
    objective = build_objective("gft", options)
    assert isinstance(objective, GFT)
    loss = objective.loss_at(steered, problem, steered.encode_condition(PROMPTS), BETA, torch.tensor(dropped))
    expected = straight_loss(steered.network, latents, problem.t, problem.target, dropped, omitted=omitted)
    assert torch.allclose(loss, expected, rtol=1e-6, atol=1e-6)
    names, weights = zip(*steered.network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss.sum(), weights)
    for name, found, wanted in zip(names, gradients, torch.autograd.grad(expected.sum(), weights), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5), name


def test_recipes_offer_both_kinds_of_dropout(steered: Model) -> None:
    recipes = steered.card.recipes
    assert recipes["gft-finetune"].objective_options == {
        "p_drop": 0.0, "unconditional_input": "omitted", "skip_dropped": False,
    }  # fmt: skip
    for recipe in recipes.values():
        build_objective(recipe.objective, recipe.objective_options)


@pytest.mark.parametrize("beta", [1.0, 0.8, 0.5, 0.1333])
def test_embedding(beta: float) -> None:
    """In float64 of what the float32 temperature holds; its rounding turns the fastest sine by 1e-3 at most."""
    found = embed_temperature(torch.tensor([beta]), 512)[0]
    assert np.abs(found.double().numpy() - sinusoid(float(torch.tensor(beta)))).max() < 2e-3


def test_embedding_is_the_pipelines() -> None:
    from diffusers import StableDiffusionPipeline

    embed = StableDiffusionPipeline.get_guidance_scale_embedding
    scale = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert torch.allclose(embed_temperature(1 / scale, 512), embed(None, scale - 1, 512), atol=1e-4)


def test_temperature_one_is_no_zero_embedding() -> None:
    assert torch.equal(embed_temperature(torch.ones(1), 6)[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_embedding_is_finite_at_zero(steered: Model) -> None:
    embedded = embed_temperature(torch.tensor([0.0, 2.0**-24, 1e-3]), 512)
    assert embedded.isfinite().all()
    assert torch.equal(embedded[0], embedded[1])
    problem = steered.family.draw_problem(steered, torch.randn(3, 8, 8, 8), SampleGenerator([1, 2, 3]))
    nothing = torch.zeros(3)
    loss = GFT().loss_at(steered, problem, steered.encode_condition(PROMPTS), nothing, nothing.bool())
    assert loss.isfinite().all()


def test_gradient_reaches_the_network_and_not_the_text_encoder() -> None:
    model = tiny_model(temperature=True)
    condition = model.encode_condition(PROMPTS)
    assert not condition.requires_grad
    model.loss(torch.randn(3, 8, 8, 8), condition).backward()
    without = [name for name, parameter in model.network.named_parameters() if parameter.grad is None]
    assert without == []


def test_empty_prompt_is_the_null_condition(steered: Model) -> None:
    condition = steered.encode_condition(["", "red apple"])
    null = steered.null_condition(condition)
    assert torch.allclose(null[1], condition[0], atol=1e-6)
    assert not torch.allclose(null[1], condition[1], atol=1e-2)
    kept = steered.family.condition_drop(steered, condition, torch.tensor([True, False]))
    assert torch.equal(kept[1], condition[1])


def test_features_are_padded_for_a_wider_network() -> None:
    """What lets a full-size network train on the small text encoder."""
    model = tiny_model(temperature=True, text_width=160)
    features = model.encode_condition(PROMPTS)
    assert features.shape == (3, 24, 160)
    assert features[..., 96:].abs().max() == 0
    assert model.loss(torch.randn(3, 8, 8, 8), PROMPTS).isfinite()
