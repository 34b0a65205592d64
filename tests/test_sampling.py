"""Sampling through the model; test_conformance.py has the identities that every family's sampler keeps."""

from __future__ import annotations

import inspect

import pytest
import torch
from nano import nano_conditions, nano_model

from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.zoo import catalogue


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    """Equal up to the rounding of other batch sizes; a flipped token or a fresh draw is far outside."""
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


def test_images_are_in_range_and_follow_the_seed() -> None:
    model = nano_model("dit-nano", temperature=True)
    conditions = nano_conditions(model, 3)
    images = model.sample(conditions, beta=0.6)
    side = model.card.resolution
    assert images.shape == (3, 3, side, side) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, model.sample(conditions, beta=0.6))
    assert not torch.equal(images, model.sample(conditions, beta=0.6, seed=1))


def test_an_image_does_not_depend_on_the_batch_size() -> None:
    model = nano_model("dit-nano", temperature=True)
    conditions = nano_conditions(model, 4)
    whole = model.sample(conditions, beta=0.5)
    close(model.sample(conditions, beta=0.5, batch_size=1), whole)
    close(model.sample(conditions, beta=0.5, batch_size=3), whole)


def test_sampling_leaves_the_training_mode_alone() -> None:
    model = nano_model("dit-nano", temperature=True)
    model.network.train()
    model.sample(nano_conditions(model, 1), beta=0.5)
    assert model.network.training


def test_gft_models_refuse_cfg_and_plain_ones_beta() -> None:
    with pytest.raises(UsageError, match=r"not by CFG; for a CFG scale of 2 use --beta 0.5"):
        nano_model("dit-nano", temperature=True).sample([0], cfg=2.0)
    with pytest.raises(UsageError, match=r"use --cfg 2, or train it with `gftzoo train dit-nano --gft`"):
        nano_model("dit-nano", temperature=False).sample([0], beta=0.5)


def test_an_unknown_setting_or_class_is_one_sentence() -> None:
    model = nano_model("dit-nano", temperature=True)
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        model.sample([0], step=3)
    with pytest.raises(UsageError, match="no class 10; valid are 0 to 9"):
        model.sample([10])


@pytest.mark.parametrize("family", catalogue().families)
def test_every_setting_of_a_sampler_can_be_given(family: str) -> None:
    """None has the name of an argument that `sample` keeps for itself."""
    own = inspect.signature(Model.sample).parameters
    assert not own.keys() & load_family(family).options().sampler.model_fields.keys()
