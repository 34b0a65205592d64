"""Writing a cache: every image of a source encoded once, in Arrow shards, by any number of ranks.

A shard is a function of the plan and its number alone, so that neither an interruption nor the number of ranks shows
in the result. Beside each finished shard lies its entry for the manifest, until all are there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Features
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from pydantic import ValidationError

from gftzoo.atomic import DiskError, disk_errors, written_whole
from gftzoo.data.encoding import encode, views_of
from gftzoo.data.manifest import MANIFEST_FILE, Manifest, Shard
from gftzoo.data.planning import columns
from gftzoo.data.sources import Source
from gftzoo.documents import DocumentError, read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo.model import Model
from gftzoo.weights import sha256


class CacheWriter:
    """Writes the shards of a plan that fall to one of `world` ranks.

    Args:
        plan: from `plan_cache`.
        folder: of the cache; may hold the same plan, unfinished.
        tell: called with the number of images done, after each batch.

    Raises:
        UsageError: the folder holds something else.
    """

    def __init__(
        self, model: Model, source: Source, plan: Manifest, folder: Path, tell: Callable[[int], None] | None = None
    ) -> None:
        self.model, self.source, self.plan, self.folder = model, source, plan, folder
        self.tell = tell or (lambda _: None)
        self.features = Features(columns(plan))
        self._claim()

    def _claim(self) -> None:
        with disk_errors(self.folder):
            if self._holds_something_else():
                raise UsageError(f"{str(self.folder)!r} exists already and is no cache; name a new folder.")
            if not (self.folder / MANIFEST_FILE).exists():
                self.plan.write(self.folder, keep=True)  # other ranks may write the same one meanwhile, and complete it
            (self.folder / "shards").mkdir(exist_ok=True)
        found = Manifest.read(self.folder)
        difference = found.difference(self.plan)
        if difference is not None and found.stale_for(self.plan):
            raise UsageError(
                f"cache {str(self.folder)!r} is stale: the pictures of {self.plan.source!r} are not those it was begun "
                f"with ({difference}); encode them again with `gftzoo cache {quote(self.plan.source)} NEW --model "
                f"{self.plan.model}`."
            )
        if difference is not None:
            raise UsageError(f"cache {str(self.folder)!r} was begun with {difference}; name a new folder.")

    def _holds_something_else(self) -> bool:
        if not self.folder.exists():  # asked first: another rank may make the folder between two questions
            return False
        if not self.folder.is_dir():
            return True
        begun = f".{MANIFEST_FILE}."  # of a rank that is writing it
        others = [path for path in self.folder.iterdir() if not path.name.startswith(begun)]
        return bool(others) and not (self.folder / MANIFEST_FILE).exists()

    def run(self, rank: int = 0, world: int = 1) -> Manifest | None:
        """Writes what is missing; the complete manifest, or None while other ranks still have shards to write.

        Raises GftzooError where the disk is full; finished shards stay.
        """
        found = Manifest.read(self.folder)
        if found.shards:
            self.tell(found.images)
            return found
        try:
            for number in range(rank, self.plan.shard_count, world):
                if self.entry(number) is not None or Manifest.read(self.folder).shards:  # completed by another rank
                    self.tell(len(self.rows(number)))
                else:
                    self.write(number)
            with disk_errors(self.folder):
                return self.finish()
        except DiskError as error:
            done = sum(self.entry(number) is not None for number in range(self.plan.shard_count))
            raise GftzooError(
                f"cache {str(self.folder)!r} could not be written ({error.reason}); {done} of its "
                f"{self.plan.shard_count} shards are complete, and the same command goes on from there."
            ) from error

    def rows(self, number: int) -> range:
        """The images of a shard."""
        first = number * self.plan.shard_rows
        return range(first, min(first + self.plan.shard_rows, self.plan.images))

    def file(self, number: int) -> Path:
        """Where a shard lies, as the datasets library names its shards."""
        return self.folder / "shards" / f"data-{number:05d}-of-{self.plan.shard_count:05d}.arrow"

    def entry(self, number: int) -> Shard | None:
        """What the manifest will say of a shard; None if it is not complete, or is not what its entry says."""
        path = self.file(number)
        try:
            shard = Shard.model_validate(read_json(path.with_suffix(".json")))
            whole = path.stat().st_size == shard.bytes
        except (OSError, DocumentError, ValidationError):
            return None
        rows, file = len(self.rows(number)), path.relative_to(self.folder).as_posix()
        return shard if whole and shard.rows + len(shard.skipped) == rows and shard.file == file else None

    def write(self, number: int) -> None:
        """Encodes and writes one shard, then its entry."""
        path, skipped = self.file(number), []
        parts: list[dict[str, Any]] = []
        rows = self.rows(number)
        for start in range(rows.start, rows.stop, self.plan.batch_size):
            part, problems = self.encoded(range(start, min(start + self.plan.batch_size, rows.stop)))
            parts.append(part)
            skipped += problems
            self.tell(min(self.plan.batch_size, rows.stop - start))
        arrays = {name: join([part[name] for part in parts]) for name in parts[0]}
        table = pa.table({name: arrow(array) for name, array in arrays.items()}).cast(self.features.arrow_schema)
        with written_whole(path) as partial:
            writer = ArrowWriter(path=str(partial), features=self.features, writer_batch_size=self.plan.shard_rows)
            writer.write_table(table)
            writer.finalize()
            shard = Shard(
                file=path.relative_to(self.folder).as_posix(),
                rows=table.num_rows,
                bytes=partial.stat().st_size,
                sha256=sha256(partial),
                skipped=tuple(skipped),
            )
        with written_whole(path.with_suffix(".json")) as partial:
            partial.write_text(shard.model_dump_json() + "\n", encoding="utf-8")

    def encoded(self, rows: range) -> tuple[dict[str, Any], list[str]]:
        """The columns of a batch without the pictures that could not be read, and what is wrong with those."""
        views = views_of(self.source, rows, self.model.card, self.plan.crop == "ten-crop", self.plan.flip)
        bad = {row: self.source.unreadable[row] for row in rows if row in self.source.unreadable}
        good = [row for row in rows if row not in bad]
        _, encoded = encode(self.model, views)
        kept = encoded[torch.tensor([row - rows.start for row in good], dtype=torch.int64)]
        part: dict[str, Any] = {"row": np.asarray(good, np.int64)}
        part[self.plan.content] = kept.flatten(1).numpy().astype(self.plan.dtype)
        conditions = [self.source.condition_of(row) for row in good]
        if self.plan.condition == "class":
            part["label"] = np.asarray(conditions, np.int64)
        else:
            part["caption"] = conditions
            part["text"] = self.features_of(conditions)
        return part, list(bad.values())

    def features_of(self, captions: list[int | str]) -> NDArray[Any]:
        """The text features of captions, one row each."""
        kind = np.float16 if self.plan.dtype == "float16" else np.float32
        if not captions:
            assert self.plan.text_shape is not None
            return np.empty((0, int(np.prod(self.plan.text_shape))), kind)
        with torch.no_grad():
            return self.model.encode_condition(captions).flatten(1).cpu().numpy().astype(kind)

    def finish(self) -> Manifest | None:
        """Completes the manifest if all shards are there; any rank may find that."""
        entries = [self.entry(number) for number in range(self.plan.shard_count)]
        manifest = Manifest.read(self.folder)  # only now: a rank that completes it removes the entries
        if not manifest.shards:
            if any(entry is None for entry in entries):
                return None
            manifest = self.plan.model_copy(update={"shards": tuple(entry for entry in entries if entry is not None)})
            manifest.write(self.folder)
        for number in range(self.plan.shard_count):
            self.file(number).with_suffix(".json").unlink(missing_ok=True)
        for left in (self.folder / "shards").glob(".*.partial"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return manifest


def join(parts: list[Any]) -> Any:
    """The parts of a column in one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def arrow(values: Any) -> pa.Array:
    """A column: numbers, texts, or rows of numbers as lists of a fixed length."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values)
