"""The catalogue: model cards read from `registry.yaml`, looked up by name, pattern or family. No torch here."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gftzoo.cards import (
    Checkpoint,
    FamilyEntry,
    Frozen,
    LearningRate,
    ModelCard,
    Options,
    Recipe,
    Registry,
    Schedule,
    Score,
    TokenizerSpec,
    validation_sentence,
)
from gftzoo.documents import DocumentError, read_yaml
from gftzoo.errors import GftzooError, UsageError, nearest
from gftzoo.printing import plain

__all__ = [
    "Checkpoint",
    "FamilyEntry",
    "Frozen",
    "LearningRate",
    "ModelCard",
    "Options",
    "Recipe",
    "Registry",
    "Schedule",
    "Score",
    "TokenizerSpec",
    "catalogue",
    "get_card",
    "get_tokenizer_spec",
    "list_models",
    "natural_key",
    "read_registry",
    "validation_sentence",
    "zoo_registry",
]


def read_registry(path: Path, known: Registry | None = None) -> Registry:
    """A registry file, validated; tokenizer names resolve within the file, then in `known`.

    Raises GftzooError that names the file and the first fault.
    """
    try:
        raw = read_yaml(path) or {}
        if not isinstance(raw, dict):
            raise ValueError("the top level must be a mapping with families, tokenizers and models")
        tokenizers = {k: {"id": k, **v} for k, v in (raw.get("tokenizers") or {}).items()}
        specs = {**(known.tokenizers if known else {}), **tokenizers}
        models = {k: _resolve(k, v, specs) for k, v in (raw.get("models") or {}).items()}
        return Registry.model_validate({**raw, "tokenizers": tokenizers, "models": models})
    except ValidationError as error:
        raise GftzooError(validation_sentence(str(path), error)) from error
    except DocumentError as error:
        raise GftzooError(f"{path} is not a valid registry: {error.cause}.") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise GftzooError(f"{path} is not a valid registry: {plain(error).rstrip('.')}.") from error


def _resolve(name: str, card: Any, tokenizers: Mapping[str, Any]) -> dict[str, Any]:
    tokenizer = card.get("tokenizer")
    if isinstance(tokenizer, str):
        if tokenizer not in tokenizers:
            raise ValueError(f"model {name!r} names an unknown tokenizer {tokenizer!r}")
        tokenizer = tokenizers[tokenizer]
    return {"name": name, **card, "tokenizer": tokenizer}


@cache
def zoo_registry() -> Registry:
    """The zoo's own catalogue, from the wheel or, in a checkout, from the repository root."""
    here = Path(__file__).parent
    inside = here / "registry.yaml"
    return read_registry(inside if inside.is_file() else here.parent / "registry.yaml")


def natural_key(name: str) -> list[Any]:
    """Sorts dit-s-2 before dit-s-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@cache
def catalogue() -> Registry:
    """The zoo's catalogue and those that installed plugins ship; a broken one is left out (see `gftzoo plugins`)."""
    from gftzoo.plugins import plugin_registries

    merged = zoo_registry()
    for registry in plugin_registries():
        merged = Registry(
            families={**registry.families, **merged.families},
            tokenizers={**registry.tokenizers, **merged.tokenizers},
            models={**registry.models, **merged.models},
        )
    return merged


def list_models(pattern: str = "*", family: str | None = None) -> list[ModelCard]:
    """The cards whose name matches the shell pattern, in natural order; UsageError for a family of no model."""
    cards = catalogue().models
    families = sorted({card.family for card in cards.values()})
    if family is not None and family not in families:
        raise UsageError(f"unknown family {family!r}{nearest(family, families)}; valid are {', '.join(families)}.")
    names = sorted(fnmatch.filter(cards, pattern), key=natural_key)
    return [cards[name] for name in names if family in (None, cards[name].family)]


def get_card(name: str) -> ModelCard:
    """The card of a model; UsageError with the nearest name if there is none."""
    cards = catalogue().models
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
