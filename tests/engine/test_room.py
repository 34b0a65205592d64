"""How many images are drawn at once where nobody says."""

from __future__ import annotations

import pytest
from nano import nano_model

from gftzoo.engine.run import room
from gftzoo.engine.run.estimate import available_bytes


def test_as_many_images_as_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nano_model("dit-nano", temperature=True)
    assert room.images_at_once(model) == 64  # small enough anywhere
    monkeypatch.setattr(room, "SMALL", (0, 0))
    one = room.network_bytes(model)
    assert 16 * 96 * 4 < one < 2**20  # more than its tokens, less than a megabyte
    for images, chosen in ((1000, 64), (17, 16), (2, 2), (0.1, 1)):
        monkeypatch.setattr(room, "available_bytes", lambda _, n=images: 2 * one * n / room.SHARE)
        assert room.images_at_once(model, passes=2) == chosen
    monkeypatch.setattr(room, "available_bytes", available_bytes)
    assert room.images_at_once(model) == 64


def test_what_a_decoder_needs_counts_too() -> None:
    model = nano_model("var-nano", temperature=True)
    side, needed = model.card.resolution, room.decoder_bytes(model)
    assert needed > side * side * 4
    model.tokenizer = None
    assert room.decoder_bytes(model) == 0
    assert not any(parameter.is_meta for parameter in model.network.parameters())
