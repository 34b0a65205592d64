"""Scoring a model that is asked with captions: which ones, and what a classifier can say about the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_model import SIDE, toy_model

from gftzoo.catalogue.cards import ModelCard
from gftzoo.data import Split, sources
from gftzoo.data.arrays import ArraySource
from gftzoo.evaluate import choose_protocol, embedded
from gftzoo.evaluate.drawing import conditions_for, labels_for
from gftzoo.evaluate.references import open_reference


def named_greys(split: Split) -> ArraySource:
    """Six grey pictures with a name each, in two groups; every third one is held out."""
    rows = [row for row in range(6) if (row % 3 == 2) == (split == "held-out")]
    pixels = np.stack([np.full((SIDE, SIDE), 40 * row, np.uint8) for row in rows])
    names = [f"grey {row}" for row in rows]
    source = ArraySource("greys", pixels, names, ("dark", "light"), groups=[row // 3 for row in rows])
    source.named = True
    return source


def described(_: str, split: Split) -> ArraySource:
    return ArraySource("photos", np.zeros((3, SIDE, SIDE), np.uint8), [f"{split} {row}" for row in range(3)])


@pytest.fixture(autouse=True)
def captions(monkeypatch: pytest.MonkeyPatch) -> None:
    known, find = {"greys": lambda _, split: named_greys(split), "photos": described}, sources._find
    monkeypatch.setattr(sources, "_find", lambda kind: known.get(kind) or find(kind))


def text_card(data: str) -> ModelCard:
    return toy_model()[0].card.change(condition="text", classes=0, data=data)


def test_names_are_those_of_training_and_their_groups_are_the_classes() -> None:
    card = text_card("greys")
    prompts, plan = conditions_for(card, 6, "data:greys")
    assert prompts == ["grey 0", "grey 1", "grey 3", "grey 4", "grey 0", "grey 1"]
    assert labels_for(card, 6, "data:greys") == [0, 0, 1, 1, 0, 0]
    assert plan == "captions of data:greys, in turn"


def test_of_more_captions_than_are_wanted_spread_ones_are_taken() -> None:
    assert conditions_for(text_card("greys"), 2, "data:greys")[0] == ["grey 0", "grey 3"]


def test_captions_that_describe_are_the_held_out_ones_and_have_no_class() -> None:
    card = text_card("photos")
    assert choose_protocol("embedded", card).features == "efflite0"
    assert conditions_for(card, 3, "data:photos")[0] == ["held-out 0", "held-out 1", "held-out 2"]
    assert labels_for(card, 3, "data:photos") is None


def test_a_classifier_learns_the_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(embedded, "FEWEST_STEPS", 60)
    protocol = choose_protocol("embedded", text_card("greys"))
    assert (protocol.features, protocol.reference) == ("embedded:greys", "data:greys")
    network = embedded.embedded_classifier("greys")
    source = named_greys("train")
    labels = torch.tensor([source.class_of(row) for row in range(4)])
    assert torch.equal(network(source.images(range(4), SIDE, 3)).logits_BK.argmax(1), labels)
    reference = open_reference(protocol.reference, network, SIDE)
    assert reference.name == "greys train (4 images)" and reference.summary.accuracy == 1
    other = open_reference(protocol.reference, network, SIDE, split="held-out")
    assert other.name == "greys held-out (2 images)"
