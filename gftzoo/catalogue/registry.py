"""The files that cards are read from: the zoo's own `registry.yaml` and those of plugins. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gftzoo.catalogue.cards import (
    Registry,
    validation_sentence,
)
from gftzoo.documents import DocumentError, read_yaml
from gftzoo.errors import GftzooError
from gftzoo.printing import plain


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
    here = Path(__file__).parent.parent
    inside = here / "registry.yaml"
    return read_registry(inside if inside.is_file() else here.parent / "registry.yaml")
