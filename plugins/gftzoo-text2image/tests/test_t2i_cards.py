"""A pipeline's folder becomes a card, and what is no known pipeline, or would run code, is refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_text2image.network import build_denoiser, pipeline_of, predict
from gftzoo_text2image.pipelines import PIPELINES
from gftzoo_text2image.process import build_scheduler
from gftzoo_text2image.text import shapes_of
from tiny_pipelines import TINY, tokens_of

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.check_plugin import models_of
from gftzoo.engine.parallel.sharding import checkpoint_blocks
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.layers.lora import target_layers
from gftzoo.layers.lora_options import ATTENTION
from gftzoo.layers.temperature import Affine, without_slope
from gftzoo.model import Model
from gftzoo.testing import CHECKS, Subject, examine
from gftzoo.zoo import get_card


@pytest.mark.parametrize("name", TINY)
def test_a_folder_becomes_a_card(name: str, tiny: Callable[[str], Path]) -> None:
    card = get_card(f"diffusers:{tiny(name)}")
    with torch.device("meta"):
        network = build_denoiser(card)
    assert card.parameters == sum(value.numel() for value in network.state_dict().values())
    assert (card.family, card.condition, card.temperature) == ("text2image", "text", False)
    assert card.network["pipeline"] in PIPELINES and card.recipes["gft"].train == "lora"
    blocks = load_family(card.family).blocks(network)
    inside = {module for block in blocks for module in block.modules()}
    assert all(network.get_submodule(layer) in inside for layer in target_layers(network, ATTENTION))


@pytest.fixture
def folder(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("sd3"), tmp_path / "pipeline"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusion3Pipelin"}, r"did you mean.*known pipelines are LDM"),
        ("model_index.json", {"_class_name": "KolorsPipeline"}, "known pipelines are .*Lumina2Pipeline"),
        ("model_index.json", {"transformer": ["own_code", "Model"]}, "code of its own, and none is run"),
        ("model_index.json", {"../outside": ["diffusers", "Model"]}, "'../outside', which no part can be called"),
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "own.Model"}}, "asks for code of its own"),
        ("transformer/config.json", {"_class_name": "OtherModel"}, "of class 'OtherModel', and that of a"),
        ("transformer/config.json", {"novelty": 3}, "knows no 'novelty'"),
        ("scheduler/scheduler_config.json", {"stochastic_sampling": True}, "draws noise at every step"),
    ],
)
def test_what_is_refused(file: str, values: dict[str, Any], message: str, folder: Path) -> None:
    change(folder / file, **values)
    with pytest.raises(GftzooError, match=message):
        card = get_card(f"diffusers:{folder}")
        build_denoiser(card)
        build_scheduler(card)


def test_no_pipeline_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"has no model_index\.json"):
        get_card(f"diffusers:{tmp_path}")
    with pytest.raises(UsageError, match="there is no folder 'none/such'"):
        get_card("diffusers:none/such")


def inputs(card: ModelCard) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    x, t_B = torch.randn(2, card.tokenizer.channels, 8, 8), torch.tensor([300.0, 700.0])
    text = {key: torch.randn(2, *shape) for key, shape in shapes_of(card).items()}
    return x, t_B, text | {key: torch.ones_like(value) for key, value in text.items() if key == "mask"}


@pytest.mark.parametrize("name", TINY)
def test_recomputed_activations_change_no_gradient(name: str, tiny: Callable[[str], Path]) -> None:
    card = get_card(f"diffusers:{tiny(name)}")
    card = card.change(network={**card.network, "tokens": tokens_of(name)})
    torch.manual_seed(0)
    family, network = load_family(card.family), build_denoiser(card)
    model, given, found = Model(card, network, None, family), inputs(card), []
    for recomputed in (False, True):
        checkpoint_blocks(family.blocks(network) if recomputed else [])
        network.zero_grad()
        predict(model, *given, None).square().sum().backward()  # type: ignore[union-attr]
        found.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and all(torch.equal(g, found[1][key]) for key, g in found[0].items())


@pytest.mark.parametrize("name", TINY)
def test_an_affine_temperature_becomes_the_stock_network(name: str, tiny: Callable[[str], Path]) -> None:
    """c is the stock prediction, and c + s d that of the network into which s d is folded."""
    plain = get_card(f"diffusers:{tiny(name)}")
    network = {**plain.network, "temperature_input": "affine", "tokens": tokens_of(name)}
    card = plain.change(network=network, temperature=True)
    torch.manual_seed(0)
    family = load_family(card.family)
    model = Model(card, build_denoiser(card), None, family)
    slope = model.network.get_submodule(f"{pipeline_of(card).head}.slope.readout")
    x, t_B, text = inputs(card)
    beta_B = torch.full((2,), 0.4)
    with torch.no_grad():
        found = predict(model, x, t_B, text, beta_B)
        assert isinstance(found, Affine) and found.d.abs().max() == 0
        for parameter in slope.parameters():
            parameter.normal_(std=0.1)
        found = predict(model, x, t_B, text, beta_B)
        with without_slope(model.network):
            alone = predict(model, x, t_B, text, beta_B)
        baked = model.bake(0.4)
        stock = predict(baked, x, t_B, text, None)
    assert isinstance(found, Affine) and isinstance(alone, torch.Tensor) and torch.equal(alone, found.c)
    assert found.d.abs().max() > 1e-3 and found.c.shape == x.shape
    assert torch.allclose(stock, found.at(1.5), atol=1e-4) and not is_sloped(baked.network)


def is_sloped(network: torch.nn.Module) -> bool:
    return any(".slope." in key for key in network.state_dict())


def test_a_temperature_needs_an_input(tiny: Callable[[str], Path]) -> None:
    for name, has in (("sd3", False), ("flux-schnell", False), ("flux-dev", True), ("sdxl", True)):
        card = get_card(f"diffusers:{tiny(name)}").change(temperature=True)
        with torch.device("meta"):
            if has:
                build_denoiser(card)
                continue
            with pytest.raises(UsageError, match=r"no input that could take.*temperature_input=affine.*=none"):
                build_denoiser(card)


def test_the_contract_is_kept(tiny: Callable[[str], Path]) -> None:
    """By what `gftzoo check-plugin diffusers:FOLDER` checks, on a pipeline with an input for a temperature."""
    name = f"diffusers:{tiny('sd')}"
    assert models_of(name) == [name]
    subject = Subject(get_card(name).change(resolution=16))
    findings = [examine(subject, check) for check in CHECKS if not check.slow and check.name != "costs"]
    assert [finding.explanation() for finding in findings if not finding.holds] == []


def test_no_large_model_is_built_to_be_checked() -> None:
    with pytest.raises(
        UsageError, match=r"the smallest model of glide, glide, has 385,030,726 weights.*diffusers:FOLDER"
    ):
        models_of("glide")
