"""Guidance in isolation; its use by each family's sampler is tested in test_sampling.py."""

from __future__ import annotations

import pytest
import torch

from gftzoo.contract.guidance import ClassifierFree, Temperature, Unguided
from gftzoo.errors import UsageError


def test_cfg_at_scale_one_is_the_conditional_prediction() -> None:
    prediction = torch.randn(6, 3)
    torch.testing.assert_close(ClassifierFree(1.0).combine(prediction), prediction[:3])


def test_cfg_extrapolates_from_the_null() -> None:
    prediction = torch.tensor([[3.0], [1.0]])
    assert ClassifierFree(2.5).combine(prediction) == 1 + 2.5 * 2
    assert ClassifierFree(2.5, "linear").combine(prediction, progress=0.5) == 1 + 1.75 * 2
    assert ClassifierFree(2.5, "linear").combine(prediction, progress=0.0) == 3


def test_one_pass_leaves_the_batch_as_it_is() -> None:
    x = torch.randn(2, 3)
    for guidance in (Unguided(), Temperature(0.5)):
        assert guidance.repeat(x) is x and guidance.combine(x) is x and guidance.expand(x, x + 1) is x
    assert torch.equal(ClassifierFree(2.0).repeat(x), torch.cat([x, x]))
    assert torch.equal(ClassifierFree(2.0).expand(x, x + 1), torch.cat([x, x + 1]))


def test_the_temperature_ramp_mirrors_the_guidance_ramp() -> None:
    guidance = Temperature(1 / 2.5, "linear")
    for k in range(10):  # VAR at cfg 1.5: t = 1.5 k / 9 and beta = 1 / (1 + t)
        beta = guidance.beta(2, k / 9)
        torch.testing.assert_close(beta, torch.full((2,), 1 / (1 + 1.5 * k / 9)))
    torch.testing.assert_close(Temperature(0.4).beta(3), torch.full((3,), 0.4))
    assert Unguided().beta(3) is None


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_temperature_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"beta must lie in \(0, 1\]"):
        Temperature(value)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_scale_that_is_no_scale_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="CFG scale"):
        ClassifierFree(value)


@pytest.mark.parametrize("guidance", [Temperature, ClassifierFree])
def test_a_ramp_that_there_is_not_is_refused(guidance: type[Temperature | ClassifierFree]) -> None:
    with pytest.raises(UsageError, match="'log' is no ramp of the guidance; there are constant, linear, power-cosine"):
        guidance(0.5, "log")  # type: ignore[arg-type]
