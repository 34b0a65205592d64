"""What `gftzoo info` says of the zoo's own cards without torch: gftzoo/cli/facts.json.

python tools/shipped_facts.py          # which cards, or what of their families, it no longer describes
python tools/shipped_facts.py --write  # finds these out anew; with --all every card, after a change of a network
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch
from pydantic import BaseModel

from gftzoo.catalogue.cards import ModelCard
from gftzoo.catalogue.registry import zoo_registry
from gftzoo.cli.family_facts import fields_of, training_step
from gftzoo.cli.shipped import FACTS, stamp
from gftzoo.errors import GftzooError
from gftzoo.families.finding import load_family
from gftzoo.plugins.discovery import FAMILIES, active


def kept() -> dict[str, Any]:
    """The file as it is."""
    if not FACTS.is_file():
        return {"schemas": {}, "models": {}}
    found: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    return found


def schemas_of(card: ModelCard) -> dict[str, type[BaseModel]]:
    """The option schemas of a card: of its sampler and of its network."""
    options = load_family(card.family).options()
    return {"sampler": options.sampler, "network": type(card.network_options(options.network))}


def name_of(schema: type[BaseModel]) -> str:
    """What the file calls a schema."""
    return f"{schema.__module__}.{schema.__qualname__}"


def cheap(card: ModelCard) -> dict[str, Any]:
    """What is said of a card without tracing its network."""
    exports = ["safetensors", "official", "adapter", *load_family(card.family).options().exports]
    names = {of: name_of(schema) for of, schema in schemas_of(card).items()}
    return {"of": stamp(card), **names, "exports": exports}


def stale(cards: list[ModelCard]) -> list[str]:
    """The cards that the file describes otherwise than they are; those that it leaves out are traced when asked for."""
    models = kept()["models"]
    return [c.name for c in cards if c.name in models and {**models[c.name], **cheap(c)} != models[c.name]]


def installed() -> list[ModelCard]:
    """The zoo's own cards whose family is here, by name."""
    here = {plugin.name for plugin in active(FAMILIES)}
    return [card for _, card in sorted(zoo_registry().models.items()) if card.family in here]


def schemas(cards: list[ModelCard]) -> dict[str, Any]:
    """Every schema of the cards that the file describes, by name."""
    models = kept()["models"]
    found = {name_of(schema): schema for card in cards if card.name in models for schema in schemas_of(card).values()}
    return {name: fields_of(found[name]) for name in sorted(found)}


def write(cards: list[ModelCard], names: list[str]) -> None:
    """Describes these cards anew, and leaves the numbers of the others as they are."""
    models = kept()["models"]
    for card in cards:
        if card.name in names:
            try:
                models[card.name] = cheap(card) | {"training_step": training_step(card, load_family(card.family))}
            except GftzooError as error:  # what describes its network lies on a hub that is not there
                print(f"left out: {error}", file=sys.stderr)
                continue
            print(card.name, models[card.name]["training_step"], flush=True)
            save(cards, models)  # as it comes: the largest take minutes
    save(cards, models)


def save(cards: list[ModelCard], models: dict[str, Any]) -> None:
    """Writes the file, a line for each schema and card."""
    lines = [f"  {json.dumps(card.name)}: {json.dumps(models[card.name])}" for card in cards if card.name in models]
    found = {name_of(schema): schema for c in cards if c.name in models for schema in schemas_of(c).values()}
    options = [f"  {json.dumps(name)}: {json.dumps(fields_of(found[name]))}" for name in sorted(found)]
    text = '{"schemas": {\n' + ",\n".join(options) + '\n}, "models": {\n' + ",\n".join(lines) + "\n}}\n"
    FACTS.write_text(text, encoding="utf-8")


def read_arguments(description: str | None) -> argparse.Namespace:
    """What is to be written; on one thread."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--all", action="store_true", help="every card, not only those that have changed")
    torch.set_num_threads(1)
    return parser.parse_args()


def main() -> int:
    arguments = read_arguments(__doc__)
    cards, described = installed(), kept()["models"]
    names = stale(cards)
    if arguments.write:
        write(cards, [c.name for c in cards if arguments.all or c.name in names or c.name not in described])
        return 0
    other = schemas(cards) != kept()["schemas"]
    print(f"not as they are: {', '.join(names) or 'none'}{'; options have changed' if other else ''}")
    return int(bool(names) or other)


if __name__ == "__main__":
    sys.exit(main())
