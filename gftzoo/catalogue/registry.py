"""The files that cards are read from: the zoo's own `registry.yaml` and those of plugins. No torch here.

The zoo's own is kept as JSON, too, which is read in a tenth of the time: `tools/shipped_registry.py --write` makes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gftzoo.catalogue.cards import (
    Registry,
    validation_sentence,
)
from gftzoo.documents import DocumentError, parse_yaml, read_text, read_yaml
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

SHIPPED = Path(__file__).with_name("registry.json")


def read_registry(path: Path, known: Registry | None = None, read: Callable[[Path], Any] = read_yaml) -> Registry:
    """A registry file, validated; tokenizer names resolve within the file, then in `known`.

    Raises GftzooError that names the file and the first fault.
    """
    try:
        raw = read(path) or {}
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
    return read_registry(zoo_file(), read=_read_shipped)


def zoo_file() -> Path:
    """The zoo's own `registry.yaml`."""
    here = Path(__file__).parent.parent
    inside = here / "registry.yaml"
    return inside if inside.is_file() else here.parent / "registry.yaml"


def _read_shipped(path: Path) -> Any:
    """What the file holds, from the JSON that was made of it where that was made of this very text."""
    text = read_text(path)
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or not as we write it
        kept = json.loads(SHIPPED.read_bytes())
        if kept["of"] == text_stamp(text):
            return kept["registry"]
    return parse_yaml(text, repr(str(path)))


def text_stamp(text: str) -> str:
    """Changes with every change of a registry's text."""
    return hashlib.sha256(text.encode()).hexdigest()
