"""Logits, losses, gradients and codes of VQGAN's transformer and ViT-VQGAN's public one, through official files."""

from __future__ import annotations

import pytest
import torch
from gftzoo_autoregressive.gpt import GPTDecoder
from gftzoo_autoregressive.gpt_family import ShownProblem
from golden import Golden, near
from official import assert_gradients, drawn, official_model, read_golden, tiny_card
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Unguided
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model

VQGAN, VIT = ("vqgan-gpt", "vqgan-gpt-small"), ("vitvqgan-gpt", "vitvqgan-gpt-small")


def vqgan_card(golden: Golden, **card: object) -> ModelCard:
    arch = golden.config["gpt"]
    network = {"depth": arch["n_layer"], "width": arch["n_embd"], "heads": arch["n_head"]}
    return tiny_card("vqgan", arch["vocab_size"], arch["block_size"], golden.config["n_classes"], network, **card)


def vit_card(golden: Golden, **card: object) -> ModelCard:
    arch = golden.config["gpt"]
    network = {"depth": arch["n_layers"], "width": arch["embed_dim"], "heads": arch["n_heads"]}
    codes = next(side**2 for side in range(9) if side**2 >= arch["img_num_tokens"])
    return tiny_card("vit-vqgan", arch["vocab_img_size"], codes, arch["vocab_cond_size"], network, **card)


def model_of(name: str, folder, **card: object) -> tuple[Golden, Model, Tensor]:
    """Golden, model, and classes."""
    golden = read_golden(name)
    if name in VQGAN:
        return golden, official_model(golden, vqgan_card(golden, **card), folder, "transformer."), golden.inputs["cls"]
    fitted = vit_card(golden, **card)
    missing = fitted.grid**2 - golden.config["gpt"]["img_num_tokens"]  # their sequences are no square maps
    golden.weights["pos_emb_code"] = torch.nn.functional.pad(golden.weights["pos_emb_code"], (0, 0, 0, missing))
    model = official_model(golden, fitted, folder, "transformer.")
    return golden, model, golden.inputs["conds"][:, 0]


@torch.no_grad()
def decoded(model: Model, codes: Tensor, classes: Tensor) -> Tensor:
    """Logits of the decoder that is shown these codes."""
    decoder = GPTDecoder(model.network, classes)
    before = [None, *codes.unbind(1)]
    return torch.stack([decoder.logits(n, before[n], None) for n in range(codes.shape[1])], 1)


@pytest.mark.parametrize("name", VQGAN + VIT)
def test_logits_loss_gradients_and_the_cache(name: str, tmp_path) -> None:
    golden, model, classes = model_of(name, tmp_path)
    tokens, family = golden.inputs["tokens"], model.family
    problem = family.draw_problem(model, tokens, SampleGenerator(range(len(classes))))
    found = family.predict(model, problem, classes, None)
    loss = family.loss_term(model, found, problem).mean()
    loss.backward()
    assert near(found, golden.outputs["logits"]) and near(loss, golden.outputs["loss"])
    assert near(decoded(model, tokens, classes), golden.outputs["logits"])
    assert_gradients(model, golden)


@pytest.mark.parametrize("name", VQGAN)
def test_greedy_codes_of_vqgan(name: str, tmp_path) -> None:
    golden, model, classes = model_of(name, tmp_path)
    assert torch.equal(drawn(model, classes, Unguided(), top_k=1), golden.outputs["greedy/tokens"])


@pytest.mark.parametrize("run", ["t1_k20_p0.9", "t0.8_nofilter", "t1.3_k48_p1"])
def test_drawn_codes_of_vqgan(run: str, tmp_path) -> None:
    golden, model, classes = model_of("vqgan-gpt", tmp_path)
    temperature, top_k, top_p = golden.config["runs"][run]
    settings = {"temperature": temperature, "top_k": top_k or 0, "top_p": top_p or 1.0}
    found = drawn(model, classes, Unguided(), golden.inputs[f"{run}/exponential"], **settings)
    assert torch.equal(found, golden.outputs[f"{run}/tokens"])


def test_the_public_sampler_of_vit_vqgan_loses_the_position_before_and_ours_does_not(tmp_path) -> None:
    golden, model, classes = model_of("vitvqgan-gpt", tmp_path)
    codes = golden.outputs["greedy/codes"]
    ours, theirs = decoded(model, codes, classes), golden.outputs["greedy/logits"].view(*codes.shape, -1)
    assert near(ours, golden.outputs["greedy/logits_full"])
    assert near(ours[:, 0], theirs[:, 0]) and float((ours - theirs).abs().max()) > 1


def test_training_with_random_codes_and_decay(tmp_path) -> None:
    """The whole Lightning file, first stage included, and codes that are shown wrong in training."""
    golden = read_golden("vqgan-net2net")
    arch = {**golden.config["gpt"]}
    card = vqgan_card(Golden({"gpt": arch, "n_classes": golden.config["n_classes"]}, {}, {}, {}))
    model = official_model(golden, card, tmp_path)
    classes, codes = golden.inputs["class_label"], golden.outputs["z_indices"]
    with torch.no_grad():
        assert near(model.network(codes, classes), golden.outputs["logits"])
    kept = golden.inputs["train/keep_mask"].bool()
    problem = ShownProblem(codes, shown=torch.where(kept, codes, golden.inputs["train/random_tokens"]))
    found = model.family.predict(model, problem, classes, None)
    loss = model.family.loss_term(model, found, problem).mean()
    loss.backward()
    assert near(found, golden.outputs["train/logits"]) and near(loss, golden.outputs["train/loss"])
    renamed = {f"transformer.{name}": name for name, _ in model.network.named_parameters()}
    assert_gradients(model, golden, renamed, "train/")
    decayed = {id(p) for p in model.family.parameter_groups(model.network, 0.01)[0]["params"]}
    found_groups = [int(id(p) in decayed) for _, p in sorted(model.network.named_parameters())]
    assert found_groups == golden.outputs["train/decayed"].tolist()


@pytest.mark.parametrize("name", [VQGAN[0], VIT[0]])
def test_the_null_class_starts_as_the_mean_of_the_classes(name: str, tmp_path) -> None:
    golden, model, _ = model_of(name, tmp_path)
    key = {VQGAN[0]: "tok_emb.weight", VIT[0]: "tok_emb_cond.weight"}[name]
    table, official = model.network.state_dict()[key], golden.weights[key]
    assert torch.equal(table[:-1], official) and near(table[-1], official[: model.card.classes].mean(0))
