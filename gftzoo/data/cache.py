"""`cache:PATH`: what `gftzoo cache` wrote, memory-mapped.

Suffixes: B batch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.data.columns import read_columns
from gftzoo.data.manifest import Manifest, weights_hash
from gftzoo.data.sources import Opener, Source, Split
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import plain


class CacheSource(Source):
    """Encoded images with their conditions; every view of an image is in its row.

    Shards are opened when they are first read, in every process by itself.
    """

    is_encoded = True

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__()
        self.folder, self.manifest, self.name = folder, manifest, f"cache:{folder}"
        self.channels = 1 if manifest.tokenizer.image_channels == 1 else 3
        self.size = manifest.resolution
        self.condition = manifest.condition
        self.class_names = manifest.class_names if manifest.condition == "class" else ()
        self.mirrorable = manifest.flip
        self.fingerprint = "-".join(shard.sha256[:8] for shard in manifest.shards)[:64]
        mirrored = "with" if manifest.flip else "without"
        crops = "ten crops each, " if manifest.crop == "ten-crop" else ""
        self.holds = (
            f"{manifest.content} of {manifest.source} ({manifest.tokenizer.id}, {crops}{mirrored} mirror images)"
        )
        self.ends = list(accumulate(shard.rows for shard in manifest.shards))
        self._tables: list[dict[str, Any] | None] = [None] * len(manifest.shards)

    @property
    def origin(self) -> str:
        return self.manifest.source

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def condition_of(self, row: int) -> int | str:
        if self.condition == "class":
            return int(self.labels[row])
        number, inside = self.place(row)
        return str(self.shard(number)["caption"][inside].as_py())

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        raise GftzooError(
            f"data {self.name!r} holds {self.manifest.content} and no images; name the source it was made from, "
            f"{self.manifest.source!r}."
        )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image."""
        return np.concatenate([self.shard(number)["label"] for number in range(len(self.ends))])

    def place(self, row: int) -> tuple[int, int]:
        """The shard of a row, and the row inside."""
        number = bisect_right(self.ends, row)
        return number, row - (self.ends[number - 1] if number else 0)

    def shard(self, number: int) -> dict[str, Any]:
        """The columns of a shard: views of the mapped file, and captions as Arrow has them."""
        found = self._tables[number]
        if found is None:
            found = self._tables[number] = read_columns(self.folder, self.manifest, self.manifest.shards[number])
        return found

    def encoded(self, rows: Sequence[int], views: Sequence[int]) -> Tensor:
        """One view of each image: float32 (B, C, h, w), or int64 codes (B, N)."""
        content, shape = self.manifest.content, self.manifest.shape
        width = int(np.prod(shape))
        out = np.empty((len(rows), width), np.int64 if content == "codes" else np.float32)
        for index, (row, view) in enumerate(zip(rows, views, strict=True)):
            number, inside = self.place(row)
            out[index] = self.shard(number)[content][inside, view * width : (view + 1) * width]
        return torch.from_numpy(out).view(len(rows), *shape)

    def conditions(self, rows: Sequence[int]) -> Tensor:
        """Classes (B,), or the text features (B, T, D) of captions."""
        if self.condition == "class":
            return torch.from_numpy(self.labels[np.asarray(rows)])
        places = [self.place(row) for row in rows]
        features = np.stack([self.shard(number)["text"][inside] for number, inside in places]).astype(np.float32)
        return torch.from_numpy(features).view(len(rows), *(self.manifest.text_shape or ()))

    def check(self, card: ModelCard) -> None:
        self.manifest.check(card, f"cache {str(self.folder)!r}")

    def check_model(self, model: Model) -> None:
        check_encoder(self.manifest, model, f"cache {str(self.folder)!r}")
        for shard in self.manifest.shards:  # before the first step; not kept, since loading processes open their own
            read_columns(self.folder, self.manifest, shard)


def check_encoder(manifest: Manifest, model: Model, where: str) -> None:
    """UsageError where the model's tokenizer has other weights than the cache's, or its conditions another shape."""
    here = manifest.weights
    there = here if model.tokenizer is None else weights_hash(model.tokenizer)
    if here != there:
        raise UsageError(
            f"{where} was encoded by weights {here} of tokenizer {manifest.tokenizer.id!r} and this run has {there}; "
            "encode the data again or use the same."
        )
    if manifest.condition != "text":
        return
    features = torch.zeros(1, *(manifest.text_shape or ()), device=model.device)
    try:
        fits = model.null_condition(features).shape == features.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise UsageError(
            f"{where} has prompt features of shape {manifest.text_shape}, made for {manifest.model}, and "
            f"{model.card.name} reads another; encode the data again for it."
        )


def open_cache(argument: str, split: Split) -> Source:
    """A complete cache whose files are there with their sizes; their hashes are for `gftzoo cache --check`.

    Raises GftzooError otherwise, and UsageError for another split than it was made of.
    """
    folder = Path(argument)
    manifest = Manifest.read(folder)
    if split == "held-out" and manifest.split != split:
        raise UsageError(f"cache {argument!r} holds the {manifest.split} split of {manifest.source!r}, not {split}.")
    if not manifest.shards:
        raise GftzooError(
            f"cache {argument!r} is not complete; go on with the "
            f"`gftzoo cache {manifest.source} {argument}` that began it."
        )
    for shard in manifest.shards:
        path = folder / shard.file
        size = path.stat().st_size if path.is_file() else None
        if size != shard.bytes:
            what = "is missing" if size is None else f"has {size:,} bytes and not {shard.bytes:,}"
            raise GftzooError(f"cache {argument!r}: {plain(shard.file)} {what}; copy it again or write the cache anew.")
    source = CacheSource(folder, manifest)
    if not len(source):
        raise GftzooError(f"cache {argument!r} holds no image.")
    return source


CACHE = Opener(open_cache, "PATH")
