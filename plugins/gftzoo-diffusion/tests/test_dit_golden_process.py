"""Tables, posteriors and single reverse steps are those of the official process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dit_golden import feed_step_noise, read_golden, tiny_card
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.processes.discrete import spaced_timesteps
from gftzoo_diffusion.samplers import DiffusionSampler
from gftzoo_diffusion.samplers.respaced import respaced_route
from golden import Golden, near
from torch import Tensor

from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import Diffusion

TABLES = {
    "betas": "beta_K",
    "alphas_cumprod": "alpha_bar_K",
    "posterior_variance": "variance_K",
    "posterior_log_variance_clipped": "log_small_K",
    "posterior_mean_coef1": "mean_x0_K",
    "posterior_mean_coef2": "mean_xt_K",
}
KINDS = ("full", "respaced")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("dit-ddpm-terms")


def process_of(golden: Golden, kind: str) -> tuple[Diffusion, Tensor]:
    process = PROCESSES["linear"].tables
    if kind != "full":
        process = process.respaced(spaced_timesteps(golden.config["respacing"]))
    return process, golden.inputs[f"t_{kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_tables(golden: Golden, kind: str) -> None:
    process, _ = process_of(golden, kind)
    for theirs, ours in TABLES.items():
        expected = golden.outputs[f"{kind}/table/{theirs}"]
        actual = getattr(process, ours)
        assert actual.dtype == torch.float64
        assert (actual - expected).abs().max() <= 1e-12, theirs
    assert process.timestep_K.tolist() == golden.outputs[f"{kind}/table/timestep_map"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_forward_process_and_posterior(golden: Golden, kind: str) -> None:
    process, t = process_of(golden, kind)
    x_0, x_t, noise = (golden.inputs[key] for key in ("x_start", "x_t", "noise"))
    assert near(process.noised(x_0, t, noise), golden.outputs[f"{kind}/q_sample"])
    assert near(process.noised(x_0, t, torch.zeros_like(noise)), golden.outputs[f"{kind}/q_mean"])
    assert near(process.posterior_mean(x_0, x_t, t), golden.outputs[f"{kind}/posterior_mean"])
    for table in ("posterior_variance", "posterior_log_variance_clipped"):
        actual = process.at(getattr(process, TABLES[table]), t, x_0).expand_as(x_0)
        assert near(actual, golden.outputs[f"{kind}/{table}"])


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_prediction_of_the_network(golden: Golden, kind: str, clip: bool) -> None:
    process, t = process_of(golden, kind)
    eps, values = golden.inputs["model_output"].chunk(2, dim=1)
    x_0 = process.predicted_x0(golden.inputs["x_t"], t, eps)
    x_0 = x_0.clamp(-1, 1) if clip else x_0
    prefix = f"{kind}/p_clip{int(clip)}"
    assert near(x_0, golden.outputs[f"{prefix}/pred_xstart"])
    assert near(process.posterior_mean(x_0, golden.inputs["x_t"], t), golden.outputs[f"{prefix}/mean"])
    assert near(process.log_variance(values, t), golden.outputs[f"{prefix}/log_variance"])
    assert near(process.log_variance(values, t).exp(), golden.outputs[f"{prefix}/variance"])


def step(golden: Golden, kind: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Tensor:
    """One reverse step of every row of the file, each at its own timestep, by the scheduler our sampler uses."""
    arch = read_golden("dit-forward").config["arch"]
    spacing = golden.config["respacing"] if kind == "respaced" else "1000"
    chosen = DiffusionSampler(spacing=spacing, **settings)
    route = respaced_route(tiny_card(arch), PROCESSES["linear"], chosen, SampleGenerator([0]))
    rows = []
    for row, index in enumerate(golden.inputs[f"t_{kind}"].tolist()):
        feed_step_noise(monkeypatch, golden.inputs["step_noise"][row : row + 1].expand(1, 1, -1, -1, -1))
        output, x_t = (golden.inputs[name][row : row + 1] for name in ("model_output", "x_t"))
        rows.append(route.step(output, index, x_t))
    return torch.cat(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_ancestral_step(golden: Golden, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = golden.outputs[f"{kind}/p_sample"]
    assert near(step(golden, kind, monkeypatch, sampler="ddpm"), expected)
    assert not near(step(golden, kind, monkeypatch, sampler="ddpm", clip=True), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
def test_fixed_variance(golden: Golden, kind: str, variance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"{kind}/{variance.replace('-', '_')}"
    mean, log_variance = golden.outputs[f"{prefix}/mean"], golden.outputs[f"{prefix}/log_variance"]
    noisy = (golden.inputs[f"t_{kind}"] > 0).view(-1, 1, 1, 1)
    expected = mean + noisy * (0.5 * log_variance).exp() * golden.inputs["step_noise"]
    assert near(step(golden, kind, monkeypatch, sampler="ddpm", variance=variance), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0, 0.5])
def test_implicit_step(golden: Golden, kind: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert near(step(golden, kind, monkeypatch, sampler="ddim", eta=eta), golden.outputs[f"{kind}/ddim_eta{eta}"])


def test_spacings() -> None:
    assert spaced_timesteps("250")[:4] == [0, 4, 8, 12]
    assert spaced_timesteps("250")[-2:] == [995, 999]
    assert spaced_timesteps("ddim50") == list(range(0, 1000, 20))
    assert len(spaced_timesteps("6,3,1")) == 10
    assert spaced_timesteps("21")[10:12] == [499, 549]  # 499.5 lies half-way, and its floating-point sum just below
    for impossible in ("1001", "0", "ddim999", "ten", "", "5,0", "ddim5,5"):
        with pytest.raises(ValueError, match=r"spaced|stride|read like"):
            spaced_timesteps(impossible)
