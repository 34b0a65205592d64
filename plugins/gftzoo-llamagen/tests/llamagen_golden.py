"""Numbers that the official code computed, and the cards of its tiny networks.

FoundationVision/LlamaGen @ce98ec4 and thu-ml/GFT @9bf5ee4, folder LlamaGen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from golden import Golden, open_golden
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.loading.files import import_model
from gftzoo.model import Model

NO_DROPOUT = {"token_dropout": 0.0, "residual_dropout": 0.0, "ffn_dropout": 0.0}


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def tiny_card(arch: Mapping[str, Any], temperature: bool = False, **network: Any) -> ModelCard:
    """The card of a golden's network."""
    side = round(arch["block_size"] ** 0.5)
    spec = TokenizerSpec(id="tiny", kind="pixel-code", channels=1, image_channels=1, codebook=arch["vocab_size"])
    sizes = {
        "depth": arch["n_layer"],
        "width": arch["dim"],
        "heads": arch["n_head"],
        "hidden_multiple": arch["multiple_of"],
    }
    return ModelCard(
        name="tiny",
        family="llamagen",
        parameters=1,
        resolution=side,
        tokenizer=spec,
        classes=arch["num_classes"],
        network={**sizes, **NO_DROPOUT, **network},
        temperature=temperature,
    )


ARCH = {"n_layer": 2, "dim": 32, "n_head": 2, "multiple_of": 32, "vocab_size": 64, "num_classes": 10, "block_size": 16}


def random_model(temperature: bool = False, **card: Any) -> Model:
    """A tiny network all of whose parameters are random, those that start at zero included."""
    torch.manual_seed(7)
    model = Model.fresh(tiny_card(ARCH, temperature).change(**card))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.network.eval()
    return model


def official_model(golden: Golden, folder: Path, **card: Any) -> Model:
    """The golden's network, loaded from a file such as the official training writes, leftovers of sampling included."""
    path = folder / "official.pt"
    leftovers = {"freqs_cis": torch.zeros(17, 8, 2), "layers.0.attention.kv_cache.k_cache": torch.zeros(3, 2, 24, 16)}
    torch.save({"model": {**golden.weights, **leftovers}, "steps": 10}, path)
    model = import_model(tiny_card(golden.config["arch"], **card), path)
    model.network.eval()
    return model


def gradient_norms(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.norm() for name, p in network.named_parameters() if p.grad is not None}


def assert_gradients(network: nn.Module, golden: Golden, prefix: str = "gradnorm/") -> None:
    expected = {k.removeprefix(prefix): v for k, v in golden.outputs.items() if k.startswith(prefix)}
    found = gradient_norms(network)
    assert len(expected) == len(golden.weights)
    for name, norm in expected.items():
        torch.testing.assert_close(found.get(name, torch.tensor(0.0)), norm, atol=1e-4, rtol=1e-4, msg=name)
