"""Sampling in lower precision and compiled, for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nano import NANO, nano_conditions, nano_latents, nano_model
from torch._dynamo.testing import CompileCounter

from gftzoo.contract.guidance import Temperature
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.sampling import image_seeds

SHORT = {
    "dit": {"steps": 2}, "mdt": {"steps": 2}, "sit": {"steps": 2}, "uvit": {"steps": 2}, "sd": {"steps": 2},
    "mar": {"steps": 2, "head_steps": 2}, "maskgit": {"steps": 3},
}  # fmt: skip
# As few blocks as there can be: what is traced is every block anew.
TINY: dict[str, dict[str, Any]] = {
    "mdt": {"depth": 3, "decode_layer": 1}, "uvit": {"depth": 2}, "mar": {"depth": 1, "head_depth": 1},
    "sd": {"channels": (16,), "attention": (True,)},
}  # fmt: skip


def tiny(name: str) -> Model:
    torch._dynamo.reset()
    return nano_model(name, temperature=True, **TINY.get(name.removesuffix("-nano"), {"depth": 1}))


def latents(model: Model, name: str, **settings: Any) -> torch.Tensor:
    short = {**SHORT.get(name.removesuffix("-nano"), {}), **settings}
    return model.sample_latents(nano_conditions(model, 2), Temperature(0.5), image_seeds(5, range(2)), **short)


@pytest.mark.parametrize("name", NANO)
def test_the_network_is_one_graph(name: str) -> None:
    """As training calls it, without a break, and to the bit."""
    model = tiny(name)
    problem = model.family.draw_problem(model, nano_latents(model, 2), SampleGenerator([1, 2]))
    condition, beta = model.encode_condition(nano_conditions(model, 2)), torch.tensor([0.5, 0.7])
    model.network.eval()
    with torch.no_grad():
        plain = model.family.predict(model, problem, condition, beta)
        model.network.compile(backend="eager", fullgraph=True)
        assert torch.equal(model.family.predict(model, problem, condition, beta), plain)


@pytest.mark.parametrize("name", ["dit-nano", "mar-nano", "maskgit-nano", "sd-nano", "var-nano"])
def test_compiled_sampling_draws_the_same(name: str) -> None:
    """Those that decode code by code are tested with their decoders."""
    model, graphs = tiny(name), CompileCounter()
    plain = latents(model, name)
    model.compile(backend=graphs)  # type: ignore[arg-type]
    assert torch.equal(latents(model, name), plain) and graphs.frame_count > 0
    before = graphs.frame_count
    latents(model, name)
    assert graphs.frame_count == before


@pytest.mark.parametrize("name", NANO)
def test_bf16_draws_nearly_the_same(name: str) -> None:
    model = nano_model(name, temperature=True)
    plain = latents(model, name)
    half = latents(model.to("cpu", "bf16"), name)
    assert half.dtype == plain.dtype and half.isfinite().all()
    if plain.is_floating_point():
        assert 0 < (half - plain).norm() < 0.1 * plain.norm()
    else:
        assert (half == plain).float().mean() > 0.8
    assert torch.equal(latents(model.to("cpu", "fp32"), name), plain)
