"""Numbers that the official codes computed, their networks as models of the zoo, and their recorded draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from gftzoo_autoregressive.family import AddedNull
from golden import Golden, near, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import Guidance
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def tiny_card(
    family: str, codebook: int, codes: int, classes: int, network: Mapping[str, Any], **card: Any
) -> ModelCard:
    """The card of a golden's network over so many codes of so large a codebook."""
    spec = TokenizerSpec(id="tiny", kind="pixel-code", channels=1, image_channels=1, codebook=codebook)
    fields = {"parameters": 1, "resolution": round(codes**0.5), "tokenizer": spec, "classes": classes, **card}
    return ModelCard(name="tiny", family=family, network=dict(network), **fields)


def official_model(golden: Golden, card: ModelCard, folder: Path, prefix: str = "") -> Model:
    """The golden's network through a file such as the authors publish."""
    path = folder / "official.bin"
    torch.save({prefix + key: tensor for key, tensor in golden.weights.items()}, path)
    with patch.object(AddedNull, "released_classes", card.classes):
        model = import_model(card, path)
    model.network.eval()
    return model


class Recorded:
    """A sampler's settings whose draws are recorded: the largest of p / e, as `torch.multinomial` draws."""

    compile = False

    def __init__(self, settings: Any, exponential_NBV: Tensor) -> None:
        self.settings, self.exponential_NBV = settings, exponential_NBV

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settings, name)

    def of(self, n: int) -> Recorded:
        chosen = Recorded(self.settings.of(n), self.exponential_NBV)
        chosen.n = n
        return chosen

    def draw(self, logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
        probabilities_BV = self.settings.likely(logits_BV).softmax(-1)
        return (probabilities_BV / self.exponential_NBV[self.n][:, : logits_BV.shape[-1]]).argmax(-1)


def drawn(
    model: Model, classes: Tensor, guidance: Guidance, exponential: Tensor | None = None, **settings: Any
) -> Tensor:
    """Codes of the family's sampler, by recorded draws where they are given."""
    chosen: Any = model.family.sampler_settings(model.card, **settings)
    if exponential is not None:
        chosen = Recorded(chosen, exponential)
    generator = SampleGenerator(range(len(classes)))
    return model.family.temperature_sampler(model, classes, guidance, chosen, generator)


def assert_gradients(model: Model, golden: Golden, renamed: Mapping[str, str] | None = None, prefix: str = "") -> None:
    """The norms of the network's gradients are the recorded ones."""
    start = f"{prefix}gradnorm/"
    expected = {k.removeprefix(start): v for k, v in golden.outputs.items() if k.startswith(start)}
    found = {name: p.grad.norm() for name, p in model.network.named_parameters() if p.grad is not None}
    assert expected
    for key, norm in expected.items():
        name = (renamed or {}).get(key, key)
        assert near(found.get(name, torch.tensor(0.0)), norm), (key, found.get(name), norm)
