"""What a visitor of the demo may ask for, and what is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nano import nano_model
from PIL import ImageChops

from gftzoo.demo.drawing import Limits, Shown, Wish, compare_with_cfg, draw, label, wanted
from gftzoo.errors import UsageError

LIMITS = Limits(images=6, steps=20)


@pytest.fixture(scope="module")
def steered() -> Shown:
    return Shown("a", nano_model("dit-nano", temperature=True))


@pytest.fixture(scope="module")
def plain() -> Shown:
    return Shown("b", nano_model("dit-nano", temperature=False))


def test_the_same_seeds_are_drawn_at_every_temperature(steered: Shown) -> None:
    wish = Wish((1, 2, 3), 0.5, seed=4, steps=3)
    first = draw(steered, wish, LIMITS)
    assert (first.images, first.passes) == (3, 1) and first.seconds > 0
    assert first.sheet.tobytes() == draw(steered, wish, LIMITS).sheet.tobytes()
    for other in (replace(wish, strength=0.9), replace(wish, seed=5), replace(wish, sampler="ddim")):
        assert ImageChops.difference(first.sheet, draw(steered, other, LIMITS).sheet).getbbox()
    own, cfg = compare_with_cfg(steered, wish, LIMITS)
    assert (own.passes, cfg.passes) == (1, 2) and own.sheet.tobytes() == first.sheet.tobytes()


def test_a_plain_model_is_steered_by_cfg(plain: Shown) -> None:
    assert not plain.steered and draw(plain, Wish((1,), 2.0, steps=2), LIMITS).passes == 2
    assert label(plain, 2.0) == "CFG 2" and label(plain, 1.0) == "unguided"


def test_a_baked_model_is_not_steered(steered: Shown) -> None:
    baked = Shown("c", steered.model.bake(0.5))
    assert baked.fixed and label(baked, 3.0) == "beta 0.5 folded in"
    assert draw(baked, Wish((1,), 3.0, steps=2), LIMITS).passes == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conditions": ()}, "0 images"),
        ({"conditions": (1,) * 7}, "7 images"),
        ({"steps": 21}, "21 steps"),
        ({"steps": 0}, "0 steps"),
        ({"seed": -1}, "seed -1"),
        ({"strength": 0.0}, "beta must lie"),
        ({"sampler": "no-such"}, "no sampler 'no-such'"),
    ],
)
def test_what_is_past_the_limits_is_refused(steered: Shown, change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        draw(steered, replace(Wish((1,), 0.5, steps=2), **change), LIMITS)


def test_conditions_come_in_turn(steered: Shown) -> None:
    assert wanted(steered, [], "", 12) == (*range(10), 0, 1)
    assert wanted(steered, [steered.classes[7], steered.classes[3]], "", 3) == (7, 3, 7)
    with pytest.raises(UsageError, match="no class"):
        wanted(steered, ["eleven"], "", 3)


def test_prompts_are_the_lines_of_a_text() -> None:
    shown = Shown("d", nano_model("sd-nano", temperature=True))
    assert shown.classes == [] and wanted(shown, [], " a cat \n\na fox", 3) == ("a cat", "a fox", "a cat")
    for text, said in {"": "write a prompt", "x" * 501: "at most 500"}.items():
        with pytest.raises(UsageError, match=said):
            wanted(shown, [], text, 3)


def test_only_models_of_the_same_conditions_stand_side_by_side(steered: Shown, plain: Shown) -> None:
    other = replace(plain.model, card=plain.model.card.change(class_names=tuple("abcdefghij")))
    assert steered.alike(plain) and not steered.alike(Shown("e", other))
