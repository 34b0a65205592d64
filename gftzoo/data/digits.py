"""`digits`: 1,797 real handwritten digits, 8x8 grey, embedded. Attribution: digits.md beside this file."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from gftzoo.data.arrays import ArraySource, stratified
from gftzoo.data.sources import Opener, Source, Split

LEVELS = 16  # the original values are 0..16


def open_digits(_: str, split: Split) -> Source:
    """The digits, values 0..16 spread over 0..255."""
    with files("gftzoo.data").joinpath("digits.npz").open("rb") as file, np.load(file) as data:
        values, labels = data["images"], data["labels"].astype(np.int64)
    pixels = np.round(values.astype(np.float32) * (255 / LEVELS)).astype(np.uint8)
    rows = stratified(labels, split)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return ArraySource("digits", pixels[rows], labels[rows].tolist(), names, mirrorable=False)


DIGITS = Opener(open_digits)
