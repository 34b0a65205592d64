"""`stream:URL`: parquet, webdataset (tar) or cache shards anywhere fsspec reaches, read in order, without a download.

URL is a folder, a file, a glob, or has a range in braces, with any protocol of fsspec: `s3://bucket/data/*.parquet`,
`https://host/part-{000..127}.tar`, `file:///data`. A folder with a cache's manifest.json streams what is in the cache.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.data.archive import FIRST, Naming, naming_of, samples, text_of, why_incomplete
from gftzoo.data.cache import check_encoder
from gftzoo.data.decoding import VERSION, attempted, cell_content
from gftzoo.data.hub import undecoded
from gftzoo.data.labels import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    caption_of,
    captions_in,
    column_of,
    columns_in,
)
from gftzoo.data.lanes import Layout
from gftzoo.data.manifest import Manifest
from gftzoo.data.readable import Pictures, Verdict, is_readable, remember, verdict_of
from gftzoo.data.settings import Decoding, settings_of
from gftzoo.data.shards import find_shards, kind_of, state_of, unreadable
from gftzoo.data.sources import Opener, Source, Split, without_held_out
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import words

READ = 32  # samples taken from a file together
OPEN = 16  # shards kept open


class StreamSource(Source):
    """Samples in the order of their shards; what a run reads of them is in `gftzoo.data.lanes`.

    A sample is (image bytes, condition), or of a cache (encoded views, class or text features).
    """

    streamed = True

    def __init__(
        self,
        name: str,
        shards: list[str],
        kind: str,
        manifest: Manifest | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        super().__init__()
        self.name, self.shards, self.kind, self.manifest = name, shards, kind, manifest
        self.decoding = decoding or Decoding()
        local = shards[0].removeprefix("file://") if shards[0].startswith(("file://", "/")) else None
        self.folders = [] if local is None else [Path(local).parent]
        listing = "\n".join([f"{VERSION} {settings_of(name)}", *shards])
        self.fingerprint = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]
        self.classes: int | None = None
        self.naming: Naming | None = None
        self._rows: dict[str, int] = {}
        self._open: dict[str, Any] = {}
        self.holds = f"{len(shards):,} {kind} shards, streamed"
        self.is_encoded, self.decodes = manifest is not None, manifest is None
        if manifest is None:
            self._look_at_columns()
        else:
            self.size, self.mirrorable, self.condition = manifest.resolution, manifest.flip, manifest.condition
            self.class_names = manifest.class_names if manifest.condition == "class" else ()
            self._rows = {url: shard.rows for url, shard in zip(shards, manifest.shards, strict=True)}

    def _look_at_columns(self) -> None:
        if self.kind == "webdataset":
            self.naming = naming_of(self.name, self.shards[0])
            self.condition = self.naming.condition
            return
        features = self.open(self.shards[0]).features or {}
        self.image_column = column_of(self.name, IMAGE_COLUMNS, list(features), "image")
        labels = columns_in(LABEL_COLUMNS, list(features))
        self.condition = "class" if labels else "text"
        captions = () if labels else CAPTION_COLUMNS
        self.condition_column = column_of(self.name, (*labels[:1], *captions), list(features), "label or caption")
        if labels:
            self.class_names = tuple(getattr(features[labels[0]], "names", None) or ())

    @property
    def origin(self) -> str:
        return self.name if self.manifest is None else self.manifest.source

    def __len__(self) -> int:
        raise GftzooError(
            f"data {self.name!r} is a stream, which has no length and no order to look things up in; it can be trained "
            "on, and for anything else use hf:, imagefolder: or cache:."
        )

    def condition_of(self, row: int) -> int | str:
        return self.first_conditions(row + 1)[row]

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        raise GftzooError(f"data {self.name!r} is a stream, which is read in order and cannot be looked up.")

    def first_conditions(self, count: int) -> list[int | str]:
        """Conditions of the first samples of the first shard (at most ten)."""
        count = min(count, FIRST)
        if self.manifest is None:
            pairs = zip(self.pictures(self.shards[0]), self.read(self.shards[0], 0), strict=True)
            first = (condition for picture, (_, condition) in pairs if is_readable(picture[1], self.decoding))
            return [self.as_condition(condition) for condition in islice(first, count)]
        rows = self.open(self.shards[0]).take(count)
        return [self.as_condition(row["label" if self.condition == "class" else "caption"]) for row in rows]

    def check(self, card: ModelCard) -> None:
        if self.manifest is not None:
            self.manifest.check(card, self.name)
        self.classes = card.classes

    def check_model(self, model: Model) -> None:
        if self.manifest is not None:
            check_encoder(self.manifest, model, f"data {self.name!r}")

    def check_processes(self, world: int, workers: int) -> None:
        layout = Layout(world, max(workers, 1), 1)
        layout.check(self.name, len(self.shards))
        if len(self.shards) % layout.lanes:
            logging.getLogger("gftzoo.data").warning(
                "%s: %d shards over %d loading processes: those with fewer shards repeat them more often.",
                *(self.name, len(self.shards), layout.lanes),
            )

    def open(self, shard: str) -> Any:
        """A shard as a streamed data set of the datasets library."""
        import datasets  # slow to import, and most data needs none of it

        if shard not in self._open:
            if len(self._open) >= OPEN:
                self._open.clear()
            try:
                found = datasets.load_dataset(
                    self.kind, data_files=[shard], split="train", streaming=True, trust_remote_code=False
                )
            except Exception as error:  # every protocol has its own
                raise unreadable(shard, error) from error
            self._open[shard] = found
        return self._open[shard]

    def read(self, shard: str, start: int) -> Iterator[tuple[Any, Any]]:
        """The samples of a shard from row `start` on, images not yet decoded; GftzooError if it cannot be read."""
        if self.kind == "webdataset":
            yield from self._read_tar(shard, start)
            return
        rows = self.open(shard)
        try:
            if self.manifest is not None:
                second = "label" if self.condition == "class" else "text"
                wanted = [self.manifest.content, second]
                rows = rows.select_columns(wanted).with_format("numpy")
            else:
                wanted = [self.image_column, self.condition_column]
                rows = undecoded(rows.select_columns(wanted), self.image_column)
            rows = rows.skip(start) if start else rows
            for part in rows.iter(READ):  # as iterating does not, this leaves sharing among workers to the lanes
                yield from zip(*(part[column] for column in wanted), strict=True)
        except Exception as error:
            raise unreadable(shard, error) from error

    def _read_tar(self, shard: str, start: int) -> Iterator[tuple[Any, Any]]:
        row, naming = 0, self.naming
        assert naming is not None
        for key, sample in samples(shard, naming, lambda: row >= start):
            pair = naming.pair(sample)
            if pair is None:
                self._tell(f"{why_incomplete(naming, key, sample, shard)} and is left out")
                continue
            row += 1
            if row > start:
                picture, condition = pair
                assert condition.data is not None
                text = text_of(condition.data, condition.name)
                yield picture.data, captions_in(text) if self.condition == "text" else text

    def _tell(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def rows(self, shard: str) -> int:
        """The number of samples of a shard: from a parquet file's footer, or by going through a tar file's headers."""
        if shard not in self._rows:
            self._rows[shard] = count_rows(shard, self.kind, self.naming)
        return self._rows[shard]

    def pictures(self, shard: str) -> Pictures:
        """The pictures of a shard with their rows, not decoded."""
        for row, (picture, _) in enumerate(self.read(shard, 0)):
            yield row, attempted(cell_content, picture, self.folders, self.decoding.outside)

    def unreadable_rows(self, shard: str) -> Collection[int]:
        """The rows of a shard whose pictures cannot be read; it is read to its end where that is not known yet."""
        count, state = self.rows(shard), state_of(shard)
        return verdict_of(self.name, lambda: self.pictures(shard), count, self.decoding, state).unreadable

    def passed(self, shard: str, count: int, unreadable: list[int]) -> None:
        """Takes note of the rows of a shard that could not be read."""
        state = state_of(shard)
        if state is not None:
            found = Verdict(unreadable=dict.fromkeys(unreadable, ""), count=count)
            remember(self.name, found, self.decoding, state)

    def as_condition(self, value: Any, number: int = 0) -> int | str:
        """The class index or caption of a sample, of several captions the one at `number`, counted round.

        UsageError for a class that the model does not have.
        """
        if self.condition == "text":
            return caption_of(value, number)
        try:
            label = int(value)
        except (TypeError, ValueError):
            raise UsageError(
                f"data {self.name!r} has the label {value!r}; a stream takes whole numbers from 0 on, since it is not "
                "read to its end before the start. Use hf: for names."
            ) from None
        if self.classes is not None and not 0 <= label < self.classes:
            raise UsageError(
                f"data {self.name!r} has class {label}, and the model has classes 0 to {self.classes - 1}."
            )
        return label


def cached_views(values: list[Any], views: list[int], manifest: Manifest) -> Tensor:
    """One view of each sample of a cache: float32 (B, ...) or int64 codes (B, N)."""
    kind = np.int64 if manifest.content == "codes" else np.float32
    try:
        rows = [
            np.asarray(value).reshape(manifest.views, *manifest.shape)[view]
            for value, view in zip(values, views, strict=True)
        ]
        return torch.from_numpy(np.stack(rows).astype(kind))
    except (ValueError, TypeError) as error:
        raise GftzooError(
            f"the streamed cache of {manifest.source!r} holds {manifest.content} that its manifest does not describe "
            f"({words(error)}); copy its shards again or write the cache anew."
        ) from error


def count_rows(shard: str, kind: str, naming: Naming | None = None) -> int:
    """The samples of a parquet or tar file, in this whole ones; GftzooError if it cannot be read."""
    if kind == "webdataset":
        naming = naming or naming_of(shard, shard)
        return sum(naming.pair(sample) is not None for _, sample in samples(shard, naming))
    from pyarrow import parquet  # slow to import, and no other data needs it

    try:
        with fsspec.open(shard, "rb") as file:
            return int(parquet.ParquetFile(file).metadata.num_rows)
    except Exception as error:
        raise unreadable(shard, error) from error


def open_stream(argument: str, split: Split, decoding: Decoding, name: str) -> Source:
    """The shards that a URL names, in the order of their names; GftzooError for none, or of no known kind."""
    without_held_out(name, split)
    if decoding.validation is not None:
        raise UsageError(
            f"data {name!r} is a stream, of which nothing is held out; name images with --validation FOLDER."
        )
    shards, manifest = find_shards(argument)
    if manifest is not None:
        if decoding != Decoding():
            raise UsageError(f"data {name!r} is a cache, which is decoded already; leave {settings_of(name)} out.")
        return StreamSource(name, shards, "arrow", manifest)
    return StreamSource(name, shards, kind_of(name, shards), decoding=decoding)


STREAM = Opener(open_stream, "URL", decodes=True)
