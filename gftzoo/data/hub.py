"""`hf:NAME[#SPLIT]`: a data set of the datasets library, by hub name, local folder or local parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from gftzoo.data.decoding import DecodingSource, picture_of
from gftzoo.data.sources import Source, Split, without_held_out
from gftzoo.errors import GftzooError, UsageError

IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls")
FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
CAPTION_COLUMNS = ("caption", "text", "txt", "prompt")


class HubSource(DecodingSource):
    """A memory-mapped table with an image column and a label or caption column; labels may be numbers or names."""

    def __init__(self, name: str, table: Any) -> None:
        super().__init__()
        labels = [c for c in LABEL_COLUMNS if c in table.column_names]
        if labels:
            table = numbered(name, table, labels[0])
        self.name, self.table = name, table
        self.image_column = column_of(name, IMAGE_COLUMNS, table.column_names, "image")
        self.condition = "class" if labels else "text"
        captions = () if labels else CAPTION_COLUMNS
        self.condition_column = column_of(name, (*labels, *captions), table.column_names, "label or caption")
        self.class_names = _class_names(table, labels[0]) if labels else ()
        self.conditions = table.select_columns([self.condition_column])  # without decoding an image
        self.fingerprint = str(table._fingerprint)

    def __len__(self) -> int:
        return len(self.table)

    def picture(self, row: int) -> Image.Image:
        return picture_of(self.table[row][self.image_column])

    def place(self, row: int) -> str:
        return f"row {row} of {self.name}"

    @cached_property
    def undecoded(self) -> Any:
        """The table with the bytes of image files in place of pictures."""
        import datasets

        if not isinstance(self.table.features[self.image_column], datasets.Image):
            return self.table
        return self.table.cast_column(self.image_column, datasets.Image(decode=False))

    def stored(self, row: int) -> Path | bytes:
        value = self.undecoded[row][self.image_column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, dict) and content is None and value.get("path"):
            return Path(value["path"])
        return content if isinstance(content, bytes) else repr(content).encode()

    def own_condition(self, row: int) -> int | str:
        value = self.conditions[row][self.condition_column]
        if self.condition == "class":
            return int(value)
        if isinstance(value, list):  # several captions of one picture: the first
            value = value[0] if value else None
        return "" if value is None else str(value)


def open_hub(argument: str, split: Split) -> Source:
    """Loads through the datasets library; local files need no network."""
    import datasets

    without_held_out(f"hf:{argument}", split)
    place, _, part = argument.partition("#")
    if place.startswith(("/", ".")) and not Path(place).exists():  # a path, no name to look up
        raise GftzooError(f"there is no folder or file {place!r} for data 'hf:{argument}'.")
    try:
        table = _load(datasets, place, part or "train")
    except Exception as error:
        raise GftzooError(
            f"data 'hf:{argument}' could not be loaded ({reason(error)}); check the name, or give a local folder."
        ) from error
    if not len(table):
        raise GftzooError(f"data 'hf:{argument}' has no rows.")
    return HubSource(f"hf:{argument}", table)


def _load(datasets: Any, place: str, part: str) -> Any:
    path = Path(place)
    if (path / "dataset_info.json").is_file() or (path / "state.json").is_file():
        return datasets.load_from_disk(place)
    if (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(place)[part]
    if path.is_file() and path.suffix in FORMATS:
        return datasets.load_dataset(FORMATS[path.suffix], data_files=[place], split=part)
    return datasets.load_dataset(place, split=part)


def numbered(name: str, table: Any, column: str) -> Any:
    """The table with class numbers in its label column: names get theirs in alphabetical order.

    Raises UsageError for a label that is neither a name nor a whole number from 0 on.
    """
    kind = str(getattr(table.features[column], "dtype", ""))
    if kind in ("string", "large_string"):
        table, kind = table.class_encode_column(column), "int64"
    for label in table.unique(column) if "int" in kind else table[:1][column]:
        if not isinstance(label, int) or label < 0:
            raise UsageError(
                f"data {name!r} has the label {label!r} in its column {column!r}; valid are names, or whole numbers "
                "from 0 on, in every row."
            )
    return table


def column_of(name: str, wanted: Sequence[str], columns: Sequence[str], what: str) -> str:
    """The first of the wanted columns that is there; UsageError for none."""
    found = next((column for column in wanted if column in columns), None)
    if found is None:
        raise UsageError(f"data {name!r} has no {what} column; it has {', '.join(columns)}.")
    return found


def reason(error: Exception) -> str:
    """The type of an error and the first line of what it says, which may be nothing."""
    first = next(iter(str(error).strip().splitlines()), "")[:120]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _class_names(table: Any, column: str) -> tuple[str, ...]:
    names = getattr(table.features[column], "names", None)
    return tuple(names) if names else tuple(str(i) for i in range(max(table[column]) + 1))
