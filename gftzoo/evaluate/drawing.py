"""Which images a protocol draws: the condition of each, its class, and the share of this process."""

from __future__ import annotations

from collections.abc import Sequence

from gftzoo.catalogue.cards import ModelCard
from gftzoo.data import Source, open_source
from gftzoo.errors import UsageError
from gftzoo.evaluate.references import of_source


def conditions_for(card: ModelCard, total: int, reference: str) -> tuple[Sequence[int | str], str]:
    """The condition of each image and the name of the plan: all classes in turn, or captions of the reference."""
    if card.condition == "class":
        # In turn, so that every split of the Inception Score sees all classes.
        drawn = card.drawn_classes
        return [drawn[i % len(drawn)] for i in range(total)], f"balanced over {len(drawn)} classes, in turn"
    source = caption_source(card, reference)
    rows = spread_rows(len(source), total)
    return [source.condition_of(row) for row in rows], f"captions of {reference}, in turn"


def labels_for(card: ModelCard, total: int, reference: str) -> list[int] | None:
    """The class of each image: of a caption, the group it falls into; None where captions have no groups."""
    if card.condition == "class":
        drawn = card.drawn_classes
        return [drawn[position % len(drawn)] for position in range(total)]
    source = caption_source(card, reference)
    return [source.class_of(row) for row in spread_rows(len(source), total)] if source.class_names else None


def caption_source(card: ModelCard, reference: str) -> Source:
    """Where captions come from: the data that the images are compared with."""
    named = of_source(reference)
    if named is None:
        raise UsageError(
            f"{card.name} needs captions to be scored with; give a data source as --reference data:SOURCE."
        )
    return open_source(*named)


def spread_rows(length: int, total: int) -> list[int]:
    """`total` of `length` rows: all in turn, or, of more than are wanted, evenly spaced ones."""
    return [position % length if total >= length else position * length // total for position in range(total)]
