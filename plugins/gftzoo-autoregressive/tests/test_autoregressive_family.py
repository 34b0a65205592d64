"""Sizes, decoding, orders of codes, settings and refusals of the families of this package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from gftzoo_autoregressive.gpt import GPTDecoder
from gftzoo_autoregressive.magvit import MagvitDecoder
from gftzoo_autoregressive.rar import RARDecoder
from gftzoo_autoregressive.residuals import RQVAE, ResidualPatches
from gftzoo_autoregressive.rq import RQDecoder
from gftzoo_autoregressive.rq_family import vectors_of
from gftzoo_autoregressive.tokenizers import VQGAN
from gftzoo_autoregressive.vit_tokenizer import ViTVQGAN
from golden import near
from nano import nano_latents, nano_model
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from gftzoo.catalogue.registry import zoo_registry
from gftzoo.contract.guidance import Temperature
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.layers.decoding import Decoder
from gftzoo.layers.temperature import Affine
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.zoo import get_card, list_models

NANO = ["rar-nano", "vqgan-nano", "vit-vqgan-nano", "open-magvit2-nano", "rq-nano"]

# (parameters, tensors) of the official networks; what a null row adds; tensors that are no weights of ours
OFFICIAL = {
    "rar-b": (260_923_648, 441, 0, 0),
    "rar-l": (461_668_352, 441, 0, 0),
    "rar-xl": (955_425_024, 585, 0, 0),
    "rar-xxl": (1_498_520_704, 729, 0, 0),
    "vqgan-cin": (1_410_640_896, 821, 1536, 48),
    "open-magvit2-b": (343_570_432, 188, 0, 0),
    "open-magvit2-l": (804_362_240, 279, 0, 0),
    "open-magvit2-xl": (1_486_679_040, 370, 0, 0),
    "rq-480m": (480_921_088, 268, 1536, 0),
    "rq-821m": (820_899_328, 460, 1536, 0),
    "rq-1.4b": (1_387_529_728, 780, 1536, 0),
    "rq-3.8b": (3_822_488_064, 780, 2560, 0),
}
TOKENIZERS = {
    ("vqgan", "vqgan-16-1024"): 72_141_699,
    ("vqgan", "vqgan-16-16384"): 76_073_859,
    ("vit-vqgan", "vit-vqgan-small"): 51_956_771,
    ("vit-vqgan", "vit-vqgan-base"): 172_237_347,
    ("vit-vqgan", "vit-vqgan-large"): 615_322_915,
    ("rq", "rq-vae-8x8x4"): 104_402_051 - 256,  # the row of its table that is never used
}


def size_of(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes(name: str) -> None:
    parameters, tensors, null, dropped = OFFICIAL[name]
    card = get_card(name)
    with torch.device("meta"):
        network = load_family(card.family).build_network(card)
    assert size_of(network) == parameters + null == card.parameters
    assert len(network.state_dict()) == tensors - dropped


@pytest.mark.parametrize("family", ["rar", "vqgan", "vit-vqgan", "open-magvit2", "rq"])
def test_every_card_counts_its_parameters(family: str) -> None:
    for card in list_models(family=family):
        with torch.device("meta"):
            networks = [load_family(family).build_network(card.change(temperature=t)) for t in (False, True)]
        assert [size_of(network) for network in networks] == [card.parameters, card.parameters_gft]


@pytest.mark.parametrize(("family", "name"), TOKENIZERS)
def test_sizes_of_tokenizers(family: str, name: str) -> None:
    spec = zoo_registry().tokenizers[name]
    with torch.device("meta"):
        tokenizer = {"vqgan": VQGAN, "vit-vqgan": ViTVQGAN, "rq-vae": RQVAE}[spec.kind](spec)
    assert size_of(tokenizer) == TOKENIZERS[family, name]


def decoder_of(model: Model, condition: Tensor) -> tuple[Decoder, Any]:
    """A decoder, and what draws read of codes."""
    family, network = model.card.family, model.network
    if family == "rar":
        return RARDecoder(network, condition), lambda codes: codes
    if family == "open-magvit2":
        return MagvitDecoder(network, condition), lambda codes: torch.stack(network.split(codes), -1).flatten(1)
    if family == "rq":
        return RQDecoder(network, condition, vectors_of(model)), lambda codes: codes
    return GPTDecoder(network, condition), lambda codes: codes


@pytest.mark.parametrize("temperature_input", ["embedding", "affine"])
@pytest.mark.parametrize("name", NANO)
@torch.no_grad()
def test_cached_decoding_is_full_decoding(name: str, temperature_input: str) -> None:
    model = nano_model(name, temperature=True, temperature_input=temperature_input)
    model.network.eval()
    latents, condition, beta = nano_latents(model, 3), torch.tensor([0, 4, 10]), torch.tensor([0.2, 0.6, 1.0])
    problem = model.family.draw_problem(model, latents, SampleGenerator(range(3)))
    full = model.family.prediction(model, problem, condition, beta)
    decoder, draws = decoder_of(model, condition)
    drawn = draws(problem.codes)
    found = [decoder.logits(n, drawn[:, n - 1] if n else None, beta) for n in range(drawn.shape[1])]
    for output in range(2 if isinstance(full, Affine) else 1):
        expected = full[output] if isinstance(full, Affine) else full
        steps = [step[output] if isinstance(step, Affine) else step for step in found]
        if name == "open-magvit2-nano":
            steps = [torch.cat(both, -1) for both in zip(steps[::2], steps[1::2], strict=True)]
        assert near(torch.stack(steps, 1), expected, 2e-5)


def test_orders_of_rar_become_raster_over_a_run() -> None:
    model = nano_model("rar-nano", temperature=False, random_until=100, raster_from=300)
    options = model.network.options
    assert [options.random_share(p) for p in (0, 99, 150, 200, 300, 10**9)] == [1, 1, 0.75, 0.5, 0, 0]
    latents = nano_latents(model, 4).repeat(50, 1)

    def shuffled(first: int) -> float:
        generator = SampleGenerator.for_samples("train", 0, range(first, first + len(latents)))
        problem = model.family.draw_problem(model, latents, generator)
        assert torch.equal(problem.codes, latents.gather(1, problem.order))
        assert torch.equal(problem.order.sort(1).values[0], torch.arange(latents.shape[1]))
        return float((problem.order != torch.arange(latents.shape[1])).any(1).float().mean())

    assert shuffled(-200) == 1 and shuffled(300) == 0 and 0.2 < shuffled(100) < 0.8


def test_a_temperature_that_changes_needs_a_read_out_that_sees_it() -> None:
    for name in NANO[1:]:
        model = nano_model(name, temperature=True)
        with pytest.raises(UsageError, match="reads beta once"):
            model.sample_latents([1], Temperature(0.5, "linear"), [0])
        affine = nano_model(name, temperature=True, temperature_input="affine")
        assert affine.sample_latents([1], Temperature(0.5, "linear"), [0]).shape == nano_latents(affine, 1).shape


def test_settings_of_parts_are_one_for_each() -> None:
    model = nano_model("rq-nano", temperature=True)
    with pytest.raises(UsageError, match="has 2 value"):
        model.sample_latents([1], Temperature(0.5), [0], part_top_k=[1, 2])
    for name, values in (
        ("temperature", [-1, 1, 1]),
        ("top_k", [-1, 1, 1]),
        ("top_p", [0, 1, 1]),
        ("guidance", [-3, 1, 1]),
    ):
        with pytest.raises(UsageError, match=f"part_{name}"):
            model.sample_latents([1], Temperature(0.5, "linear"), [0], **{f"part_{name}": values})
    greedy = model.sample_latents([1], Temperature(0.5), [0], top_k=1)
    assert torch.equal(greedy, model.sample_latents([1], Temperature(0.5), [1], part_top_k=[1, 1, 1]))


def test_soft_targets_are_of_the_codes_that_are_shown() -> None:
    """Drawn anew for every step; a hard problem, nearly, where the temperature is near zero."""
    spec = zoo_registry().tokenizers["digits-residuals-soft"]
    model = nano_model("rq-nano", temperature=True)
    model.tokenizer = ResidualPatches.load(spec, None)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents, family = model.tokenizer.encode(images), model.family
    assert latents.shape == (3, spec.channels, 4, 4)
    first, second = (family.draw_problem(model, latents, SampleGenerator.for_samples("t", 0, [p] * 3)) for p in (0, 1))
    assert not torch.equal(first.codes, second.codes)
    assert torch.equal(first.given, model.tokenizer.codebook.vectors[first.codes.unflatten(1, (-1, 3))])
    chance = first.soft.gather(2, first.codes.unsqueeze(-1))
    assert near(first.soft.sum(-1), torch.ones(3, 48)) and (chance > 0).all()
    cold = spec.model_copy(update={"options": {"soft_temperature": 1e-6}})
    model.tokenizer = ResidualPatches.load(cold, None)
    hard = family.draw_problem(model, latents, SampleGenerator(range(3)))
    assert torch.equal(hard.codes, model.tokenizer.codebook.encode(latents.flatten(2).mT))
    prediction = family.prediction(model, hard, torch.tensor([1, 2, 3]), torch.ones(3)).detach()
    assert near(
        family.loss_term(model, prediction, hard), family.loss_term(model, prediction, replace(hard, soft=None))
    )
    assert model.loss(latents, [1, 2, 3]).isfinite()
    drawn = model.sample_latents([1, 2], Temperature(0.5), [0, 1])
    assert drawn.shape == (2, *latents.shape[1:]) and model.tokenizer.decode(drawn).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("vqgan-nano", {"classes": 18}, "18 classes up in the table of its 17 codes"),
        ("open-magvit2-nano", {"network": {"parts": [4, 5]}}, "parts of 4 and 5 values, 20 codes"),
        ("rar-nano", {"network": {"heads": 5}}, "does not divide into 5 heads"),
    ],
)
def test_cards_that_cannot_be_are_refused(name: str, change: dict[str, Any], words: str) -> None:
    card = get_card(name)
    network = {**card.network, **change.pop("network", {})}
    with pytest.raises(UsageError, match=words):
        load_family(card.family).build_network(card.change(network=network, **change))


@pytest.mark.parametrize(("name", "key"), [("vit-vqgan-nano", "tok_emb_cond.weight"), ("rq-nano", "cond_emb.weight")])
def test_an_added_null_class_is_known_as_one(name: str, key: str) -> None:
    """Released tables end with a class, gftzoo's with the null class, which other classes then start at."""
    family, card = load_family(get_card(name).family), get_card(name)

    def rows(classes: int, found: int) -> Tensor:
        table = torch.arange(float(found))[:, None].expand(-1, card.network["width"])
        return family.import_weights(card.change(classes=classes), {key: table})[key][:, 0]

    assert rows(10, 11).tolist() == list(range(11))
    assert rows(11, 11).tolist() == rows(11, 5 + 6).tolist() == [10.0] * 12
    released = rows(1000, 1000)
    assert released[:-1].tolist() == list(range(1000)) and released[-1] == 499.5
    assert rows(3, 1000).tolist() == [499.5] * 4
    with pytest.raises(UsageError, match="cannot be told apart for 999 classes"):
        rows(999, 1000)


@pytest.mark.parametrize("name", NANO)
def test_cca_trains_them(name: str) -> None:
    model = nano_model(name, temperature=False)
    objective, generator = build_objective("cca"), SampleGenerator(range(4))
    objective.prepare(model)
    problem = model.family.draw_problem(model, nano_latents(model, 4), generator)
    loss = objective.loss(model, problem, torch.arange(4), generator).mean()
    loss.backward()
    assert loss.isfinite() and next(model.network.parameters()).grad is not None


@pytest.mark.parametrize("name", NANO)
def test_the_compiled_step_draws_the_same_in_few_graphs(name: str) -> None:
    """One graph of a step; body, and head for each part, where positions have parts."""
    model = nano_model(name, temperature=True)
    torch._dynamo.reset()
    graphs: Any = CompileCounter()
    plain = model.sample_latents([3, 1], Temperature(0.5), [5, 6])
    model.compile(backend=graphs)
    assert torch.equal(model.sample_latents([3, 1], Temperature(0.5), [5, 6]), plain)
    assert graphs.frame_count == {"open-magvit2-nano": 3, "rq-nano": 4}.get(name, 1)
