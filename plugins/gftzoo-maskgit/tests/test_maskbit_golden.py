"""MaskBit equals the official code, through the import of a state dict: masks, logits, losses, gradients, codes."""

from __future__ import annotations

import pytest
import torch
from gftzoo_maskgit.checkpoints import MASKBIT
from gftzoo_maskgit.family import MaskedProblem
from gftzoo_maskgit.masking import draw_each, share
from gftzoo_maskgit.sampler import SamplerOptions, decode
from golden import Golden, near
from maskgit_golden import Masks, Recorded, assert_gradients, gradient_norms, maskbit_model, read_golden
from torch.nn import functional as F

from gftzoo.contract.guidance import ClassifierFree, Temperature, Unguided
from gftzoo.contract.pieces import Steered
from gftzoo.model import Model

FILES = ["maskbit", "maskbit-small", "maskbit-bert"]
RUNS = [("maskbit", "cfg_cosine"), ("maskbit", "nocfg"), ("maskbit-bert", "nocfg")]


@pytest.fixture(scope="module", params=FILES)
def golden(request) -> Golden:
    return read_golden(request.param)


@pytest.fixture
def model(golden: Golden, tmp_path) -> Model:
    return maskbit_model(golden, tmp_path)


def problem_of(golden: Golden) -> MaskedProblem:
    masked = golden.outputs["masked_tokens/arccos"] != golden.outputs["split_tokens"]
    return MaskedProblem(golden.outputs["split_tokens"].flatten(1), asked=masked.flatten(1))


def test_parts_and_masks(golden: Golden, model: Model) -> None:
    network, tokens = model.network, golden.inputs["tokens"]
    parts = network.split(tokens)
    assert torch.equal(parts, golden.outputs["split_tokens"].flatten(1)) and torch.equal(network.join(parts), tokens)
    assert torch.equal(tokens, golden.outputs["combined"])
    mask = 1 << network.bits
    for schedule in ("arccos", "cosine", "linear", "square"):
        drawn = draw_each(Masks(golden.inputs["mask_r"], golden.inputs["mask_uniform"]), schedule, 16, network.splits)
        expected = golden.outputs[f"masked_tokens/{schedule}"].flatten(1) == mask
        assert torch.equal(drawn, expected)
    names = ("root", "square", "cosine", "arccos", "linear")
    found = torch.stack([share(golden.inputs["progress"], name, 16) for name in names])
    assert near(found, golden.outputs["gen_mask_ratio"], 1e-6)


def test_logits(golden: Golden, model: Model) -> None:
    problem, classes = problem_of(golden), golden.inputs["cls"]
    with torch.no_grad():
        for output, masked, condition in (
            ("logits", problem.asked, classes),
            ("logits_null", problem.asked, model.null_condition(classes)),
            ("logits_all_masked", torch.ones_like(problem.asked), classes),
        ):
            found = model.network(problem.codes, masked, condition)
            assert near(found, golden.outputs[output].flatten(1, 2)), output


def test_losses_and_gradients(golden: Golden, model: Model) -> None:
    problem = problem_of(golden)
    condition = model.family.condition_drop(model, golden.inputs["cls"], golden.inputs["drop_mask"])
    prediction = model.family.predict(model, problem, condition, None)
    loss = model.family.loss_term(model, prediction, problem).mean()
    loss.backward()
    assert near(loss, golden.outputs["loss/loss"])
    assert near(loss * model.network.splits, golden.outputs["loss_sum_splits/loss"])
    assert_gradients(model, gradient_norms(golden, "loss/gradnorm/", MASKBIT))
    nats = F.cross_entropy(prediction.mT, problem.codes, reduction="none", label_smoothing=0.1)
    assert near((nats * problem.asked).sum() / problem.asked.sum(), golden.outputs["loss/masked_token_loss"])


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_every_drawn_code(name: str, run: str, tmp_path) -> None:
    golden = read_golden(name)
    model, official = maskbit_model(golden, tmp_path), golden.config["runs"][run]
    scale = official["guidance_scale"]
    guidance = ClassifierFree(1 + scale, "linear") if scale else Unguided()
    settings = SamplerOptions(
        steps=official["num_steps"],
        choice_temperature=official["randomize_temperature"],
        temperature=official["softmax_temperature"],
        mask_schedule=official["mask_schedule_strategy"],
        guidance_power=official.get("scale_pow"),
    )
    draws = Recorded(golden.inputs[f"{run}/exponential"], golden.inputs[f"{run}/gumbel"], True)
    codes = torch.zeros_like(golden.outputs["split_tokens"].flatten(1))
    steered = Steered(model, golden.inputs["cls"], guidance)
    found = decode(model.network, steered, settings, draws, codes, torch.ones_like(codes).bool())
    assert torch.equal(model.network.join(found), golden.outputs[f"{run}/final_tokens"])
    for logits, expected in zip(draws.logits, golden.outputs[f"{run}/log_probs"], strict=True):
        assert near(logits.log_softmax(-1), expected.flatten(1, 2))


def test_a_temperature_follows_the_annealed_guidance() -> None:
    """beta at a step is 1 / (1 + s) of that step's strength s, which starts at none."""
    settings = SamplerOptions(steps=64, guidance_power=2.5)
    guidance, scale = Temperature(1 / 7.4, "linear"), 6.4
    for step in (0, 10, 63):
        official = scale * (1 - torch.cos(torch.pi * torch.tensor(step / 64) ** 2.5)) / 2
        found = guidance.beta(1, settings.progress(step))
        assert near(found[0], 1 / (1 + official), 1e-6)
