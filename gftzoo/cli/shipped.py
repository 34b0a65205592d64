"""What `gftzoo info` says of the zoo's own cards, found out beforehand and kept in facts.json. No torch here.

`python tools/shipped_facts.py --write` makes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gftzoo.catalogue.cards import ModelCard
from gftzoo.documents import read_json
from gftzoo.plugins.discovery import FAMILIES, WRAPPERS, active

FACTS = Path(__file__).with_name("facts.json")
Fields = Mapping[str, Sequence[str]]  # of an option schema: the default as Python writes it, and the description


def shipped(card: ModelCard) -> dict[str, Any] | None:
    """What the family says of its card; None where the card, or what provides its family, is another than then.

    None too where a wrapper is installed, which may do anything at any call.
    """
    if any(active(WRAPPERS)) or not FACTS.is_file():
        return None
    kept = read_json(FACTS)
    found = kept["models"].get(card.name)
    if found is None or found["of"] != stamp(card):
        return None
    return {
        "sampler_options": spelt(kept["schemas"][found["sampler"]], card.sampler),
        "network_options": spelt(kept["schemas"][found["network"]], card.network),
        "exports": found["exports"],
        "training_step": found["training_step"],
    }


def stamp(card: ModelCard) -> str:
    """Changes with the card and with the version of the distribution that provides its family."""
    provided = [[plugin.distribution, plugin.version] for plugin in active(FAMILIES) if plugin.name == card.family]
    about = [provided, card.model_dump(mode="json", exclude_defaults=True)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def spelt(fields: Fields, own: Mapping[str, Any]) -> dict[str, str]:
    """Every option with its default, the card's if it has one, and its description."""
    return {
        name: f"{repr(own[name]) if name in own else default}  {description}".rstrip()
        for name, (default, description) in fields.items()
    }
