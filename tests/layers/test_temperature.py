"""How the temperature enters: every nano model with an affine read-out, alone and beside the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from nano import nano_conditions, nano_latents, nano_model
from torch import Tensor

from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.contract.problem import Problem
from gftzoo.engine import resolve
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT, GFTOptions, mix
from gftzoo.layers.temperature import Affine, Slope, is_slope, plain
from gftzoo.loading.files import import_model
from gftzoo.model import Model

BATCH = 3
BETAS = (0.1, 0.5, 1.0)
FORMS = [(kind, blocks) for kind in ("affine", "both") for blocks in (0, 1)]
# MAR's plain network samples with the variance that GFT, by default, does not train.
COMPARABLE: dict[str, dict[str, Any]] = {"mar-nano": {"gft_variance": "learned"}}


@dataclass
class Case:
    model: Model
    problem: Problem
    condition: Tensor

    def at(self, beta: float | Tensor) -> Tensor:
        """The prediction at a temperature."""
        beta_B = torch.as_tensor(beta, dtype=torch.float32).expand(BATCH)
        return self.model.family.predict(self.model, self.problem, self.condition, beta_B)


@cache
def make_case(name: str, kind: str, blocks: int = 0) -> Case:
    options = {"temperature_input": kind, "temperature_blocks": blocks, **COMPARABLE.get(name, {})}
    model = nano_model(name, temperature=True, **options)
    model.network.eval()
    generator = SampleGenerator.for_samples("test", 0, range(BATCH))
    problem = model.family.draw_problem(model, nano_latents(model, BATCH), generator)
    return Case(model, problem, model.encode_condition(nano_conditions(model, BATCH)))


def draw(model: Model, guidance: Temperature | Unguided) -> Tensor:
    few = {"steps": 3} if "steps" in model.family.options().sampler.model_fields else {}
    return model.sample_latents(nano_conditions(model, 2), guidance, [1, 2], **few)


def without_temperature(model: Model) -> Model:
    """A plain model with the weights that the two share."""
    bare = Model.fresh(model.card.change(temperature=False), model.tokenizer)
    shared = bare.network.state_dict()
    bare.network.load_state_dict({key: model.network.state_dict()[key] for key in shared})
    bare.network.eval()
    return bare


@pytest.mark.parametrize("blocks", [0, 1])
@torch.no_grad()
def test_three_temperatures_lie_on_a_line(nano_name: str, blocks: int) -> None:
    case = make_case(nano_name, "affine", blocks)
    at_0, at_1, at_3 = (case.at(1 / (1 + s)) for s in (0, 1, 3))
    torch.testing.assert_close(at_3 - at_0, 3 * (at_1 - at_0), rtol=1e-4, atol=1e-4)
    assert (at_1 - at_0).abs().max() > 1e-3


@pytest.mark.parametrize(("kind", "blocks"), FORMS)
@torch.no_grad()
def test_a_fine_tune_starts_as_the_plain_model(nano_name: str, kind: str, blocks: int, tmp_path) -> None:
    case = make_case(nano_name, kind, blocks)
    bare = without_temperature(case.model)
    bare.save(tmp_path)
    begun = import_model(case.model.card, tmp_path / "raw.safetensors", tokenizer=case.model.tokenizer)
    begun.network.eval()
    expected = bare.family.predict(bare, case.problem, case.condition, None)
    for beta in BETAS:
        assert torch.equal(Case(begun, case.problem, case.condition).at(beta), expected)


@pytest.mark.parametrize(("kind", "blocks"), FORMS)
def test_the_mix_is_the_direct_formula_and_finite_at_zero(nano_name: str, kind: str, blocks: int) -> None:
    case = make_case(nano_name, kind, blocks)
    family, beta_B = case.model.family, torch.tensor([0.0, 0.3, 1.0])
    with torch.no_grad():
        prediction = family.prediction(case.model, case.problem, case.condition, beta_B)
        null = case.model.null_condition(case.condition)
        u_BX = plain(family.prediction(case.model, case.problem, null, torch.ones(BATCH)))
        assert isinstance(prediction, Affine)
        mixed = mix(prediction, u_BX, beta_B)
        direct = 0.3 * prediction.at(1 / 0.3 - 1)[1] + 0.7 * u_BX[1]
        torch.testing.assert_close(mixed[1], direct, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixed[0], prediction.d[0] + u_BX[0])
        assert torch.equal(mixed[2], prediction.c[2])
        expected = family.loss_term(case.model, mixed.float(), case.problem)
    none = torch.zeros(BATCH, dtype=torch.bool)
    torch.testing.assert_close(GFT().loss_at(case.model, case.problem, case.condition, beta_B, none), expected)


@pytest.mark.parametrize("blocks", [0, 1])
def test_both_ends_are_the_mix_at_one_and_at_zero(nano_name: str, blocks: int) -> None:
    case, ends = make_case(nano_name, "affine", blocks), GFT(GFTOptions(ends="both", slope_weight=0.5))
    arguments = case.model, case.problem, case.condition
    shown, dropped = torch.zeros(BATCH, dtype=torch.bool), torch.tensor([True, False, False])
    at_one, at_zero = (GFT().loss_at(*arguments, torch.full((BATCH,), beta), shown) for beta in (1.0, 0.0))
    drawn = torch.rand(BATCH)  # is not looked at
    torch.testing.assert_close(ends.loss_at(*arguments, drawn, shown), (at_one + 0.5 * at_zero) / 2)
    everyone = torch.ones(BATCH, dtype=torch.bool)  # a dropped sample has no slope to learn
    torch.testing.assert_close(
        ends.loss_at(*arguments, drawn, dropped)[0], GFT().loss_at(*arguments, drawn, everyone)[0] / 2
    )


@pytest.mark.parametrize("given", [{"network.temperature_input": kind} for kind in ("embedding", "both")])
def test_both_ends_want_an_affine_temperature(nano_name: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"add -o network\.temperature_input=affine"):
        resolve(nano_name, recipe="gft", options={"objective.ends": "both", "objective.weighting": "one", **given})


@pytest.mark.parametrize(("kind", "blocks"), FORMS)
def test_no_gradient_reaches_the_unconditional_prediction(nano_name: str, kind: str, blocks: int, monkeypatch) -> None:
    """The gradients are those of the loss with the unconditional prediction as a constant, the slope's among them."""
    case = make_case(nano_name, kind, blocks)
    beta_B, none = torch.tensor([0.2, 0.5, 0.8]), torch.zeros(BATCH, dtype=torch.bool)
    family, null = case.model.family, case.model.null_condition(case.condition)
    with torch.no_grad():
        u_BX = plain(family.prediction(case.model, case.problem, null, torch.ones(BATCH)))
    prediction = family.prediction(case.model, case.problem, case.condition, beta_B)
    loss = family.loss_term(case.model, mix(prediction, u_BX, beta_B).float(), case.problem).sum()
    trained = [(name, p) for name, p in case.model.network.named_parameters() if p.requires_grad]
    names, parameters = zip(*trained, strict=True)
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = GFT().loss_at(case.model, case.problem, case.condition, beta_B, none).sum()
    for name, a, b in zip(names, torch.autograd.grad(found, parameters, allow_unused=True), expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=name)
    assert all(b is not None for name, b in zip(names, expected, strict=True) if is_slope(name))


