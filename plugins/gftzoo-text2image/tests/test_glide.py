"""GLIDE's cards have the published sizes, and a tiny one trains with GFT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gftzoo_text2image.glide.conditions import tokens_of

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Temperature
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT, GFTOptions
from gftzoo.model import Model
from gftzoo.zoo import get_card

TINY: dict[str, Any] = {
    "width": 8, "multipliers": [1, 2], "attention": [False, True], "layers": 1, "head_width": 8, "norm_groups": 4,
    "text_layers": 1, "text_width": 16, "text_heads": 2, "tokens": 12, "vocabulary": 257,
}  # fmt: skip
PROMPTS = ["Red apple", "a prompt of more than twelve letters"]


def tiny(**changes: Any) -> Model:
    network = {**TINY, **changes.pop("network", {})}
    card: ModelCard = get_card("glide").change(text_encoder=None, resolution=8, network=network, **changes)
    torch.manual_seed(0)
    return Model.fresh(card, load_family("glide").build_tokenizer(card.tokenizer))


@pytest.mark.parametrize("name", ["glide", "glide-upsample"])
def test_the_published_sizes(name: str) -> None:
    card = get_card(name)
    with torch.device("meta"):
        network = load_family("glide").build_network(card)
    assert sum(p.numel() for p in network.parameters()) == card.parameters


def test_bytes_are_tokens() -> None:
    model = tiny()
    tokens, mask = tokens_of(model.encode_condition(PROMPTS).half().float())  # as a cache in 16 bits has them
    assert bytes(tokens[0, :9].tolist()).decode() == "red apple" and mask.sum(1).tolist() == [9, 12]
    assert tokens[0, 9:].eq(256).all()


@pytest.mark.parametrize("options", [{}, {"beta_min": 0.5, "beta_max": 0.5}])
def test_a_step_of_gft(options: dict[str, float]) -> None:
    one = bool(options)
    model = tiny(temperature=not one, network={"temperature_input": "none" if one else "embedding"})
    generator = SampleGenerator.for_samples("test", 0, range(2))
    problem = model.family.draw_problem(model, generator.normal(3, 8, 8), generator)
    optimizer = torch.optim.SGD(model.network.parameters(), 0.01)
    losses = []
    for _ in range(3):
        torch.manual_seed(0)
        stream = SampleGenerator.for_samples("loss", 0, range(2))
        loss = GFT(GFTOptions(**options)).loss(model, problem, model.encode_condition(PROMPTS), stream).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    if not one:
        drawn = model.sample_latents(PROMPTS, Temperature(0.5), [1, 2], steps=2)
        assert torch.equal(drawn[1:], model.sample_latents(PROMPTS[1:], Temperature(0.5), [2], steps=2))


def test_an_upsampler_trains_on_small_pictures() -> None:
    model = tiny(network={"enlarges": True})
    generator = SampleGenerator.for_samples("test", 0, range(2))
    problem = model.family.draw_problem(model, generator.normal(3, 8, 8), generator)
    prediction = model.family.predict(model, problem, model.encode_condition(PROMPTS), None)
    assert prediction.shape == (2, 6, 8, 8)
