"""Batches for training: which samples a step sees, and what they look like, as functions of their position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from gftzoo.data.cache import CacheSource
from gftzoo.data.sources import Source
from gftzoo.generator import seed_for

Key = tuple[int, int]  # (row of the source, position in the run)


class SeekableSampler(Sampler[Key]):
    """Endless, shuffled anew every pass, sharded over ranks; the position counts samples of all ranks.

    Rank r of W takes positions start + r, start + r + W, ..., so that a step's global batch is the same set of samples
    whatever W is.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.start = length, seed, 0
        self.rank, self.world = get_dist_info()

    def seek(self, position: int) -> None:
        """Goes on behind `position` samples, without reading what lies before."""
        self.start = position

    def __iter__(self) -> Iterator[Key]:
        position, current, order = self.start + self.rank, -1, torch.empty(0)
        while True:
            epoch, offset = divmod(position, self.length)
            if epoch != current:
                stream = torch.Generator().manual_seed(seed_for("shuffle", self.seed, epoch))
                current, order = epoch, torch.randperm(self.length, generator=stream)
            yield int(order[offset]), position
            position += self.world

    def __len__(self) -> int:
        return self.length


class TrainingData(Dataset[Any]):
    """A source as collated batches of uint8 images (B, C, R, R), conditions and positions."""

    def __init__(self, source: Source, resolution: int, channels: int, seed: int, hflip: bool = True) -> None:
        self.source, self.resolution, self.channels = source, resolution, channels
        self.seed, self.hflip = seed, hflip and source.mirrorable

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> dict[str, Any]:
        rows, positions = [row for row, _ in keys], [position for _, position in keys]
        images_BCRR = self.source.images(rows, self.resolution, self.channels)
        if self.hflip:
            flipped = [bool(seed_for("flip", self.seed, position) % 2) for position in positions]
            images_BCRR = torch.where(torch.tensor(flipped).view(-1, 1, 1, 1), images_BCRR.flip(-1), images_BCRR)
        conditions = [self.source.condition_of(row) for row in rows]
        return {
            "images": images_BCRR,
            "condition": torch.tensor(conditions) if self.source.condition == "class" else conditions,
            "position": torch.tensor(positions),
        }


class CachedData(Dataset[Any]):
    """A cache as collated batches of latents, moments or codes, conditions and positions.

    A view is drawn for each position: of two, by the number that also decides whether an image is mirrored.
    """

    def __init__(self, source: CacheSource, seed: int, hflip: bool = True) -> None:
        self.source, self.seed = source, seed
        views = source.manifest.views
        self.views = views // 2 if source.manifest.flip and not hflip else views
        self.name = "moments" if source.manifest.content == "moments" else "latents"

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> dict[str, Any]:
        rows, positions = [row for row, _ in keys], [position for _, position in keys]
        views = [0] * len(rows)
        if self.views > 1:
            views = [seed_for("flip", self.seed, position) % self.views for position in positions]
        return {
            self.name: self.source.encoded(rows, views),
            "condition": self.source.conditions(rows),
            "position": torch.tensor(positions),
        }


def training_data(source: Source, resolution: int, channels: int, seed: int, hflip: bool = True) -> Dataset[Any]:
    """The batches of a source: images, or what a cache holds of them."""
    if isinstance(source, CacheSource):
        return CachedData(source, seed, hflip)
    return TrainingData(source, resolution, channels, seed, hflip)
