"""U-ViT for prompts computes what baofff/U-ViT @ce55170 does (libs/uvit_t2i.py), of what its text encoder gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from dit_golden import read_golden
from golden import near
from test_uvit_golden import DISCRETE, uvit_card
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree
from gftzoo.contract.pieces import Steered
from gftzoo.errors import UsageError
from gftzoo.loading.files import import_model
from gftzoo.model import Model

GOLDEN = read_golden("uvit-t2i")


class RecordedText:
    """A text encoder that gives the recorded features: prompts are rows of them, the empty one is its own."""

    def encode(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        return torch.stack([GOLDEN.inputs["context"][int(prompt)] for prompt in prompts])

    def null(self, device: torch.device) -> Tensor:
        return GOLDEN.inputs["context_empty"][None]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """From the bare state dict of the average that the authors publish."""
    monkeypatch.setattr("gftzoo.contract.pieces.prompts.text_encoder", lambda _: RecordedText())
    arch = GOLDEN.config["arch"]
    card = uvit_card({**arch, "num_classes": 0}, DISCRETE)
    own = {"kind": "uvit-text", "text_tokens": arch["num_clip_token"], "text_width": arch["clip_dim"]}
    path = tmp_path / "mscoco_uvit_small.pth"
    torch.save(GOLDEN.weights, path)
    imported = import_model(card.change(condition="text", text_encoder="any", network={**card.network, **own}), path)
    imported.network.eval()
    return imported


@torch.no_grad()
def test_forward(model: Model) -> None:
    condition = model.encode_condition(["0", "1"])
    for shown, name in ((condition, "out"), (model.null_condition(condition), "out_null")):
        found = model.network(GOLDEN.inputs["x"], GOLDEN.inputs["t"], shown)
        assert near(found, GOLDEN.outputs[name], scaled=False)
    steered = Steered(model, condition, ClassifierFree(1 + GOLDEN.config["scale"]))
    found = steered.predict(model.network, 0.0, GOLDEN.inputs["x"], GOLDEN.inputs["t"])
    assert near(found, GOLDEN.outputs["cfg"], scaled=False)


@torch.no_grad()
def test_one_temperature_goes_into_the_token_of_the_time(model: Model) -> None:
    card = model.card.change(temperature=True)
    steered = Model.fresh(card, None)
    plain = Model.fresh(card.change(temperature=False), None)
    plain.network.load_state_dict(steered.family.fold_temperature(steered, 0.4))
    inputs = GOLDEN.inputs["x"], GOLDEN.inputs["t"], GOLDEN.inputs["context"]
    assert near(plain.network(*inputs), steered.network(*inputs, torch.full((2,), 0.4)), 1e-5)


@pytest.mark.parametrize("option", ["text_tokens", "text_width"])
def test_features_are_padded_to_what_the_network_reads_and_never_cut(model: Model, option: str) -> None:
    have = int(model.card.network[option])
    for size in (have - 1, have + 2):
        card = model.card.change(network={**model.card.network, option: size})
        other = Model.fresh(card, None)
        if size < have:
            with pytest.raises(UsageError, match=f"{option} {size} .* gives {have}; .*-o network.{option}={have}"):
                other.encode_condition(["0"])
            continue
        features = other.encode_condition(["0"])
        assert features.shape[1:] == (card.network["text_tokens"], card.network["text_width"])
        assert torch.equal(features[:, :5, :20], GOLDEN.inputs["context"][:1])
        assert torch.equal(other.null_condition(features)[:, :5, :20], GOLDEN.inputs["context_empty"][None])
