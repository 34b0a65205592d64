"""The objective, for every registered family; test_conformance.py has the identities that the contract promises."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from nano import nano_conditions, nano_latents, nano_model
from torch import Tensor

from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT, GFTOptions, deterministic
from gftzoo.layers.temperature import Prediction
from gftzoo.model import Model
from gftzoo.objectives import build_objective
from gftzoo.objectives.conditional import Conditional

BATCH = 4


@dataclass
class Step:
    model: Model
    problem: Problem
    condition: Tensor
    generator: SampleGenerator


def make_step(name: str, temperature: bool = True) -> Step:
    model = nano_model(name, temperature=temperature)
    model.network.eval()
    generator = SampleGenerator.for_samples("test", 0, range(BATCH))
    problem = model.family.draw_problem(model, nano_latents(model, BATCH), generator)
    return Step(model, problem, model.encode_condition(nano_conditions(model, BATCH)), generator)


def none_dropped() -> Tensor:
    return torch.zeros(BATCH, dtype=torch.bool)


def test_one_temperature_needs_no_input() -> None:
    step = make_step("dit-nano", temperature=False)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    family, arguments = step.model.family, (step.model, step.problem)
    null = family.condition_drop(step.model, step.condition, everyone)
    c, u = (family.predict(*arguments, condition, None) for condition in (step.condition, null))
    found = GFT(GFTOptions(beta_min=0.25, beta_max=0.25, p_drop=0.0)).loss(*arguments, step.condition, step.generator)
    torch.testing.assert_close(found, family.loss_term(step.model, 0.25 * c + 0.75 * u, step.problem))
    card = step.model.card.change(network={**step.model.card.network, "temperature_input": "none"})
    with pytest.raises(
        UsageError, match=r"trains at one temperature, and objective\.beta_min=0 and beta_max=1 are two"
    ):
        GFT().check(card, None)


@pytest.mark.parametrize(("weighting", "power"), [("inverse-beta", 1), ("inverse-beta-squared", 2)])
def test_weighting_takes_beta_out_of_the_loss(weighting: str, power: int) -> None:
    step = make_step("dit-nano")
    beta = torch.tensor([0.2, 0.5, 0.7, 1.0])
    arguments = (step.model, step.problem, step.condition, beta, none_dropped())
    weighted = GFT(GFTOptions(beta_min=0.1, weighting=weighting)).loss_at(*arguments)
    torch.testing.assert_close(weighted * beta**power, GFT().loss_at(*arguments))


def test_dropped_samples_at_full_weight_have_the_same_loss_and_the_whole_gradient(nano_name: str) -> None:
    found = []
    for mix in ("drawn", "one"):
        step = make_step(nano_name)
        beta, everyone = torch.full((BATCH,), 0.25), torch.ones(BATCH, dtype=torch.bool)
        loss = GFT(GFTOptions(dropped_mix=mix)).loss_at(step.model, step.problem, step.condition, beta, everyone)
        loss.sum().backward()
        gradients = [p.grad.flatten() for p in step.model.network.parameters() if p.grad is not None]
        found.append((loss.detach(), torch.cat(gradients)))
        step.model.network.zero_grad()
    (drawn, slow), (one, whole) = found
    torch.testing.assert_close(drawn, one)
    torch.testing.assert_close(slow, 0.25 * whole, rtol=1e-4, atol=1e-6)


def test_skipping_dropped_samples_changes_nothing(nano_name: str) -> None:
    step = make_step(nano_name)
    beta, dropped = torch.tensor([0.2, 0.5, 0.7, 0.9]), torch.tensor([True, False, True, False])
    short = GFT(GFTOptions(skip_dropped=True)).loss_at(step.model, step.problem, step.condition, beta, dropped)
    whole = GFT(GFTOptions(skip_dropped=False)).loss_at(step.model, step.problem, step.condition, beta, dropped)
    torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-5)


def test_the_unconditional_pass_sees_only_samples_that_are_not_dropped(nano_name: str, monkeypatch) -> None:
    step = make_step(nano_name)
    rows: list[tuple[int, bool]] = []
    prediction = step.model.family.prediction

    def counting(model: Model, problem: Problem, condition: Tensor, beta: Tensor | None) -> Prediction:
        rows.append((len(condition), torch.is_grad_enabled()))
        return prediction(model, problem, condition, beta)

    monkeypatch.setattr(step.model.family, "prediction", counting)
    dropped = torch.tensor([True, False, True, False])
    GFT().loss_at(step.model, step.problem, step.condition, torch.full((BATCH,), 0.5), dropped)
    assert rows == [(BATCH, True), (2, False)]


@pytest.mark.parametrize("name", ["dit-nano", "sd-nano", "mar-nano"])
def test_model_guidance_is_gft_without_the_factor_beta(name: str) -> None:
    """Model-guidance (arXiv 2502.12154): the target is y + w sg[f_s - f_u]. With beta = 1 - w, GFT's gradient is beta
    times its gradient, and equal to it where the loss is divided by beta."""
    step, w = make_step(name), 0.4
    family, beta_B = step.model.family, torch.full((BATCH,), 1 - w)
    parameters = [p for p in step.model.network.parameters() if p.requires_grad]

    def gradient(loss_B: Tensor) -> Tensor:
        found = torch.autograd.grad(loss_B.sum(), parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    s_BX = family.predict(step.model, step.problem, step.condition, beta_B)
    with torch.no_grad():
        null = step.model.null_condition(step.condition)
        u_BX = family.predict(step.model, step.problem, null, torch.ones(BATCH))
        noise_BX = step.problem.noise_BMKC if name == "mar-nano" else step.problem.target
        target_BX = noise_BX + w * (s_BX - u_BX)
    guided = gradient(family.prediction_distance(step.model, s_BX, target_BX, step.problem))
    arguments = (step.model, step.problem, step.condition, beta_B, none_dropped())
    torch.testing.assert_close(gradient(GFT().loss_at(*arguments)), (1 - w) * guided, rtol=1e-3, atol=1e-5)
    divided = GFT(GFTOptions(beta_min=1 - w, weighting="inverse-beta"))
    torch.testing.assert_close(gradient(divided.loss_at(*arguments)), guided, rtol=1e-3, atol=1e-5)


def test_all_dropped_is_the_unconditional_loss(nano_name: str) -> None:
    step = make_step(nano_name)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    loss = GFT().loss_at(step.model, step.problem, step.condition, torch.full((BATCH,), 0.3), everyone)
    null = step.model.null_condition(step.condition)
    prediction = step.model.family.predict(step.model, step.problem, null, torch.ones(BATCH)).float()
    expected = step.model.family.loss_term(step.model, prediction, step.problem)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_the_conditional_objective_drops_and_takes_no_temperature(nano_name: str) -> None:
    step = make_step(nano_name, temperature=False)
    loss = Conditional().loss(step.model, step.problem, step.condition, step.generator)
    assert loss.shape == (BATCH,)
    assert not Conditional.temperature and GFT.temperature


def test_modules_get_their_own_mode_back() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.5))
    network[1].eval()
    with deterministic(network):
        assert not network[0].training
    assert network.training and network[0].training and not network[1].training


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gtf", {}, "did you mean 'gft'"),
        ("gft", {"p_dorp": 0.1}, "did you mean 'p_drop'"),
        ("gft", {"p_drop": 1.5}, "p_drop = 1.5"),
        ("gft", {"weighting": "inverse-beta"}, "needs beta_min above 0"),
        ("gft", {"beta_min": 0.8, "beta_max": 0.5}, "beta_max, 0.5, is below beta_min, 0.8"),
    ],
)
def test_a_wrong_objective_is_one_sentence(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_objective(name, options)


def test_a_second_pass_in_bf16_changes_little(nano_name: str) -> None:
    step = make_step(nano_name)
    arguments = (step.model, step.problem, step.condition, torch.full((BATCH,), 0.5), none_dropped())
    exact, lowered = (GFT(GFTOptions(unconditional_precision=p)).loss_at(*arguments) for p in ("same", "bf16"))
    assert lowered.dtype == torch.float32 and not torch.equal(exact, lowered)
    torch.testing.assert_close(exact, lowered, rtol=2e-2, atol=2e-2)


def test_the_second_pass_of_a_large_network_alone_is_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only where the device has it, and no autocast has been chosen for the run."""
    model, cpu, objective = make_step("dit-nano").model, torch.device("cpu"), GFT()
    for has, large, expected in ((True, 1, True), (False, 1, False), (True, 10**9, False)):
        monkeypatch.setattr("gftzoo.gft.has_bf16", lambda device, has=has: has)
        monkeypatch.setattr("gftzoo.gft.LARGE", large)
        assert objective.lowers(model, cpu) is expected
    monkeypatch.setattr("gftzoo.gft.LARGE", 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert not objective.lowers(model, cpu)
