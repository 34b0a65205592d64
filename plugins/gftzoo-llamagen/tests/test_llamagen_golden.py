"""Logits, losses, gradients and greedy codes equal the official code's, through the import of official files."""

from __future__ import annotations

import pytest
import torch
from golden import Golden
from llamagen_golden import assert_gradients, official_model, read_golden, tiny_card
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.exporting import export
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.loading.files import import_model
from gftzoo.model import Model

PLAIN, RELEASED = "llamagen-c2i", "gft-llamagen"


@pytest.fixture(scope="module")
def plain() -> Golden:
    return read_golden(PLAIN)


@pytest.fixture(scope="module")
def released() -> Golden:
    return read_golden(RELEASED)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def logits(model: Model, golden: Golden, classes: Tensor, beta: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model.network(golden.inputs["tokens"], classes, beta)


def greedy(model: Model, golden: Golden, guidance: Guidance, **settings: int) -> Tensor:
    chosen = model.family.sampler_settings(model.card, top_k=1, **settings)
    classes = golden.inputs["cls"]
    return model.family.temperature_sampler(model, classes, guidance, chosen, SampleGenerator(range(len(classes))))


def test_logits(plain: Golden, tmp_path) -> None:
    model, classes = official_model(plain, tmp_path), plain.inputs["cls"]
    close(logits(model, plain, classes), plain.outputs["logits"])
    close(logits(model, plain, model.null_condition(classes)), plain.outputs["logits_null"])


def test_plain_network_has_the_official_keys(plain: Golden, tmp_path) -> None:
    assert set(official_model(plain, tmp_path).network.state_dict()) == set(plain.weights)


@pytest.mark.parametrize("container", ["model", "module", "state_dict", "bare", "compiled", "safetensors"])
def test_every_container(plain: Golden, container: str, tmp_path) -> None:
    path = tmp_path / ("weights.safetensors" if container == "safetensors" else "weights.pt")
    if container == "safetensors":
        from safetensors.torch import save_file

        save_file(plain.weights, path)
    else:
        bare = container in ("bare", "compiled")
        prefix = "_orig_mod." if container == "compiled" else ""
        weights = {prefix + key: value for key, value in plain.weights.items()}
        torch.save(weights if bare else {container: weights}, path)
    model = import_model(tiny_card(plain.config["arch"]), path)
    model.network.eval()
    close(logits(model, plain, plain.inputs["cls"]), plain.outputs["logits"])


def test_training_loss_and_gradients(plain: Golden, tmp_path) -> None:
    model, tokens = official_model(plain, tmp_path), plain.inputs["tokens"]
    model.network.train()
    dropped = plain.inputs["drop_uniform"] < 0.1
    problem = model.family.draw_problem(model, tokens, SampleGenerator(range(3)))
    condition = model.family.condition_drop(model, plain.inputs["cls"], dropped)
    found = model.family.predict(model, problem, condition, None)
    loss = model.family.loss_term(model, found, problem).mean()
    loss.backward()
    close(found, plain.outputs["train_logits"])
    close(loss, plain.outputs["train_loss"])
    assert_gradients(model.network, plain)


@pytest.mark.parametrize(
    ("guidance", "interval", "output"),
    [
        (Unguided(), None, "greedy_cfg1.0"),
        (ClassifierFree(1.0), None, "greedy_cfg1.0"),
        (ClassifierFree(2.0), None, "greedy_cfg2.0"),
        (ClassifierFree(2.0), 6, "greedy_cfg2.0_interval6"),
    ],
)
def test_greedy_codes(plain: Golden, guidance: Guidance, interval: int | None, output: str, tmp_path) -> None:
    settings = {} if interval is None else {"cfg_interval": interval}
    found = greedy(official_model(plain, tmp_path), plain, guidance, **settings)
    assert torch.equal(found, plain.outputs[output].long())


def test_logits_at_temperatures(released: Golden, tmp_path) -> None:
    model, classes = official_model(released, tmp_path, temperature=True), released.inputs["cls"]
    close(logits(model, released, classes, released.inputs["betas"]), released.outputs["logits_betas"])
    close(logits(model, released, classes, torch.full((3,), 0.6)), released.outputs["logits_beta0.6"])
    close(logits(model, released, classes), released.outputs["logits_beta_none"])
    null = model.null_condition(classes)
    close(logits(model, released, null, torch.ones(3)), released.outputs["logits_null_beta1"])


def test_a_folded_temperature_in_plain_weights(released: Golden, tmp_path) -> None:
    baked = official_model(released, tmp_path, temperature=True).bake(0.6)
    export(baked, "official", tmp_path / "out")
    plain = import_model(tiny_card(released.config["arch"]), tmp_path / "out" / "raw.safetensors")
    plain.network.eval()
    close(logits(plain, released, released.inputs["cls"]), released.outputs["logits_beta0.6"])
    assert torch.equal(greedy(plain, released, Unguided()), released.outputs["greedy_beta0.6"].long())


def test_greedy_codes_at_a_temperature(released: Golden, tmp_path) -> None:
    model = official_model(released, tmp_path, temperature=True)
    assert torch.equal(greedy(model, released, Temperature(0.6)), released.outputs["greedy_beta0.6"].long())
    assert torch.equal(greedy(model, released, Unguided()), released.outputs["greedy_beta_none"].long())


def test_guidance_free_loss_and_gradients(released: Golden, tmp_path) -> None:
    model = official_model(released, tmp_path, temperature=True)
    model.network.train()
    problem = model.family.draw_problem(model, released.inputs["tokens"], SampleGenerator(range(3)))
    beta, dropped = released.inputs["beta_uniform"], released.inputs["drop_mask"]
    loss = GFT().loss_at(model, problem, released.inputs["cls"], beta, dropped).mean()
    loss.backward()
    close(loss, released.outputs["loss/loss"])
    assert_gradients(model.network, released)


def test_both_passes_of_the_loss(released: Golden, tmp_path) -> None:
    model, classes = official_model(released, tmp_path, temperature=True), released.inputs["cls"]
    beta, dropped = released.inputs["beta_uniform"], released.inputs["drop_mask"]
    condition = model.family.condition_drop(model, classes, dropped)
    close(logits(model, released, condition, torch.where(dropped, 1.0, beta)), released.outputs["loss/cond_logits"])
    null = model.null_condition(classes)
    close(logits(model, released, null, torch.ones(3)), released.outputs["loss/uncond_logits"])


def test_fixed_temperature_loss(released: Golden, tmp_path) -> None:
    """The released code's variant without a temperature input: mixed at one beta, nothing added to the class token."""
    model = official_model(released, tmp_path, temperature=True)
    model.network.train()
    problem = model.family.draw_problem(model, released.inputs["tokens"], SampleGenerator(range(3)))
    classes, beta = released.inputs["cls"], released.config["beta_fixed"]
    condition = model.family.condition_drop(model, classes, released.inputs["drop_uniform"] < 0.1)
    s_BNV = model.family.predict(model, problem, condition, None)
    u_BNV = model.family.predict(model, problem, model.null_condition(classes), None).detach()
    loss = model.family.loss_term(model, beta * s_BNV + (1 - beta) * u_BNV, problem).mean()
    loss.backward()
    close(loss, released.outputs["fixedbeta/loss"])
    assert_gradients(model.network, released, "fixedbeta/gradnorm/")


def test_base_weights_start_gft_as_the_base_model(plain: Golden, tmp_path) -> None:
    model, classes = official_model(plain, tmp_path, temperature=True), plain.inputs["cls"]
    for beta in (0.0, 0.3, 1.0):
        close(logits(model, plain, classes, torch.full((3,), beta)), plain.outputs["logits"])
    assert model.network.t_embedder.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_other_classes_start_at_the_null_class(plain: Golden, tmp_path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(plain.weights, path)
    model = import_model(tiny_card(plain.config["arch"]).change(classes=4), path)
    model.network.eval()
    close(logits(model, plain, torch.tensor([0, 3, 4])), plain.outputs["logits_null"])
