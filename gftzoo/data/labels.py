"""What comes with the pictures of a table or a tar file: names of columns, classes and captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gftzoo.errors import UsageError
from gftzoo.printing import plain

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "jpeg", "webp", "bmp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls")
CAPTION_COLUMNS = ("caption", "text", "txt", "prompt")


def classes_of(
    name: str, labels: Iterable[Any], names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of classes, and the class of each label that there is.

    Labels that have names keep their places, also those without a picture. Numbers without names become classes in
    their order, so that labels from 1, or with gaps, leave no class empty; the class is named by its label.
    Raises UsageError for a label that is neither a name nor a whole number from 0 on.
    """
    labels = list(labels)
    for label in labels:
        wrong = not isinstance(label, int) or label < 0
        if wrong or (names is not None and label >= len(names)):
            valid = "names, or whole numbers from 0 on" if names is None else f"0 to {len(names) - 1}, which have names"
            raise UsageError(f"data {name!r} has the label {label!r} in its {where}; valid are {valid}, in every row.")
    if names is not None:
        return tuple(plain(n) for n in names), {label: label for label in range(len(names))}
    ordered = sorted(labels)
    return tuple(str(int(label)) for label in ordered), {label: index for index, label in enumerate(ordered)}


def caption_of(value: Any, number: int = 0) -> str:
    """A caption; of several of one picture, in a list, the first, or that at `number` counted round."""
    if isinstance(value, list):
        value = value[number % len(value)] if value else None
    return "" if value is None else str(value)


def captions_in(text: str) -> list[str]:
    """The captions of a picture in a file of their own: its lines that are not blank, or one empty caption."""
    return [line for line in text.split("\n") if line and not line.isspace()] or [""]


def column_of(name: str, wanted: Sequence[str], columns: Sequence[str], what: str) -> str:
    """The first of the wanted columns that is there, in whatever case; UsageError for none."""
    found = columns_in(wanted, columns)
    if not found:
        raise UsageError(f"data {name!r} has no {what} column; it has {', '.join(columns)}.")
    return found[0]


def columns_in(wanted: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Those of the wanted columns that are there, in whatever case, in the order in which they are wanted."""
    lower = {column.lower(): column for column in reversed(columns)} | {column: column for column in columns}
    return [lower[column] for column in wanted if column in lower]
