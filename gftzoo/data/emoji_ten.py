"""`emoji-ten`: ten kinds of emoji, 32x32 in colour, embedded. Attribution: emoji_ten.md beside this file."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from gftzoo.data.arrays import ArraySource, stratified
from gftzoo.data.sources import Opener, Source, Split

SIDE = 32
KINDS = ("face", "cat", "bear", "bird", "fish", "flower", "fruit", "car", "book", "heart")


def open_emoji_ten(_: str, split: Split) -> Source:
    """Six pictures of each kind, nine hearts, on white."""
    with files("gftzoo.data").joinpath("emoji_ten.npz").open("rb") as file, np.load(file) as data:
        pixels, labels = data["images"], data["labels"].astype(np.int64)
    rows = stratified(labels, split)
    return ArraySource("emoji-ten", pixels[rows], labels[rows].tolist(), KINDS)


EMOJI_TEN = Opener(open_emoji_ten)
