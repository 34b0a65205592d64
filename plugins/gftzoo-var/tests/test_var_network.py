"""What VAR's network satisfies whatever its weights: causality over scales, the cache, the temperature, the counts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from gftzoo_var.network import VAR
from gftzoo_var.tokenizer import MultiScaleVQ
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from var_golden import official_model, read_golden

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.layers.sinusoid import sinusoid
from gftzoo.zoo import list_models

CARDS = {card.name: card for card in list_models("var-*", family="var")}
TENSORS = {"var-d12": 168, "var-d16": 220, "var-d20": 272, "var-d24": 324, "var-d30": 402, "var-d36": 446}
SPEC = TokenizerSpec(id="t", kind="multi-scale-vq", channels=4, codebook=11, scales=(1, 2, 4))


def small_card(**network: object) -> ModelCard:
    options = {"depth": 3, "width": 32, "heads": 4, "gamma_init": 1.0, "drop_path": 0.5, **network}
    return ModelCard(
        name="small", family="var", parameters=1, resolution=4, tokenizer=SPEC, classes=3, network=options,
        temperature=True,
    )  # fmt: skip


def random_network(**network: object) -> VAR:
    torch.manual_seed(0)
    made = load_family("var").build_network(small_card(**network))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made.eval()


def empty_network(card: ModelCard) -> nn.Module:
    with torch.device("meta"):
        return load_family("var").build_network(card)


@pytest.mark.parametrize("options", [{}, {"shared_adaln": True}, {"l2_attention": False}])
def test_scale_by_scale_equals_one_masked_pass(options: dict[str, bool]) -> None:
    network = random_network(**options)
    inputs, label, beta = torch.randn(2, 20, 4), torch.tensor([0, 2]), torch.tensor([0.3, 0.9])
    caches, condition = network.new_caches(len(label)), network.condition(label, beta)
    steps = [network.step(0, None, condition, caches)]
    steps += [network.step(k, part, condition, caches) for k, part in enumerate(inputs.split([4, 16], 1), start=1)]
    torch.testing.assert_close(torch.cat(steps, 1), network(inputs, label, beta), atol=1e-5, rtol=0)


def test_no_scale_sees_a_later_one() -> None:
    network = random_network()
    inputs = torch.randn(1, 20, 4, requires_grad=True)
    for scale, (first, end) in enumerate([(0, 1), (1, 5), (5, 21)]):
        logits = network(inputs, torch.tensor([1]), torch.tensor([0.5]))
        (gradient,) = torch.autograd.grad(logits[:, first].square().sum(), inputs)  # the first token of the scale ...
        read = gradient.abs().sum(-1)[0] > 0
        assert read[: end - 1].all(), f"scale {scale} must see all of itself and of those before"
        assert not read[end - 1 :].any(), f"scale {scale} sees a later one"


def test_paths_drop_in_training_only() -> None:
    network = random_network()
    arguments = (torch.randn(2, 20, 4), torch.tensor([0, 2]), torch.ones(2))
    assert torch.equal(network(*arguments), network(*arguments))
    network.train()
    assert not torch.equal(network(*arguments), network(*arguments))
    assert [block.drop_path.drop_prob for block in network.blocks] == [0.0, 0.25, 0.5]


def test_the_attention_kernel_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gftzoo.family")
    network = random_network()
    for _ in range(2):
        network.report_attention(masked=True)
        with torch.no_grad():
            network.report_attention(masked=True)
    assert list(network.backends) == ["all scales, masked", "all scales, masked, no gradient"]
    assert len(caplog.messages) == 2
    assert network.backends["all scales, masked"] in {"flash attention", "efficient attention", "math"}
    with sdpa_kernel(SDPBackend.MATH):
        other = random_network()
        other.report_attention(masked=True)
    assert other.backends["all scales, masked"] == "math"


def test_base_weights_ignore_the_temperature_until_trained(tmp_path: Path) -> None:
    golden = read_golden("var-full")
    plain = official_model(golden, tmp_path, "var")
    tuned = official_model(golden, tmp_path, "var", temperature=True)
    assert not {key for key in plain.network.state_dict() if "beta" in key}
    inputs, label = golden.outputs["var_input"], golden.inputs["label"]
    for beta in (0.1, 1.0):
        steered = tuned.network(inputs, label, torch.full((2,), beta))
        assert torch.equal(steered, plain.network(inputs, label))


def test_a_small_beta_scale_makes_neighbours_alike() -> None:
    betas = torch.tensor([0.99, 1.0])
    apart = [sinusoid(scale * betas).diff(dim=0).norm().item() for scale in (10.0, 1000.0)]
    assert apart[0] < 0.05 * apart[1]
    assert random_network(beta_scale=10).beta_embed.scale == 10


def test_another_number_of_classes_starts_at_the_null_class(tmp_path: Path) -> None:
    golden = read_golden("var-full")
    model = official_model(golden, tmp_path, "var", classes=3)
    null = golden.weights["var/class_emb.weight"][-1]
    assert torch.equal(model.network.class_emb.weight, null.expand(4, -1))


@pytest.mark.parametrize("name", CARDS)
def test_parameters(name: str) -> None:
    card = CARDS[name]
    assert sum(p.numel() for p in empty_network(card).parameters()) == card.parameters
    assert sum(p.numel() for p in empty_network(card.change(temperature=True)).parameters()) == card.parameters_gft


@pytest.mark.parametrize("name", TENSORS)
def test_official_sizes(name: str) -> None:
    network, depth = empty_network(CARDS[name]), int(name.removeprefix("var-d"))
    assert len(network.state_dict()) == TENSORS[name]
    assert network.attn_bias_for_masking.shape[-1] == (2240 if depth == 36 else 680)
    assert network.blocks[-1].drop_path.drop_prob == pytest.approx(0.1 * depth / 24)
    assert network.blocks[0].attn.heads == depth
    assert network.blocks[0].attn.mat_qkv.in_features == 64 * depth


def test_official_tokenizer_size() -> None:
    with torch.device("meta"):
        tokenizer = MultiScaleVQ(CARDS["var-d16"].tokenizer)
    assert sum(p.numel() for p in tokenizer.parameters()) == 108_948_355
    assert len(tokenizer.state_dict()) == 324 - 1 + 7 * 4  # no count of uses; 7 attentions with q, k, v apart


@torch.no_grad()
def test_initialisation() -> None:
    torch.manual_seed(0)
    network = load_family("var").build_network(small_card(width=64, gamma_init=1e-3))
    gates, rest = network.blocks[0].ada_lin[1].weight.split([128, 256])
    std = (1 / (3 * 64)) ** 0.5
    assert gates.std() == pytest.approx(1e-3 * std, rel=0.1)
    assert rest.std() == pytest.approx(0.5 * std, rel=0.1)
    assert network.head.weight.std() == pytest.approx(0.02 * std, rel=0.1)
    assert network.blocks[0].ffn.fc2.weight.std() == pytest.approx(std / 6**0.5, rel=0.1)
    assert network.pos_1LC.std() == pytest.approx(std, rel=0.1)
    assert network.beta_embed.mlp[2].weight.abs().max() == 0
    assert network.blocks[0].attn.scale_mul_1H11.exp().flatten().tolist() == pytest.approx([4.0] * 4)


def test_what_decays() -> None:
    network = empty_network(CARDS["var-d36"].change(temperature=True))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed, plain = load_family("var").parameter_groups(network, 0.05)
    kept = {names[id(p)] for p in decayed["params"]}
    spared = {names[id(p)] for p in plain["params"]}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert kept | spared == set(names.values())
    assert not kept & spared
    assert {"class_emb.weight", "word_embed.weight", "head.weight", "blocks.3.attn.mat_qkv.weight"} <= kept
    assert {"pos_start", "pos_1LC", "lvl_embed.weight", "blocks.3.ada_gss", "blocks.3.attn.scale_mul_1H11"} <= spared
    assert {"head.bias", "blocks.3.attn.q_bias", "blocks.3.attn.proj.bias"} <= spared


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "rate"), [("var-d16", 768, 200, 1e-4), ("var-d30", 1024, 350, 8e-5)]
)
def test_recipes(name: str, batch: int, epochs: int, rate: float) -> None:
    recipes = CARDS[name].recipes
    for kind in ("conditional", "gft"):
        recipe, schedule = recipes[kind], recipes[kind].learning_rate
        assert (recipe.batch_size, recipe.steps) == (batch, epochs * -(-1_281_167 // batch))
        assert recipe.lr == pytest.approx(rate * batch / 256)
        assert (recipe.betas, recipe.weight_decay, recipe.clip_norm) == ((0.9, 0.95), 0.05, 2.0)
        assert (schedule.kind, schedule.warmup_from, schedule.hold) == ("linear-tail", 0.005, 0.05)
        assert schedule.warmup == recipe.steps // 50
        assert (recipe.ema_decay, recipe.hflip) == (None, False)
    assert recipes["gft"].weight_decay_end == (0.08 if name == "var-d30" else None)
    assert recipes["gft-finetune"].init == "base"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": 16}, "scales=\\(1, 2, 4\\)"),
        ({"network": {"depth": 1, "width": 30, "heads": 4}}, "30 does not divide into 4"),
        ({"network": {"depth": 1, "width": 32, "heads": 4, "drop_paths": 0.1}}, "drop_path"),
    ],
)
def test_what_cannot_be_built_is_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        empty_network(small_card().change(**change))


def test_scales_must_rise_from_one() -> None:
    with pytest.raises(UsageError, match="rise from 1"):
        MultiScaleVQ(SPEC.model_copy(update={"scales": (2, 1, 4)}))
