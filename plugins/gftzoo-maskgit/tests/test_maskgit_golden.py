"""MaskGIT equals the official code, through the import of a Flax file: logits, losses, gradients, every drawn code."""

from __future__ import annotations

import pytest
import torch
from gftzoo_maskgit.checkpoints import FLAX
from gftzoo_maskgit.family import MaskedProblem
from gftzoo_maskgit.masking import share
from gftzoo_maskgit.sampler import SamplerOptions, decode
from golden import Golden, near
from maskgit_golden import Recorded, assert_gradients, gradient_norms, maskgit_card, maskgit_model, read_golden
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from gftzoo.contract.guidance import Unguided
from gftzoo.contract.pieces import Steered
from gftzoo.loading.files import import_model
from gftzoo.model import Model


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("maskgit-transformer")


@pytest.fixture
def model(golden: Golden, tmp_path) -> Model:
    return maskgit_model(golden, tmp_path)


def vocabulary(model: Model, ids: Tensor) -> Tensor:
    """Logits of the codes' positions over the whole vocabulary, which the official code gives."""
    network, codes = model.network, ids[:, 1:].long()
    hidden = network.hidden(codes.clamp(min=0), codes < 0, ids[:, 0].long() - network.codebook)
    return F.linear(network.head(hidden), network.word_embeddings.weight, network.bias)


def problem_of(golden: Golden) -> MaskedProblem:
    return MaskedProblem(golden.inputs["tokens"].long(), asked=golden.inputs["mask"].bool())


def test_logits(golden: Golden, model: Model) -> None:
    with torch.no_grad():
        for name in ("", "_all_masked"):
            ids = golden.inputs[f"ids{name}"]
            codes = ids[:, 1:].long()
            assert near(vocabulary(model, ids), golden.outputs[f"logits{name}"][:, 1:], scaled=False)
            logits = model.network(codes.clamp(min=0), codes < 0, golden.inputs["cls"].long())
            assert near(logits, golden.outputs[f"logits{name}"][:, 1:, : model.network.codebook], scaled=False)


def test_loss_and_gradients(golden: Golden, model: Model) -> None:
    model.network.train()
    problem = problem_of(golden)
    prediction = model.family.predict(model, problem, golden.inputs["cls"].long(), None)
    loss = model.family.loss_term(model, prediction, problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss_codebook/loss"])
    assert_gradients(model, gradient_norms(golden, "loss_codebook/gradnorm/", FLAX))


def test_loss_over_the_whole_vocabulary(golden: Golden, model: Model) -> None:
    problem = problem_of(golden)
    loss = model.family.loss_term(model, vocabulary(model, golden.inputs["ids"]), problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss_vocab/loss"])
    assert_gradients(model, gradient_norms(golden, "loss_vocab/gradnorm/", FLAX))


def test_schedules(golden: Golden) -> None:
    names = ("linear", "cosine", "square", "cube", "log", "exp")
    found = torch.stack([share(golden.inputs["schedule_ratio"], name, 16) for name in names])
    assert near(found, golden.outputs["schedule/mask_ratio"], 1e-6)


@pytest.mark.parametrize(("run", "steps", "temperature", "start"), [("t8", 8, 4.5, 0), ("t5_edit", 5, 2.0, 2)])
def test_every_drawn_code(golden: Golden, model: Model, run: str, steps: int, temperature: float, start: int) -> None:
    given, expected = golden.inputs, golden.outputs
    draws = Recorded(given[f"{run}/gumbel_sample"][:, :, 1:], given[f"{run}/gumbel_choice"][..., 1:], False)
    codes = given[f"{run}/ids0"][:, 1:].long()
    condition = given[f"{run}/ids0"][:, 0].long() - model.network.codebook
    settings = SamplerOptions(steps=steps, choice_temperature=temperature)
    found = decode(
        model.network, Steered(model, condition, Unguided()), settings, draws, codes.clamp(min=0), codes < 0, start
    )
    assert torch.equal(found, expected[f"{run}/tokens"].long())
    assert near(draws.logits[0], expected[f"{run}/logits_first"][:, 1:])
    assert near(draws.logits[-1], expected[f"{run}/logits_last"][:, 1:])
    for step, entered in enumerate(expected[f"{run}/input_ids"][..., 1:]):
        drawn = torch.where(entered < 0, draws.drawn[step], entered)
        assert torch.equal(drawn, expected[f"{run}/sampled"][step][:, 1:].long())


def test_the_null_class_starts_as_the_mean_of_the_classes(golden: Golden, model: Model) -> None:
    table = golden.weights["params/Embed_0/word_embeddings/embedding"]
    assert torch.equal(model.network.null_class, table[48:55].mean(0, keepdim=True))
    assert torch.equal(model.network.word_embeddings.weight, table)


def test_a_conversion_to_transformers(golden: Golden, tmp_path) -> None:
    """BertForMaskedLM with the same numbers, written by its own code, is the same network."""
    config = golden.config
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=56, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            hidden_act="gelu_new", layer_norm_eps=1e-12, type_vocab_size=1,
            max_position_embeddings=17, pad_token_id=None,
        )
    ).eval()  # fmt: skip
    bert.save_pretrained(tmp_path)
    model = import_model(maskgit_card(config), tmp_path / "model.safetensors")
    model.network.eval()
    ids = golden.inputs["ids"]
    with torch.no_grad():
        expected = bert(torch.where(ids < 0, 55, ids).long()).logits[:, 1:]
        assert near(vocabulary(model, ids), expected)


def test_an_untied_output_starts_as_the_table(golden: Golden, tmp_path) -> None:
    model = maskgit_model(golden, tmp_path, tied=False)
    codes = golden.inputs["ids"][:, 1:].long()
    with torch.no_grad():
        logits = model.network(codes.clamp(min=0), codes < 0, golden.inputs["cls"].long())
    assert near(logits, golden.outputs["logits"][:, 1:, :48], scaled=False)
