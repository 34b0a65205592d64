"""MAGE equals the official code, through the import of an official file: encoder, logits, loss, gradients, codes."""

from __future__ import annotations

import pytest
import torch
from gftzoo_maskgit.family import MaskedProblem
from gftzoo_maskgit.masking import draw_mage, mage_share
from gftzoo_maskgit.sampler import SamplerOptions, decode
from golden import Golden, near
from maskgit_golden import Masks, Recorded, assert_gradients, gradient_norms, mage_card, mage_model, read_golden
from torch import Tensor
from torch.nn import functional as F

from gftzoo.contract.guidance import Unguided
from gftzoo.contract.pieces import Steered
from gftzoo.errors import GftzooError
from gftzoo.loading.files import import_model
from gftzoo.model import Model

TABLE = "token_emb.word_embeddings.weight"


@pytest.fixture(scope="module", params=["mage", "mage-small"])
def golden(request) -> Golden:
    return read_golden(request.param)


@pytest.fixture
def model(golden: Golden, tmp_path) -> Model:
    return mage_model(golden, tmp_path)


def problem_of(golden: Golden) -> MaskedProblem:
    masked, left_out = (golden.outputs[f"{name}_mask"][:, 1:].bool() for name in ("all", "drop"))
    return MaskedProblem(golden.outputs["indices"], left_out, asked=masked)


def null(model: Model, count: int = 2) -> Tensor:
    return torch.full((count,), model.card.classes)


def test_masks(golden: Golden) -> None:
    """The share of the golden is given; what is fed is the uniform number that the distribution gives it for."""
    lower, upper = (torch.special.ndtr(torch.tensor((end - 0.55) / 0.25, dtype=torch.float64)) for end in (0.5, 1.0))
    at = torch.special.ndtr(torch.tensor((golden.config["mask_rate"] - 0.55) / 0.25, dtype=torch.float64))
    uniform = ((at - lower) / (upper - lower)).float()
    assert near(mage_share(uniform), torch.tensor(golden.config["mask_rate"]), 1e-6)
    masked, left_out = draw_mage(Masks(uniform.expand(2), golden.inputs["noise"]), golden.config["tokens"])
    assert torch.equal(masked, golden.outputs["all_mask"][:, 1:].bool())
    assert torch.equal(left_out, golden.outputs["drop_mask"][:, 1:].bool())


def test_encoder_and_logits(golden: Golden, model: Model) -> None:
    problem, network = problem_of(golden), model.network
    with torch.no_grad():
        latent = network.encode(problem.codes, problem.asked, null(model), None, problem.left_out)
        hidden = network.decode(latent, problem.asked, problem.left_out)
        logits = F.linear(network.mlm_layer(hidden), golden.weights[TABLE], network.mlm_layer.bias[0])
        ours = network(problem.codes, problem.asked, null(model), None, problem.left_out)
    assert near(latent, golden.outputs["latent"])
    assert near(logits, golden.outputs["logits"][:, 1:])
    assert near(ours, golden.outputs["logits"][:, 1:, : network.codebook])


def test_loss_and_gradients(golden: Golden, model: Model) -> None:
    problem = problem_of(golden)
    prediction = model.family.predict(model, problem, null(model), None)
    loss = model.family.loss_term(model, prediction, problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss_eval"]) and near(loss, golden.outputs["loss_train"])
    # the null class is a row of the official table
    assert_gradients(model, gradient_norms(golden, "gradnorm/", []), {"null_class": TABLE})


def test_every_drawn_code(tmp_path) -> None:
    golden = read_golden("mage")
    model = mage_model(golden, tmp_path)
    (run, (steps, temperature, count)), *_ = golden.config["runs"].items()
    draws = Recorded(golden.inputs[f"{run}/exponential"], golden.inputs[f"{run}/gumbel"], True)
    settings = SamplerOptions(steps=steps, choice_temperature=temperature)
    codes = torch.zeros(count, golden.config["tokens"], dtype=torch.long)
    steered = Steered(model, null(model, count), Unguided())
    found = decode(model.network, steered, settings, draws, codes, torch.ones_like(codes).bool())
    assert torch.equal(found, golden.outputs[f"{run}/tokens"])
    for logits, expected in zip(draws.logits, golden.outputs[f"{run}/log_probs"], strict=True):
        assert near(logits.log_softmax(-1), expected)


def test_classes_start_at_the_constant_class_token_and_the_null_is_no_class(golden: Golden, model: Model) -> None:
    network, first = model.network, model.network.codebook
    constant = golden.weights[TABLE][first + 76]
    assert torch.equal(network.null_class[0], constant)
    assert torch.equal(network.token_emb.word_embeddings.weight[first:-1], constant.expand(1000, -1))
    assert torch.equal(network.token_emb.word_embeddings.weight[:first], golden.weights[TABLE][:first])
    classes = network.embed_class(torch.tensor([76, model.card.classes]))
    classes[0].sum().backward()
    assert network.null_class.grad.abs().max() == 0  # class 76 does not train the null class


def test_weights_of_another_table_are_refused_in_words(golden: Golden, tmp_path) -> None:
    weights = {**golden.weights, TABLE: torch.ones(golden.config["n_embed"] + 7, 24)}
    torch.save({"model": weights}, tmp_path / "mage.pth")
    with pytest.raises(GftzooError, match="does not fit this model"):
        import_model(mage_card(golden.config), tmp_path / "mage.pth")
