"""What `gftzoo info` does."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.table import Table

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.known import known
from gftzoo.cli.listing import provider, providers
from gftzoo.cli.shipped import shipped
from gftzoo.cli.tables import add_row, show, table
from gftzoo.printing import say_json
from gftzoo.zoo import get_card


def show_model(model: str, as_json: bool) -> None:
    """Show the card of MODEL: sizes, recipes, weights, scores, sampler options, memory and FLOPs."""
    card = get_card(model)
    facts = card.model_dump(mode="json")
    facts["recipes"] = {name: facts["recipes"][name] for name in card.offered}
    installed = providers()
    facts["plugin"] = provider(card, installed)
    if card.family in installed:
        facts |= shipped(card) or known(f"info {card.name}", card.model_dump(mode="json"), partial(facts_of, card))
    if as_json:
        say_json(facts)
        return
    show(info_table(facts))


def facts_of(card: ModelCard) -> dict[str, Any]:
    """What the family says of its card."""
    from gftzoo.cli.family_facts import family_facts  # with torch

    return family_facts(card)


def info_table(facts: dict[str, Any]) -> Table:
    """The card as two columns; nested values one per line."""
    result = table("", facts["name"])
    for key, value in facts.items():
        if key != "name" and value not in (None, {}, [], ""):
            add_row(result, key, _lines(value))
    return result


def _lines(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_compact(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "\n".join(_compact(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if v not in (None, {}, [], ""))
    return str(value)
