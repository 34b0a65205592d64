"""A look at the data before a run starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gftzoo.catalogue.cards import ModelCard
from gftzoo.data.sources import Source
from gftzoo.zoo import catalogue

MANY_EPOCHS = 5_000  # past them it is said before a run starts


@dataclass(frozen=True)
class Preflight:
    """What a source holds, and what a run will make of it."""

    name: str
    count: int | None
    channels: int
    size: int | None
    resolution: int
    classes: int
    smallest_class: tuple[str, int] | None
    largest_class: tuple[str, int] | None
    problems: tuple[str, ...]
    left_out: tuple[str, ...]
    holds: str = ""
    looked_at: str = ""

    def sentence(self) -> str:
        """Counts, sizes and classes in a line; others for files that cannot be read or are no part of the data."""
        kind = self.holds or ("grey images" if self.channels == 1 else "colour images")
        native = "of various sizes" if self.size is None else f"of {self.size}x{self.size}"
        if self.count is None:
            return f"Data {self.name}: {self.holds}, used at {self.resolution}x{self.resolution}."
        line = f"Data {self.name}: {self.count:,} {kind} {native}, used at {self.resolution}x{self.resolution}"
        if self.smallest_class is not None and self.largest_class is not None:
            small, large = self.smallest_class, self.largest_class
            line += f"; {self.classes} classes of {small[1]:,} ({small[0]}) to {large[1]:,} ({large[0]})"
        if self.problems:
            line += f".\n{len(self.problems)} cannot be read and are left out, e.g. {self.problems[0]}"
        return ".\n".join([line, *filter(None, [self.looked_at]), *self.left_out]) + "."


def preflight(source: Source, resolution: int) -> Preflight:
    """Counts a source's images per class."""
    smallest = largest = None
    if source.condition == "class" and not source.streamed:
        counts = Counter(source.condition_of(row) for row in range(len(source)))
        per_class = [(name, counts.get(index, 0)) for index, name in enumerate(source.class_names)]
        smallest, largest = min(per_class, key=lambda c: c[1]), max(per_class, key=lambda c: c[1])
    return Preflight(
        source.name,
        None if source.streamed else len(source),
        source.channels,
        source.size,
        resolution,
        len(source.class_names),
        smallest,
        largest,
        tuple(source.problems),
        tuple(source.left_out),
        source.holds,
        source.looked_at,
    )


def epochs_sentence(count: int, steps: int, batch_size: int) -> str:
    """How often a run sees each of `count` images, and what to do where that is very often."""
    epochs = steps * batch_size / count
    line = f"{steps:,} steps of {batch_size:,} images are {epochs:,.{1 if epochs < 100 else 0}f} epochs of {count:,}"
    if epochs <= MANY_EPOCHS:
        return f"{line}."
    few = max(1, MANY_EPOCHS * count // batch_size)
    return f"{line}: a network learns so few images by heart long before; try --steps {few}."


def colour_change(source: Source, card: ModelCard) -> str | None:
    """What a model's tokenizer does to the colours of the data, and how to keep them; None where it keeps them."""
    have, takes = source.channels, card.tokenizer.image_channels
    if source.is_encoded or have == takes or (source.streamed and takes == 3):
        return None
    if takes == 1:
        other = tokenizer_of(card, 3)
        keep = f"-o tokenizer={other} keeps it" if other else "`gftzoo list` shows models for colour images"
        return f"Colour is dropped: tokenizer {card.tokenizer.id!r} of {card.name} takes grey images; {keep}."
    other = tokenizer_of(card, 1)
    keep = f"; -o tokenizer={other} keeps them grey" if other else ""
    return f"Grey images become colour images with three equal channels for tokenizer {card.tokenizer.id!r}{keep}."


def tokenizer_of(card: ModelCard, channels: int) -> str | None:
    """A tokenizer for images of so many channels: of the same kind, or that of another model of the family."""
    of_kind = [
        spec.id
        for spec in catalogue().tokenizers.values()
        if spec.kind == card.tokenizer.kind and spec.image_channels == channels
    ]
    of_family = [
        other.tokenizer.id
        for other in catalogue().models.values()
        if other.family == card.family and other.tokenizer.image_channels == channels
    ]
    return next(iter([*of_kind, *of_family]), None)
