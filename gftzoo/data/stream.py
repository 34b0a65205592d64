"""`stream:URL`: parquet, webdataset (tar) or cache shards anywhere fsspec reaches, read in order, without a download.

URL is a folder, a file, a glob, or has a range in braces, with any protocol of fsspec: `s3://bucket/data/*.parquet`,
`https://host/part-{000..127}.tar`, `file:///data`. A folder with a cache's manifest.json streams what is in the cache.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from gftzoo.data.cache import check_encoder
from gftzoo.data.hub import CAPTION_COLUMNS, IMAGE_COLUMNS, LABEL_COLUMNS, column_of, reason
from gftzoo.data.lanes import Layout
from gftzoo.data.manifest import MANIFEST_FILE, Manifest
from gftzoo.data.sources import Source, Split, without_held_out
from gftzoo.errors import GftzooError, UsageError
from gftzoo.model import Model
from gftzoo.zoo import ModelCard, validation_sentence

KINDS = {".parquet": "parquet", ".tar": "webdataset"}
WEB_IMAGES = (*IMAGE_COLUMNS, "jpeg", "webp", "bmp")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
SAMPLE_KEY = re.compile(r"((?:.*/)?[^./]+)\.[^/]+$")  # of a webdataset member: what stands before the first dot
FIRST = 10  # samples looked at before the start
READ = 32  # samples taken from a file together
OPEN = 16  # shards kept open


class StreamSource(Source):
    """Samples in the order of their shards; what a run reads of them is in `gftzoo.data.lanes`.

    A sample is (image bytes, condition), or of a cache (encoded views, class or text features).
    """

    streamed = True

    def __init__(self, name: str, shards: list[str], kind: str, manifest: Manifest | None = None) -> None:
        super().__init__()
        self.name, self.shards, self.kind, self.manifest = name, shards, kind, manifest
        self.fingerprint = hashlib.sha256("\n".join(shards).encode()).hexdigest()[:16]
        self.classes: int | None = None
        self._rows: dict[str, int] = {}
        self._open: dict[str, Any] = {}
        self.holds = f"{len(shards):,} {kind} shards, streamed"
        self.is_encoded = manifest is not None
        if manifest is None:
            self._look_at_columns()
        else:
            self.size, self.mirrorable, self.condition = manifest.resolution, manifest.flip, manifest.condition
            self.class_names = manifest.class_names if manifest.condition == "class" else ()
            self._rows = {url: shard.rows for url, shard in zip(shards, manifest.shards, strict=True)}

    def _look_at_columns(self) -> None:
        features = self.open(self.shards[0]).features or {}
        self.image_column = column_of(self.name, WEB_IMAGES, list(features), "image")
        labels = [column for column in LABEL_COLUMNS if column in features]
        self.condition = "class" if labels else "text"
        captions = () if labels else CAPTION_COLUMNS
        self.condition_column = column_of(self.name, (*labels, *captions), list(features), "label or caption")
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
        rows = self.open(self.shards[0]).take(min(count, FIRST))
        column = "label" if self.condition == "class" else "caption"
        return [self.as_condition(row[column if self.manifest else self.condition_column]) for row in rows]

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
        import datasets

        if shard not in self._open:
            if len(self._open) >= OPEN:
                self._open.clear()
            try:
                found = datasets.load_dataset(self.kind, data_files=[shard], split="train", streaming=True)
            except Exception as error:  # every protocol has its own
                raise _unreadable(shard, error) from error
            self._open[shard] = found
        return self._open[shard]

    def read(self, shard: str, start: int) -> Iterator[tuple[Any, Any]]:
        """The samples of a shard from row `start` on, images not yet decoded; GftzooError if it cannot be read."""
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
            raise _unreadable(shard, error) from error

    def rows(self, shard: str) -> int:
        """The number of samples of a shard: from a parquet file's footer, or by going through a tar file's headers."""
        if shard not in self._rows:
            self._rows[shard] = count_rows(shard, self.kind)
        return self._rows[shard]

    def as_condition(self, value: Any) -> int | str:
        """The class index or caption of a sample; UsageError for a class that the model does not have."""
        if self.condition == "text":
            value = value[0] if isinstance(value, list) and value else value
            return "" if value is None else str(value)
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


def undecoded(rows: Any, column: str) -> Any:
    """The data set with an image column that gives the bytes of the file."""
    import datasets

    if isinstance((rows.features or {}).get(column), datasets.Image):
        return rows.cast_column(column, datasets.Image(decode=False))
    return rows


def cached_views(values: list[Any], views: list[int], manifest: Manifest) -> Tensor:
    """One view of each sample of a cache: float32 (B, ...) or int64 codes (B, N)."""
    kind = np.int64 if manifest.content == "codes" else np.float32
    rows = [
        np.asarray(value).reshape(manifest.views, *manifest.shape)[view]
        for value, view in zip(values, views, strict=True)
    ]
    return torch.from_numpy(np.stack(rows).astype(kind))


def count_rows(shard: str, kind: str) -> int:
    """The samples of a parquet or tar file; GftzooError if it cannot be read."""
    import fsspec

    try:
        with fsspec.open(shard, "rb") as file:
            if kind == "parquet":
                from pyarrow import parquet

                return int(parquet.ParquetFile(file).metadata.num_rows)
            keys, last = 0, None
            with tarfile.open(fileobj=file, mode="r:*") as archive:
                for member in archive:
                    found = SAMPLE_KEY.match(member.name) if member.isfile() else None
                    if found and found[1] != last:
                        keys, last = keys + 1, found[1]
            return keys
    except Exception as error:
        raise _unreadable(shard, error) from error


def open_stream(argument: str, split: Split) -> Source:
    """The shards that a URL names, in the order of their names; GftzooError for none, or of no known kind."""
    name = f"stream:{argument}"
    without_held_out(name, split)
    shards, manifest = find_shards(argument)
    if manifest is not None:
        return StreamSource(name, shards, "arrow", manifest)
    if not shards:
        raise GftzooError(
            f"data {name!r} names no file; write a folder, a glob such as *.parquet, or part-{{00..15}}.tar."
        )
    kinds = {next((kind for suffix, kind in KINDS.items() if shard.endswith(suffix)), shard) for shard in shards}
    if len(kinds) != 1 or not kinds <= set(KINDS.values()):
        raise GftzooError(f"data {name!r} holds {', '.join(sorted(kinds)[:3])}; valid are only .parquet or only .tar.")
    return StreamSource(name, shards, kinds.pop())


def find_shards(argument: str) -> tuple[list[str], Manifest | None]:
    """The URLs of the shards, and the manifest where they are a cache's."""
    from fsspec.core import url_to_fs

    ranged = RANGE.search(argument)
    if ranged:
        width = len(ranged[1])
        numbers = range(int(ranged[1]), int(ranged[2]) + 1)
        return [argument[: ranged.start()] + f"{n:0{width}d}" + argument[ranged.end() :] for n in numbers], None
    try:
        files, path = url_to_fs(argument)
        if "*" in argument or "?" in argument:
            return sorted(files.unstrip_protocol(found) for found in files.glob(path)), None
        if not files.isdir(path):
            return [files.unstrip_protocol(path)] if files.exists(path) else [], None
        folder = files.unstrip_protocol(path).rstrip("/")
        if files.exists(f"{path.rstrip('/')}/{MANIFEST_FILE}"):
            return _cache_shards(folder, files.cat_file(f"{path.rstrip('/')}/{MANIFEST_FILE}"))
        found = [files.unstrip_protocol(entry) for entry in files.find(path)]
        return sorted(url for url in found if url.endswith(tuple(KINDS))), None
    except GftzooError:
        raise
    except Exception as error:  # every protocol has its own
        raise _unreadable(argument, error) from error


def _cache_shards(folder: str, text: bytes) -> tuple[list[str], Manifest]:
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise GftzooError(validation_sentence(f"{folder}/{MANIFEST_FILE}", error)) from error
    if not manifest.shards:
        raise GftzooError(f"cache {folder!r} is not complete; go on with the `gftzoo cache` that began it.")
    return [f"{folder}/{shard.file}" for shard in manifest.shards], manifest


def _unreadable(url: str, error: Exception) -> GftzooError:
    return GftzooError(f"{url!r} could not be read ({reason(error)}); check the address and its access.")
