"""Both objectives give the official losses and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dit_golden import LINEAR, gradient_norms, official_model, problem_of, read_golden, recorded_norms
from golden import near
from torch import Tensor

from gftzoo.gft import GFT, GFTOptions
from gftzoo.model import Model


def check_gradients(model: Model, expected: dict[str, Tensor]) -> None:
    found = gradient_norms(model)
    assert found.keys() == expected.keys()
    for name, norm in expected.items():
        assert abs(found[name] - float(norm)) <= 1e-4 * max(1.0, float(norm)), name


def test_conditional_loss(tmp_path: Path) -> None:
    golden = read_golden("dit-loss")
    model, inputs = official_model(golden, tmp_path), golden.inputs
    problem = problem_of(inputs["x_start"], inputs["t"], inputs["noise"])
    output = model.family.predict(model, problem, inputs["y"], None)
    assert near(output, golden.outputs["model_output"])
    eps, values = output.chunk(2, dim=1)
    bound = LINEAR.variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)
    assert near(bound, golden.outputs["vb"])
    loss = model.family.loss_term(model, output, problem)
    assert near(loss, golden.outputs["loss"])
    assert near(loss - bound, golden.outputs["mse"])
    loss.mean().backward()
    check_gradients(model, recorded_norms(golden))


def test_conditional_loss_with_dropped_labels(tmp_path: Path) -> None:
    golden = read_golden("dit-loss")
    model, inputs = official_model(golden, tmp_path), golden.inputs
    model.network.train()
    problem = problem_of(inputs["x_start"], inputs["t"], inputs["noise"])
    dropped = inputs["drop_uniform"] < golden.config["arch"]["class_dropout_prob"]
    assert 0 < dropped.sum() < len(dropped)
    output = model.family.predict(model, problem, model.family.condition_drop(model, inputs["y"], dropped), None)
    loss = model.family.loss_term(model, output, problem)
    assert near(loss, golden.outputs["train_mode/loss"])
    eps, values = output.chunk(2, dim=1)
    bound = LINEAR.variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)
    assert near(bound, golden.outputs["train_mode/vb"])
    assert near(loss - bound, golden.outputs["train_mode/mse"])


@pytest.mark.parametrize("skip_dropped", [True, False])
@pytest.mark.parametrize("name", ["gft-dit-linear", "gft-dit-mlp"])
def test_guidance_free_loss(name: str, skip_dropped: bool, tmp_path: Path) -> None:
    golden = read_golden(name)
    model = official_model(golden, tmp_path)
    model.network.train()
    x_0, t, noise, y, beta, dropped = (
        golden.inputs[f"loss/{key}"] for key in ("x_start", "t", "noise", "y", "beta", "drop_mask")
    )
    assert 0 < dropped.sum() < len(dropped)
    problem = problem_of(x_0, t, noise)
    loss = GFT(GFTOptions(skip_dropped=skip_dropped)).loss_at(model, problem, y, beta, dropped)
    assert near(loss, golden.outputs["loss/loss"])
    assert near(loss.mean(), golden.outputs["loss/mean"])
    loss.mean().backward()
    check_gradients(model, recorded_norms(golden))


@pytest.mark.parametrize("name", ["gft-dit-linear", "gft-dit-mlp"])
def test_losses_of_the_two_branches(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    model = official_model(golden, tmp_path)
    x_0, t, noise, y, beta, dropped = (
        golden.inputs[f"loss/{key}"] for key in ("x_start", "t", "noise", "y", "beta", "drop_mask")
    )
    problem, family = problem_of(x_0, t, noise), model.family
    null = model.null_condition(y)
    unconditional = family.predict(model, problem, null, torch.ones_like(beta))
    assert near(family.loss_term(model, unconditional, problem), golden.outputs["loss/loss_uncond"])
    condition = family.condition_drop(model, y, dropped)
    sampling = family.predict(model, problem, condition, torch.where(dropped, 1.0, beta))
    assert near(family.loss_term(model, sampling, problem), golden.outputs["loss/loss_psample"])
