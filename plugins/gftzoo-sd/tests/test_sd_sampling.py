"""What the sampler must hold whatever the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gftzoo_sd.sampler import build_scheduler
from sd_tiny import PROMPTS, near

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import UsageError
from gftzoo.model import Model

SAMPLERS: list[dict[str, Any]] = [
    {"sampler": "dpm-solver++", "steps": 5},
    {"sampler": "ddim", "steps": 5},
    {"sampler": "ddim", "steps": 5, "eta": 1.0},
    {"sampler": "pndm", "steps": 5},
]


@pytest.mark.parametrize("settings", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(settings: dict[str, Any], plain: Model, steered: Model) -> None:
    cases: list[tuple[Model, Guidance]] = [(plain, ClassifierFree(2.0)), (steered, Temperature(0.5))]
    for model, guidance in cases:
        together = model.sample_latents(PROMPTS, guidance, [10, 11, 12], **settings)
        alone = [model.sample_latents([p], guidance, [10 + i], **settings) for i, p in enumerate(PROMPTS)]
        assert together.isfinite().all()
        assert near(torch.cat(alone), together, 1e-4)
        assert not near(together[:1], together[1:2], 1e-2)


@pytest.mark.parametrize("settings", SAMPLERS)
def test_guidance_of_scale_one_is_off(settings: dict[str, Any], plain: Model) -> None:
    unguided = plain.sample_latents(PROMPTS, Unguided(), [0, 1, 2], **settings)
    assert near(plain.sample_latents(PROMPTS, ClassifierFree(1.0), [0, 1, 2], **settings), unguided, 1e-4)
    assert not near(plain.sample_latents(PROMPTS, ClassifierFree(4.0), [0, 1, 2], **settings), unguided, 1e-3)


def test_temperature_steers(steered: Model) -> None:
    warm, cold = (steered.sample_latents(PROMPTS[:1], Temperature(beta), [0], steps=5) for beta in (1.0, 0.3))
    assert not near(warm, cold, 1e-3)


def test_negative_prompt_takes_the_place_of_the_empty_one(plain: Model) -> None:
    def draw(scale: float, **settings: Any) -> torch.Tensor:
        return plain.sample_latents(PROMPTS[:2], ClassifierFree(scale), [0, 1], steps=5, **settings)

    assert not near(draw(3.0, negative_prompt="tiger face"), draw(3.0), 1e-3)
    # away from the prompt itself, CFG cancels out
    same = plain.sample_latents(PROMPTS[:1], ClassifierFree(7.0), [0], steps=5, negative_prompt=PROMPTS[0])
    assert near(same, plain.sample_latents(PROMPTS[:1], Unguided(), [0], steps=5), 1e-3)


def test_negative_prompt_needs_cfg(plain: Model, steered: Model) -> None:
    for model, guidance in ((plain, Unguided()), (steered, Temperature(0.5))):
        with pytest.raises(UsageError, match=r"'blur'.*only CFG"):
            model.sample_latents(PROMPTS, guidance, [0, 1, 2], negative_prompt="blur")


def test_timesteps_of_the_evaluation() -> None:
    scheduler = build_scheduler("dpm-solver++")
    scheduler.set_timesteps(50)
    steps = scheduler.timesteps.tolist()
    assert (len(steps), steps[:2], steps[24:28], steps[-1]) == (50, [999, 979], [519, 500, 480, 460], 20)
    assert abs(float(scheduler.alphas_cumprod[0]) - 0.9991) < 1e-4
    assert abs(float(scheduler.alphas_cumprod[-1]) - 0.0047) < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 0.5}, "dpm-solver.*sampler=ddim"),
        ({"sampler": "euler"}, "'euler'.*ddim"),
        ({"step": 5}, "'step'.*steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str, plain: Model) -> None:
    with pytest.raises(UsageError, match=message):
        plain.sample_latents(PROMPTS, Unguided(), [0, 1, 2], **settings)
