"""Open-MAGVIT2's logits, losses, gradients and codes equal the official code's, through official files."""

from __future__ import annotations

import pytest
import torch
from golden import Golden, near
from official import assert_gradients, drawn, official_model, read_golden, tiny_card
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree, Unguided
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

NO_DROPOUT = {"token_dropout": 0.0, "residual_dropout": 0.0, "ffn_dropout": 0.0}


def card_of(golden: Golden, **card: object) -> ModelCard:
    arch = golden.config["gpt"]
    parts = [2**bits for bits in arch["factorized_bits"]]
    network = {
        "depth": arch["spatial_n_layer"],
        "part_depth": arch["factorized_n_layer"],
        "width": arch["dim"],
        "heads": arch["n_head"],
        "hidden_multiple": arch["multiple_of"],
        "parts": parts,
        **NO_DROPOUT,
    }
    return tiny_card("open-magvit2", parts[0] * parts[1], arch["block_size"], arch["class_num"], network, **card)


@pytest.fixture(params=["openmagvit2-ar", "openmagvit2-ar-small"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return read_golden(request.param)


@pytest.fixture
def model(golden: Golden, tmp_path) -> Model:
    return official_model(golden, card_of(golden), tmp_path, "transformer.")


def joined(golden: Golden, low: Tensor, high: Tensor) -> Tensor:
    return low + (high << golden.config["gpt"]["factorized_bits"][0])


def test_logits_losses_and_gradients(golden: Golden, model: Model) -> None:
    family, classes, parts = model.family, golden.inputs["cls"], model.network.options.parts
    codes = joined(golden, golden.inputs["pre"], golden.inputs["post"])
    problem = family.draw_problem(model, codes, SampleGenerator(range(len(codes))))
    with torch.no_grad():
        for condition, null in ((classes, ""), (model.null_condition(classes), "null_")):
            found = family.predict(model, problem, condition, None).split(parts, -1)
            for logits, part in zip(found, ("pre", "post"), strict=True):
                assert near(logits, golden.outputs[f"logits_{null}{part}"])
    model.network.train()
    condition = family.condition_drop(model, classes, golden.inputs["drop_uniform"] < 0.1)
    loss = family.loss_term(model, family.predict(model, problem, condition, None), problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss/total"])
    assert_gradients(model, golden)


def test_greedy_codes(golden: Golden, model: Model) -> None:
    found = drawn(model, golden.inputs["cls"], Unguided(), top_k=1)
    assert torch.equal(found, joined(golden, golden.outputs["greedy/pre"], golden.outputs["greedy/post"]))


@pytest.mark.parametrize("run", ["cfg", "filtered"])
def test_drawn_codes(run: str, tmp_path) -> None:
    """Guidance of another scale on each part is a ramp that stands still at another place on each."""
    golden = read_golden("openmagvit2-ar")
    settings, model = golden.config["runs"][run], official_model(golden, card_of(golden), tmp_path, "transformer.")
    first, second = settings["cfg"]
    guided = {"part_guidance": (1.0, (second - 1) / (first - 1))} if first > 1 else {}
    found = drawn(
        model,
        golden.inputs["cls"],
        ClassifierFree(first, "linear") if guided else Unguided(),
        golden.inputs[f"{run}/exponential"],
        part_temperature=settings["temperature"],
        part_top_k=settings["top_k"],
        part_top_p=settings["top_p"],
        **guided,
    )
    assert torch.equal(found, joined(golden, golden.outputs[f"{run}/pre"], golden.outputs[f"{run}/post"]))
