"""Batches for training: which samples a step sees, and what they look like, as functions of their position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import fsspec.asyn
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from gftzoo.data.cache import CacheSource
from gftzoo.data.decoding import cell_content
from gftzoo.data.lanes import Lane, Layout, Sample
from gftzoo.data.manifest import Manifest
from gftzoo.data.picture import UnreadableError, pixels_of
from gftzoo.data.sources import Source
from gftzoo.data.stream import StreamSource, cached_views
from gftzoo.errors import UsageError
from gftzoo.generator import seed_for
from gftzoo.group import rank_and_world

Key = tuple[int, int]  # (row of the source, position in the run)


class SeekableSampler(Sampler[Key]):
    """Endless, shuffled anew every pass, sharded over ranks; the position counts samples of all ranks.

    Rank r of W takes every W-th run of `together` positions, from the r-th on: a step's global batch is the same set of
    samples whatever W is, and so is each of its micro-batches of that size.
    """

    def __init__(self, length: int, seed: int, together: int = 1) -> None:
        self.length, self.seed, self.together, self.start = length, seed, together, 0
        self.rank, self.world = rank_and_world()
        self._orders: dict[str | int, tuple[int, Tensor]] = {}

    def seek(self, position: int) -> None:
        """Goes on behind `position` samples, without reading what lies before."""
        self.start = position

    def __iter__(self) -> Iterator[Key]:
        position = self.start + self.rank * self.together
        for taken in count(1):
            yield self.row(position), position
            position += 1 if taken % self.together else 1 + (self.world - 1) * self.together

    def row(self, position: int) -> int:
        """The row of the source at a position of the run."""
        epoch, offset = divmod(position, self.length)
        return int(self.order("shuffle", epoch, self.length)[offset])

    def order(self, purpose: str | int, epoch: int, length: int) -> Tensor:
        """The order of so many things in an epoch, kept until another epoch is asked for."""
        known = self._orders.get(purpose)
        if known is None or known[0] != epoch:
            key = (purpose, self.seed, epoch) if isinstance(purpose, str) else ("class", self.seed, purpose, epoch)
            stream = torch.Generator().manual_seed(seed_for(*key))
            known = self._orders[purpose] = epoch, torch.randperm(length, generator=stream)
        return known[1]

    def __len__(self) -> int:
        return self.length


class BalancedSampler(SeekableSampler):
    """As the other, with every class as often: once in every run of as many positions as there are classes.

    A small class is gone through more often than a large one, each in an order of its own that is shuffled anew.
    """

    def __init__(self, classes: Sequence[int], seed: int, together: int = 1) -> None:
        super().__init__(len(classes), seed, together)
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(classes):
            rows.setdefault(index, []).append(row)
        self.rows = [rows[index] for index in sorted(rows)]

    def row(self, position: int) -> int:
        turn, place = divmod(position, len(self.rows))
        number = int(self.order("classes", turn, len(self.rows))[place])
        epoch, offset = divmod(turn, len(self.rows[number]))
        return self.rows[number][int(self.order(number, epoch, len(self.rows[number]))[offset])]


class PictureData(Dataset[Any]):
    """Pictures of a source, decoded as they are needed, perhaps in another process than the one that trains."""

    def __init__(self, source: Source, resolution: int, channels: int, seed: int, hflip: bool = True) -> None:
        self.source, self.resolution, self.channels = source, resolution, channels
        self.seed, self.hflip = seed, hflip and source.mirrorable
        self._told = 0  # so that the first batch brings what showed at the start

    def new_problems(self) -> list[str]:
        """What this process could not read since the last call; it travels with the batch."""
        new = self.source.problems[self._told :]
        self._told += len(new)
        return new


class TrainingData(PictureData):
    """A source as collated batches of uint8 images (B, C, R, R), conditions and positions."""

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> dict[str, Any]:
        rows, positions = [row for row, _ in keys], [position for _, position in keys]
        images_BCRR = self.source.images(rows, self.resolution, self.channels)
        if self.hflip:
            images_BCRR = mirrored(images_BCRR, self.seed, positions)
        conditions = [
            self.source.drawn_condition(row, seed_for("caption", self.seed, position))
            if self.source.condition == "text"
            else self.source.condition_of(row)
            for row, position in keys
        ]
        return {
            "images": images_BCRR,
            "condition": torch.tensor(conditions) if self.source.condition == "class" else conditions,
            "position": torch.tensor(positions),
            "problems": self.new_problems(),
        }


class CachedData(Dataset[Any]):
    """A cache as collated batches of latents, moments or codes, conditions and positions."""

    def __init__(self, source: CacheSource, seed: int, hflip: bool = True) -> None:
        self.source, self.seed, self.hflip = source, seed, hflip

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> dict[str, Any]:
        rows, positions = [row for row, _ in keys], [position for _, position in keys]
        views = drawn_views(self.source.manifest, self.hflip, self.seed, positions)
        return {
            cached_name(self.source.manifest): self.source.encoded(rows, views),
            "condition": self.source.conditions(rows),
            "position": torch.tensor(positions),
        }


class PositionSampler(Sampler[Key]):
    """The positions of a rank, for a stream, where the position alone says which sample it is."""

    def __init__(self) -> None:
        self.start = 0
        self.rank, self.world = rank_and_world()

    def seek(self, position: int) -> None:
        """Goes on behind `position` samples."""
        self.start = position

    def __iter__(self) -> Iterator[Key]:
        return ((0, position) for position in count(self.start + self.rank, self.world))


class StreamData(PictureData):
    """A stream as collated batches; each loading process opens its own lane, in which an unreadable picture is none."""

    source: StreamSource

    def __init__(
        self, source: StreamSource, layout: Layout, resolution: int, channels: int, seed: int, hflip: bool = True
    ) -> None:
        super().__init__(source, resolution, channels, seed, hflip)
        self.layout = layout
        self._lanes: dict[int, Lane] = {}

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Key]) -> dict[str, Any]:
        positions = [position for _, position in keys]
        places = [self.layout.place(position) for position in positions]
        source = self.source
        if source.manifest is not None:
            return {**self.cached(source.manifest, places, positions), "position": torch.tensor(positions)}
        pairs = [self.lane(lane)[offset].value for lane, offset in places]
        images_BCRR = torch.stack([image for image, _ in pairs])
        if self.hflip:
            images_BCRR = mirrored(images_BCRR, self.seed, positions)
        conditions = [
            source.as_condition(
                condition, seed_for("caption", self.seed, position) if source.condition == "text" else 0
            )
            for (_, condition), position in zip(pairs, positions, strict=True)
        ]
        return {
            "images": images_BCRR,
            "condition": torch.tensor(conditions) if source.condition == "class" else conditions,
            "position": torch.tensor(positions),
            "problems": self.new_problems(),
        }

    def cached(self, manifest: Manifest, places: list[tuple[int, int]], positions: list[int]) -> dict[str, Any]:
        """The batch of a streamed cache."""
        samples = [self.lane(lane)[offset].value for lane, offset in places]
        views = drawn_views(manifest, self.hflip, self.seed, positions)
        encoded = cached_views([encoded for encoded, _ in samples], views, manifest)
        if manifest.condition == "class":
            condition = torch.tensor([self.source.as_condition(label) for _, label in samples])
        else:
            features = np.stack([np.asarray(text, np.float32) for _, text in samples])
            condition = torch.from_numpy(features).view(len(samples), *(manifest.text_shape or ()))
        return {cached_name(manifest): encoded, "condition": condition}

    def lane(self, number: int) -> Lane:
        """The reader of a lane, in this process."""
        if number not in self._lanes:
            if get_worker_info() is not None:
                fsspec.asyn.reset_lock()  # a forked process does not have the thread that the lock belongs to
            shards, of_pictures = self.source.shards[number :: self.layout.lanes], self.source.manifest is None
            pictures: dict[str, Any] = {
                "decode": self.decoded,
                "unreadable": self.source.unreadable_rows,
                "passed": self.source.passed,
            }
            self._lanes[number] = Lane(
                shards,
                *(self.source.read, self.source.rows, self.seed, number, self.layout.block),
                **(pictures if of_pictures else {}),
            )
        return self._lanes[number]

    def decoded(self, sample: Sample) -> tuple[Tensor, Any] | None:
        """A picture (C, R, R), uint8, and its condition; None, and counted, where it cannot be read."""
        picture, condition = sample.value
        try:
            content = cell_content(picture, self.source.folders, self.source.decoding.outside)
            return pixels_of(content, self.resolution, self.channels, self.source.decoding), condition
        except UnreadableError as error:
            self.refuse(sample, error)
            return None

    def refuse(self, sample: Sample, error: Exception) -> None:
        """Counts an unreadable picture, once however often it comes by."""
        problem = f"row {sample.row:,} of {sample.shard} cannot be read ({error})"
        if problem not in self.source.problems:
            self.source.problems.append(problem)


def mirrored(images_BCRR: Tensor, seed: int, positions: Sequence[int]) -> Tensor:
    """Images, mirrored at about half of the positions."""
    flipped = [row for row, position in enumerate(positions) if seed_for("flip", seed, position) % 2]
    mirrored_BCRR = images_BCRR.clone()
    mirrored_BCRR[flipped] = images_BCRR[flipped].flip(-1)
    return mirrored_BCRR


def drawn_views(manifest: Manifest, hflip: bool, seed: int, positions: Sequence[int]) -> list[int]:
    """The view at each position; of two, by the number that also decides whether an image is mirrored."""
    views = manifest.views // 2 if manifest.flip and not hflip else manifest.views
    return [seed_for("flip", seed, position) % views if views > 1 else 0 for position in positions]


def cached_name(manifest: Manifest) -> str:
    """What a batch calls the entries of a cache."""
    return "moments" if manifest.content == "moments" else "latents"


def training_data(
    source: Source, resolution: int, channels: int, seed: int, hflip: bool, layout: Layout, balance: bool = False
) -> tuple[Dataset[Any], SeekableSampler | PositionSampler]:
    """The batches of a source (images, or what a cache holds of them) and the order in which they are read.

    UsageError where classes are to be `balance`d that are not known beforehand.
    """
    if balance and (isinstance(source, StreamSource) or source.condition != "class"):
        raise UsageError(f"balance=true needs the class of every image, which data {source.name!r} does not tell.")
    if isinstance(source, StreamSource):
        return StreamData(source, layout, resolution, channels, seed, hflip), PositionSampler()
    sampler = SeekableSampler(len(source), seed=seed, together=layout.batch)
    if balance:
        classes = [int(source.condition_of(row)) for row in range(len(source))]
        sampler = BalancedSampler(classes, seed=seed, together=layout.batch)
    if isinstance(source, CacheSource):
        return CachedData(source, seed, hflip), sampler
    return TrainingData(source, resolution, channels, seed, hflip), sampler
