"""The models there are, the zoo's own and those of installed plugins, looked up by name, pattern or family.

No torch here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from gftzoo.arguments import text
from gftzoo.catalogue.cards import (
    ModelCard,
    Registry,
    TokenizerSpec,
)
from gftzoo.catalogue.registry import read_registry, zoo_registry
from gftzoo.errors import GftzooError, UsageError, nearest
from gftzoo.plugins.discovery import CARDS, FAMILIES, active
from gftzoo.plugins.guard import attempt
from gftzoo.plugins.loading import load_object


def plugin_registries() -> Iterator[Registry]:
    """The valid catalogues that active plugins ship."""

    for plugin in active(FAMILIES):
        path = plugin.registry_path
        if path is not None:
            try:
                yield attempt(partial(read_registry, path, zoo_registry()))
            except GftzooError:
                continue  # named, with its reason, by `gftzoo plugins`


@cache
def catalogue() -> Registry:
    """The zoo's catalogue and those that installed plugins ship; a broken one is left out (see `gftzoo plugins`)."""

    merged = zoo_registry()
    for registry in plugin_registries():
        merged = Registry(
            families={**registry.families, **merged.families},
            tokenizers={**registry.tokenizers, **merged.tokenizers},
            models={**registry.models, **merged.models},
        )
    return merged


def natural_key(name: str) -> list[Any]:
    """Sorts dit-s-2 before dit-s-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def list_models(pattern: str = "*", family: str | None = None) -> list[ModelCard]:
    """The cards whose name matches the shell pattern, in natural order; UsageError for a family of no model."""
    text("pattern", pattern)
    cards = catalogue().models
    families = sorted({card.family for card in cards.values()})
    if family is not None and family not in families:
        raise UsageError(f"unknown family {family!r}{nearest(family, families)}; valid are {', '.join(families)}.")
    names = sorted(fnmatch.filter(cards, pattern), key=natural_key)
    return [cards[name] for name in names if family in (None, cards[name].family)]


def get_card(name: str) -> ModelCard:
    """The card of a model, of the catalogue or made by a plugin; UsageError with the nearest name if there is none."""
    text("name of a model", name)
    cards = catalogue().models
    kind, colon, argument = name.partition(":")
    makers = [plugin for plugin in active(CARDS) if plugin.name == kind]
    if colon and makers:
        made: ModelCard = load_object(makers[0])(argument)
        return made
    if name not in cards and "/" in name:
        there = f"{name!r} is a path and" if Path(name).exists() else f"there is no run or folder {name!r}, which is"
        raise UsageError(f"{there} no model's name; `gftzoo list` shows the names of models.")
    if name not in cards:
        raise UsageError(f"unknown model {name!r}{nearest(name, cards)}; `gftzoo list` shows all {len(cards)}.")
    return cards[name]


def get_tokenizer_spec(name: str) -> TokenizerSpec:
    """The spec of a named tokenizer; UsageError with the nearest name if there is none."""
    specs = catalogue().tokenizers
    if name not in specs:
        raise UsageError(f"unknown tokenizer {name!r}{nearest(name, specs)}; valid are {', '.join(sorted(specs))}.")
    return specs[name]
