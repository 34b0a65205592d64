"""RAR's logits, losses, gradients and codes equal the official code's, through the import of official files."""

from __future__ import annotations

import pytest
import torch
from gftzoo_autoregressive.rar_family import OrderedProblem
from golden import Golden, near
from official import assert_gradients, drawn, official_model, read_golden, tiny_card

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree, Unguided
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model


def card_of(golden: Golden, **card: object) -> ModelCard:
    arch = golden.config["generator"]
    network = {
        "depth": arch["num_hidden_layers"],
        "width": arch["hidden_size"],
        "heads": arch["num_attention_heads"],
        "hidden": arch["intermediate_size"],
        "dropout": 0.0,
    }
    classes, codes = arch["condition_num_classes"], arch["image_seq_len"]
    return tiny_card("rar", golden.config["codebook_size"], codes, classes, network, **card)


@pytest.fixture(params=["rar", "rar-small"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return read_golden(request.param)


@pytest.fixture
def model(golden: Golden, tmp_path) -> Model:
    return official_model(golden, card_of(golden), tmp_path)


def ordered(golden: Golden) -> OrderedProblem:
    order = golden.inputs["orders"]
    return OrderedProblem(golden.inputs["tokens"].gather(1, order), order=order)


def test_the_plain_network_has_the_official_keys(golden: Golden, model: Model) -> None:
    assert set(model.network.state_dict()) == set(golden.weights)


@torch.no_grad()
def test_logits_in_any_order(golden: Golden, model: Model) -> None:
    classes, family = golden.inputs["cls"], model.family
    raster = family.draw_problem(model, golden.inputs["tokens"], SampleGenerator(range(len(classes))))
    problem = ordered(golden)
    assert torch.equal(problem.codes, golden.outputs["labels_orders"])
    for asked, condition, output in (
        (raster, classes, "logits_raster"),
        (raster, model.null_condition(classes), "logits_null"),
        (problem, classes, "logits_orders"),
    ):
        found = family.predict(model, asked, condition, None)
        assert near(found, golden.outputs[output][:, :-1]), output


def test_loss_and_gradients(golden: Golden, model: Model) -> None:
    model.network.train()
    family, problem = model.family, ordered(golden)
    condition = family.condition_drop(model, golden.inputs["cls"], golden.inputs["drop_uniform"] < 0.1)
    loss = family.loss_term(model, family.predict(model, problem, condition, None), problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss"])
    assert_gradients(model, golden)


@pytest.mark.parametrize("run", ["cfg", "nocfg"])
def test_drawn_codes(run: str, tmp_path) -> None:
    golden = read_golden("rar")
    settings = golden.config["runs"][run]
    scale = settings["guidance_scale"]
    found = drawn(
        official_model(golden, card_of(golden), tmp_path),
        golden.inputs["cls"],
        ClassifierFree(scale, "linear") if scale else Unguided(),
        golden.inputs[f"{run}/exponential"],
        temperature=settings["randomize_temperature"],
        guidance_power=settings["guidance_scale_pow"],
    )
    assert torch.equal(found, golden.outputs[f"{run}/ids"])


def test_other_classes_start_at_the_null_class(tmp_path) -> None:
    golden = read_golden("rar")
    model = official_model(golden, card_of(golden).change(classes=4), tmp_path)
    tokens = golden.inputs["tokens"]
    with torch.no_grad():
        problem = model.family.draw_problem(model, tokens, SampleGenerator(range(3)))
        found = model.family.predict(model, problem, torch.tensor([0, 3, 4]), None)
    assert near(found, golden.outputs["logits_null"][:, :-1])
