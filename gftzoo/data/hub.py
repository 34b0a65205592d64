"""`hf:NAME[#SPLIT]`: a data set of the datasets library, by hub name, local folder or local files; tar files too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gftzoo.data.decoding import VERSION, DecodingSource, cell_content
from gftzoo.data.labels import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    caption_of,
    classes_of,
    column_of,
    columns_in,
)
from gftzoo.data.picture import UnreadableError, one_line, read_header
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.data.tars import open_tars
from gftzoo.errors import GftzooError
from gftzoo.printing import plain

FORMATS = {".parquet": "parquet", ".arrow": "arrow"}
LOOKED_AT = 16  # pictures whose headers say whether the data is grey


class HubSource(DecodingSource):
    """A memory-mapped table with an image column and a label or caption column; labels may be numbers or names.

    Args:
        folders: where files may lie that rows name in place of a picture's bytes; relative ones lie in the first.
    """

    def __init__(self, name: str, table: Any, decoding: Decoding, folders: Sequence[Path]) -> None:
        super().__init__(decoding)
        labels = columns_in(LABEL_COLUMNS, table.column_names)
        self.name, self.folders = name, folders
        self.image_column = column_of(name, IMAGE_COLUMNS, table.column_names, "image")
        self.condition = "class" if labels else "text"
        captions = () if labels else CAPTION_COLUMNS
        self.condition_column = column_of(name, (*labels[:1], *captions), table.column_names, "label or caption")
        self.fingerprint = f"{table._fingerprint}-{VERSION}{settings_of(name)}"
        self.table, self.numbers = undecoded(table, self.image_column), [*range(len(table))]
        self.labels = self._classes(labels[0]) if labels else []  # refused before every picture is read
        self.leave_out_unreadable(lambda: state_of(self.table, self.image_column))
        self.conditions = self.table.select_columns([self.condition_column])  # without reading an image
        nulls = self.conditions.with_format("arrow")[:][self.condition_column].null_count
        if nulls and not labels:
            self.left_out = [f"{nulls:,} pictures without a caption are taken with an empty one"]
        self.channels = 1 if self._all_grey() else 3

    def __len__(self) -> int:
        return len(self.table)

    def _classes(self, column: str) -> list[int]:
        """Names the classes; the class of each row."""
        self.numbered = not getattr(self.table.features[column], "names", None)
        table, found = with_labels(self.table.select_columns([column]), column)
        names = getattr(table.features[column], "names", None)
        self.class_names, index = classes_of(self.name, found, names, f"column {column!r}")
        return [index[label] for label in table[:][column]]

    def keep(self, rows: Sequence[int]) -> None:
        self.table, self.numbers = self.table.select(rows), [*rows]
        self.labels = [self.labels[row] for row in rows] if self.labels else []

    def stored(self, row: int) -> Path | bytes:
        return cell_content(self.table[row][self.image_column], self.folders, self.decoding.outside)

    def key(self, row: int) -> str:
        return str(self.numbers[row])

    def place(self, row: int) -> str:
        return f"row {self.numbers[row]} of {plain(self.name)}"

    def own_condition(self, row: int) -> int | str:
        return self.labels[row] if self.labels else caption_of(self.conditions[row][self.condition_column])

    def drawn_condition(self, row: int, number: int) -> int | str:
        if not self.several:
            return self.condition_of(row)
        return caption_of(self.conditions[self.readable(row)][self.condition_column], number)

    @property
    def several(self) -> bool:
        return not self.labels and hasattr(self.conditions.features[self.condition_column], "feature")

    def _all_grey(self) -> bool:
        grey = []
        for row in range(min(LOOKED_AT, len(self))):
            try:
                grey.append(read_header(self.stored(row), self.decoding).grey)
            except UnreadableError:  # counted when it is read
                continue
        return bool(grey) and all(grey)


def open_hub(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """Loads through the datasets library; local files need no network."""
    import datasets  # slow to import, and most data needs none of it

    without_held_out(name, split, decoding)
    place, _, part = argument.partition("#")
    there = os.path.exists(place)  # noqa: PTH110 (pathlib raises for names that are too long)
    if place.startswith(("/", ".")) and not there:  # a path, no name to look up
        raise GftzooError(f"there is no folder or file {place!r} for data {name!r}.")
    if there and (tars := tar_files(Path(place))):
        tar_source = open_tars(name, tars, decoding)
        tar_source.take_part(split)
        return tar_source
    try:
        with _unsaid(datasets):
            table = _load(datasets, place, part or "train")
    except Exception as error:
        raise GftzooError(
            f"data {name!r} could not be loaded ({reason(error)}); check the name, or give a local folder."
        ) from error
    if not len(table):
        raise GftzooError(f"data {name!r} has no rows.")
    local = [Path(place) if Path(place).is_dir() else Path(place).parent] if there else []
    source = HubSource(name, table, decoding, [*local, Path(datasets.config.HF_CACHE_HOME).expanduser()])
    source.take_part(split)
    return source


def tar_files(place: Path) -> list[Path]:
    """The tar files that a path names: itself, or those of a folder that holds no other data."""
    if place.is_file():
        return [place] if place.suffix.lower() == ".tar" else []
    files = [path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")]
    tars = sorted(path for path in files if path.suffix.lower() == ".tar")
    others = {path.suffix.lower() for path in files} & {*FORMATS, ".json", ".jsonl", ".csv"}
    return [] if others else tars


@contextmanager
def _unsaid(datasets: Any) -> Iterator[None]:
    """Keeps the library from printing what it raises as well."""
    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)


def _load(datasets: Any, place: str, part: str) -> Any:
    path = Path(place)
    if (path / "dataset_info.json").is_file() or (path / "state.json").is_file():
        return datasets.load_from_disk(place)
    if (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(place)[part]
    if path.is_file() and path.suffix.lower() in FORMATS:
        return datasets.load_dataset(
            FORMATS[path.suffix.lower()], data_files=[place], split=part, trust_remote_code=False
        )
    return datasets.load_dataset(place, split=part, trust_remote_code=False)


def with_labels(table: Any, column: str) -> tuple[Any, list[Any]]:
    """The table with names in its label column made numbers, in alphabetical order, and the labels that there are."""
    kind = str(getattr(table.features[column], "dtype", ""))
    if kind in ("string", "large_string"):
        table, kind = table.class_encode_column(column), "int64"
    whole = "int" in kind or kind == "bool"
    return table, table.unique(column) if whole else table[:1][column]  # one is enough to refuse the others


def state_of(table: Any, column: str) -> str | None:
    """Changes whenever a picture of the table does; None where a row may name a file, which does so by itself."""
    import pyarrow.compute  # with datasets, slow to import, and most data needs none of it

    cells = table.data.column(column)
    if pyarrow.types.is_struct(cells.type):
        names = [field.name for field in cells.type]
        cells = pyarrow.compute.struct_field(cells, "bytes") if "bytes" in names else None
    if cells is None or cells.null_count:
        return None
    files = [Path(file["filename"]) for file in table.cache_files]
    return f"{table._fingerprint} {[(str(file), file.stat().st_ctime_ns) for file in files]}"


def undecoded(table: Any, column: str) -> Any:
    """The data set with an image column that gives the bytes of the file."""
    import datasets  # slow to import, and most data needs none of it

    if isinstance((table.features or {}).get(column), datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    return table


def reason(error: Exception) -> str:
    """The type of an error and the first line of what it says, which may be nothing."""
    said = one_line(error)
    return f"{type(error).__name__}: {said}" if said != type(error).__name__ else said


HF = Opener(open_hub, "NAME", decodes=True)
