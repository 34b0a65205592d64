"""The Python API: arguments of another kind are one sentence, and a model says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nano import nano_model

import gftzoo
from gftzoo import engine
from gftzoo.errors import GftzooError
from gftzoo.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return nano_model("dit-nano", temperature=True)


LATENTS = torch.zeros(1, 1, 8, 8)
WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *[("sample", (conditions,), {}) for conditions in ("three", 3, [], [3.0], [None], [True], {3}, {3: 3}, b"a")],
    *[("sample", ([3],), {"beta": beta}) for beta in ("0.5", True, [0.5], 1j)],
    *[("sample", ([3],), {"seed": seed}) for seed in (1.5, "a", None, True)],
    *[("sample", ([3],), {"batch_size": size}) for size in (0, -1, "x", 2.0)],
    ("sample", ([3],), {"schedule": "cubic"}),
    ("sample", ([3],), {"cfg": "2"}),
    ("to", ("foo",), {}),
    ("sample", ([3],), {"as_pil": "no"}),
    ("to", (3.5,), {}),
    ("to", ("cpu", "fp8"), {}),
    ("compile", (3,), {}),
    ("encode_condition", (None,), {}),
    ("sample_latents", ([3], "beta", [0]), {}),
    ("decode", ([1],), {}),
    ("decode", (torch.zeros(3),), {}),
    ("loss", ([1], [3]), {}),
    ("loss", (torch.zeros(1, 3), [3]), {}),
    ("loss", (torch.zeros(2, 1, 8, 8), [3]), {}),
    ("loss", (torch.zeros(1, 3, 8, 8), [3]), {}),
    ("loss", (LATENTS.long(), [3]), {}),
    ("loss", (LATENTS, torch.zeros(1)), {}),
    ("loss", (LATENTS, [3]), {"objective": 3}),
    ("loss", (LATENTS, [3]), {"seed": "a"}),
    ("bake", ("a",), {}),
    ("save", (3,), {}),
]


@pytest.mark.parametrize(("method", "given", "named"), WRONG, ids=repr)
def test_an_argument_of_another_kind_is_one_sentence(method: str, given: Any, named: Any, model: Model) -> None:
    with pytest.raises(GftzooError) as caught:
        getattr(model, method)(*given, **named)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_each_latent_that_is_drawn_has_a_seed(model: Model) -> None:
    with pytest.raises(GftzooError, match="2 conditions and 1 seeds"):
        model.sample_latents([3, 4], model.guidance(beta=0.5), [0])


@pytest.mark.parametrize(
    ("function", "given", "named"),
    [
        (gftzoo.load, (3,), {}),
        (gftzoo.load, (None,), {}),
        (gftzoo.load, ("dit-nano",), {"entry": "x"}),
        (gftzoo.load, ("dit-nano",), {"weights": 3}),
        (gftzoo.load, ("dit-nano",), {"tokenizer_path": 3}),
        (gftzoo.get_card, (3,), {}),
        (gftzoo.list_models, (3,), {}),
        (engine.resolve, (3,), {}),
        *[(engine.resolve, ("dit-nano",), {name: 3}) for name in ("data", "objective", "recipe", "weights", "options")],
        (engine.resolve, ("dit-nano",), {"options": {3: 3}}),
        (engine.resolve, ("dit-nano",), {"steps": 1.5}),
        (engine.train, (None, Path("nowhere")), {}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value),
)
def test_so_it_is_of_functions(function: Any, given: Any, named: Any) -> None:
    with pytest.raises(GftzooError):
        function(*given, **named)


@pytest.mark.parametrize(
    "same", [np.array([3, 7]), torch.tensor([3, 7]), (3, np.int64(7)), ["three", "seven"], range(3, 8, 4)], ids=repr
)
def test_conditions_and_numbers_may_come_from_arrays(same: Any, model: Model) -> None:
    named = Model(model.card.change(class_names=NAMES), model.network, model.tokenizer, model.family)
    expected = named.sample([3, 7], beta=0.5, seed=4, steps=2)
    drawn = named.sample(same, beta=np.float32(0.5), seed=torch.tensor(4), steps=2)
    assert torch.equal(drawn, expected)


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_images_as_pillow_has_them_are_the_same(model: Model) -> None:
    images = model.sample([1, 2], beta=0.5, steps=2)
    for image, pil in zip(images, model.sample([1, 2], beta=0.5, steps=2, as_pil=True), strict=True):
        assert np.array_equal(np.asarray(pil), (image * 255).round().byte().permute(1, 2, 0).numpy())


def test_a_model_says_what_it_is_in_two_lines(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    first, second = repr(gftzoo.load(tmp_path / "saved")).split("\n")
    assert first.startswith("Model dit-nano: 759,752 parameters, 8 px, 10 classes, steered by beta, on cpu")
    assert second.strip().startswith("raw weights, folder saved")
