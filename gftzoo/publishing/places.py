"""What others are not told: where things lie on the machine that they come from."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from gftzoo.model import Model

# An absolute path, of either system, possibly behind the kind of a data source; https:// is none.
_PLACE = re.compile(r"^(?P<kind>[a-z][a-z-]*:(?!//))?(?:[A-Za-z]:)?[/\\]+(?:[^/\\]+[/\\]+)*(?P<last>[^/\\]*)")


def without_places(value: Any) -> Any:
    """The same data, of any shape, with the last part of each absolute path in place of all of it."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return _PLACE.sub(r"\g<kind>\g<last>", value) if isinstance(value, str) else value


def public(model: Model) -> Model:
    """The model with a card and a provenance that name no place of this machine."""
    card = type(model.card).model_validate(without_places(model.card.model_dump(mode="json")))
    return replace(model, card=card, provenance=without_places(model.provenance))
