"""What a sampler must hold whatever the weights: guidance that is off, samples apart, settings that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.samplers import DiffusionSampler
from gftzoo_diffusion.samplers.multistep import MultistepSolver
from gftzoo_diffusion.samplers.respaced import solver_route
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.model import Model
from gftzoo.zoo import list_models

SAMPLERS: list[dict[str, Any]] = [
    {"sampler": "ddpm", "steps": 6},
    {"sampler": "ddpm", "steps": 6, "variance": "fixed-small"},
    {"sampler": "ddpm", "spacing": "3,2", "clip": True},
    {"sampler": "ddim", "spacing": "ddim5"},
    {"sampler": "ddim", "steps": 6, "eta": 1.0},
    {"sampler": "dpm-solver++", "steps": 6},
    {"sampler": "dpm-solver++", "steps": 6, "timestep_offset": 1},
]


def random_model(*, temperature: bool, **network: Any) -> Model:
    """The nano model, its zero-initialised layers random too."""
    (card,) = list_models("dit-nano")
    torch.manual_seed(0)
    model = Model.fresh(card.change(temperature=temperature, network={**card.network, "depth": 2, **network}))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def plain() -> Model:
    return random_model(temperature=False)


@pytest.fixture(scope="module")
def steered() -> Model:
    return random_model(temperature=True)


def near(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("settings", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(settings: dict[str, Any], plain: Model, steered: Model) -> None:
    cases: list[tuple[Model, Guidance]] = [
        (plain, Unguided()),
        (plain, ClassifierFree(2.0, "linear")),
        (steered, Temperature(0.5)),
    ]
    for model, guidance in cases:
        together = model.sample_latents([1, 2, 3], guidance, [10, 11, 12], **settings)
        alone = torch.cat([model.sample_latents([i + 1], guidance, [i + 10], **settings) for i in range(3)])
        assert torch.isfinite(together).all()
        assert near(alone, together)
        assert not near(together[:1], together[1:2])


@pytest.mark.parametrize("settings", SAMPLERS)
def test_guidance_of_scale_one_is_off(settings: dict[str, Any], plain: Model) -> None:
    unguided = plain.sample_latents([1, 2], Unguided(), [0, 1], **settings)
    assert near(plain.sample_latents([1, 2], ClassifierFree(1.0), [0, 1], **settings), unguided)
    assert not near(plain.sample_latents([1, 2], ClassifierFree(3.0), [0, 1], **settings), unguided)


def test_guidance_of_scale_zero_forgets_the_class(plain: Model) -> None:
    first, second = (plain.sample_latents([c], ClassifierFree(0.0), [0], sampler="ddim", steps=6) for c in (1, 2))
    assert near(first, second)


def test_temperature_steers(steered: Model) -> None:
    warm, cold = (steered.sample_latents([1], Temperature(beta), [0], steps=6) for beta in (1.0, 0.3))
    assert not near(warm, cold)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_step_noise_comes_with_ddpm_and_eta(sampler: str, plain: Model) -> None:
    """DDIM with eta 1 takes DDPM's step: same noise, the posterior's variance."""
    ddpm = plain.sample_latents([1, 2], Unguided(), [3, 4], sampler="ddpm", steps=8, variance="fixed-small")
    ddim = plain.sample_latents([1, 2], Unguided(), [3, 4], sampler="ddim", steps=8, eta=1.0)
    assert near(ddpm, ddim)
    assert not near(plain.sample_latents([1, 2], Unguided(), [3, 4], sampler="ddim", steps=8), ddim)


def test_variance_channels_are_not_used_after_guidance_free_training(steered: Model) -> None:
    """They are never trained there, so that what they hold must not matter."""
    before = steered.sample_latents([1], Temperature(0.5), [0], sampler="ddpm", steps=6)
    bias = steered.network.final_layer.linear.bias
    saved = bias.detach().clone()
    with torch.no_grad():
        bias.view(-1, 2)[:, 1] += 5  # one latent channel, so every second output is a variance
    try:
        assert torch.equal(steered.sample_latents([1], Temperature(0.5), [0], sampler="ddpm", steps=6), before)
        learned = steered.sample_latents([1], Temperature(0.5), [0], sampler="ddpm", steps=6, variance="learned")
        assert not near(learned, before)
    finally:
        with torch.no_grad():
            bias.copy_(saved)


def test_no_gradient_reaches_the_variance_channels(steered: Model) -> None:
    steered.network.zero_grad()
    steered.loss(torch.randn(8, 1, 8, 8), [0, 1, 2, 3, 4, 5, 6, 7], objective="gft").backward()
    gradient = steered.network.final_layer.linear.weight.grad.view(-1, 2, steered.network.x_embedder.proj.out_channels)
    assert gradient[:, 0].abs().sum() > 0
    assert gradient[:, 1].abs().sum() == 0


def test_official_timesteps_of_the_solver() -> None:
    route = solver_route(PROCESSES["linear"], DiffusionSampler(steps=50, timestep_offset=1))
    steps, network = zip(*route.steps, strict=True)
    assert steps[:2] == (999, 979)
    assert steps[-3:] == (60, 40, 20)
    assert network == tuple(step + 1 for step in steps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing": "6,3,1"}, "spacing.*dpm-solver.*ddpm or ddim"),
        ({"sampler": "ddim", "variance": "learned"}, "variance.*sampler=ddpm"),
        ({"sampler": "ddpm", "timestep_offset": 1}, "timestep_offset.*dpm-solver"),
        ({"sampler": "ddpm", "spacing": "ten"}, "spacing.*50, 6,3,1 or ddim50"),
        ({"sampler": "ddim", "spacing": "ddim999"}, "no integer stride gives 999"),
        ({"sampler": "leapfrog"}, "'leapfrog'.*ddpm"),
        ({"sampler": "euler"}, "euler.*'linear'.*ddpm"),
        ({"step": 5}, "'step'.*steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str, plain: Model) -> None:
    with pytest.raises(UsageError, match=message):
        plain.sample_latents([1], Unguided(), [0], **settings)


def test_variance_needs_its_channels() -> None:
    model = random_model(temperature=False, learn_sigma=False)
    with pytest.raises(UsageError, match="no variance channels"):
        model.sample_latents([1], Unguided(), [0], sampler="ddpm", steps=4, variance="learned")
    assert torch.isfinite(model.sample_latents([1], Unguided(), [0], sampler="ddpm", steps=4)).all()


def test_numbers_are_spacings_too(plain: Model) -> None:
    number, text = (plain.sample_latents([1], Unguided(), [0], sampler="ddim", spacing=s) for s in (5, "5"))
    assert torch.equal(number, text)


@pytest.mark.parametrize("name", ["linear", "scaled-linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_solver_is_that_of_diffusers_to_the_bit(name: str, steps: int) -> None:
    process = PROCESSES[name].scheduler
    theirs, ours = DPMSolverMultistepScheduler(**process), MultistepSolver(process, steps)
    theirs.set_timesteps(steps)
    assert ours.timesteps == theirs.timesteps.tolist()
    x = y = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(steps))
    for t in ours.timesteps:
        x, y = theirs.step(0.3 * x.cos(), t, x).prev_sample, ours.step(0.3 * y.cos(), t, y).prev_sample
    assert torch.equal(x, y)
