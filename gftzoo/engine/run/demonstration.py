"""The demonstration of a full-size model: its network on the embedded data of a small one."""

from __future__ import annotations

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.zoo import catalogue, get_card


def demonstration_card(card: ModelCard) -> ModelCard:
    """The full-size card on the tokenizer, resolution, text encoder, sampler and data of a nano model of its kind.

    What a network has for each value of a code follows from the tokenizer, also where it is an option.
    """
    entry = catalogue().families.get(card.family)
    if entry is None or entry.nano is None or entry.nano not in catalogue().models:
        raise UsageError(f"{card.name} names no demonstration data; give --data SOURCE.")
    nano = _nearest(card, get_card(entry.nano))
    small = {field: getattr(nano, field) for field in ("tokenizer", "resolution", "text_encoder", "sampler", "data")}
    of_codes = {name: nano.network[name] for name in load_family(card.family).options().of_codes}
    return card.model_copy(update={**small, "network": {**card.network, **of_codes}})


def _nearest(card: ModelCard, nano: ModelCard) -> ModelCard:
    """The model on embedded data whose network is most like the card's: the family's nano, or a nearer one of it.

    Options that name something, as the process that a network predicts, decide; a sampler fits some of them alone.
    """
    others = catalogue().models.values()
    siblings = [c for c in others if c.family == nano.family and c.data and c.condition == card.condition]

    def named(card: ModelCard) -> set[tuple[str, str]]:
        return {(name, value) for name, value in card.network.items() if isinstance(value, str)}

    def distance(other: ModelCard) -> tuple[int, bool, int]:
        return len({name for name, _ in named(card) ^ named(other)}), other.name != nano.name, other.parameters

    return min([nano, *siblings], key=distance)


def large_enough(card: ModelCard, family: Family) -> ModelCard:
    """The demonstration's card at the next size that the full-size network can halve or cut into patches."""
    multiple = getattr(card.network_options(family.options().network), "side_multiple", 1)
    return card.change(resolution=-(-card.grid // multiple) * multiple * card.tokenizer.downsample)