def test_samples_at_one_are_those_of_the_plain_model(nano_name: str) -> None:
    model = make_case(nano_name, "affine").model
    expected = draw(without_temperature(model), Unguided())
    assert torch.equal(draw(model, Temperature(1.0)), expected)
    assert not torch.equal(draw(model, Temperature(0.1)), expected)


@pytest.mark.parametrize("name", ["llamagen-nano", "dit-nano"])
def test_an_affine_temperature_follows_a_ramp(name: str, monkeypatch) -> None:
    model, seen = make_case(name, "affine", 1).model, []
    at = Affine.at
    monkeypatch.setattr(Affine, "at", lambda self, s: seen.append(s) or at(self, s))
    ramp = draw(model, Temperature(0.25, "linear"))
    assert seen[0] == 0 and seen[-1] == 3 and seen == sorted(set(seen))
    assert not torch.equal(ramp, draw(model, Temperature(0.25)))


def test_a_slope_of_low_rank_starts_at_zero_and_is_one_matrix() -> None:
    model = nano_model("llamagen-nano", temperature=True, temperature_input="affine", temperature_rank=4)
    slope = model.network.slope
    assert isinstance(slope, Slope)
    features = torch.randn(5, model.network.options.width)
    weight, bias = slope.matrix()
    assert bias is None and torch.linalg.matrix_rank(weight) == 4
    torch.testing.assert_close(slope(features, features), features @ weight.float().T)
    fresh = Model.fresh(model.card).network.slope
    assert not fresh.layers[-1].weight.any() and fresh.layers[0].weight.any()


def test_blocks_of_a_slope_that_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="temperature_blocks needs a slope; add temperature_input=affine or both"):
        nano_model("dit-nano", temperature=True, temperature_blocks=1)
