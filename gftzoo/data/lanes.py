"""What every data loading process reads of a stream, as a function of the position in the run.

The shards of a stream are dealt to lanes, one for each process that loads data. A lane goes through its shards again
and again, in another order every pass, in blocks whose samples are shuffled: position p of the run is always the same
sample as long as ranks, workers and batch are the same, so that a resumed run needs no saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch

from gftzoo.errors import GftzooError, UsageError
from gftzoo.generator import seed_for


@dataclass(frozen=True)
class Layout:
    """How a run shares its data: `workers` loading processes (at least 1) on each of `world` ranks, `batch` at once.

    `block` samples are shuffled together, and held in memory by each process.
    """

    world: int
    workers: int
    batch: int
    block: int = 1024

    @property
    def lanes(self) -> int:
        """Processes that load data."""
        return self.world * self.workers

    def place(self, position: int) -> tuple[int, int]:
        """The lane of a position of the run, and the sample's number in it.

        Ranks take turns with positions and the workers of a rank with batches, as `DataLoader` deals them.
        """
        index, rank = divmod(position, self.world)
        number, inside = divmod(index, self.batch)
        turn, worker = divmod(number, self.workers)
        return rank * self.workers + worker, turn * self.batch + inside

    def check(self, name: str, shards: int) -> None:
        """UsageError if there is a process without a shard."""
        if shards < self.lanes:
            raise UsageError(
                f"data {name!r} has {shards} shards for {self.world} ranks with {self.workers} workers each, which "
                f"need at least {self.lanes}; use -o workers={shards // self.world}, fewer ranks or more shards."
            )


class Sample(NamedTuple):
    """What a shard holds in a row."""

    shard: str
    row: int
    value: Any


class Lane:
    """The endless, shuffled samples of some shards; those that cannot be read are none.

    Args:
        shards: URLs.
        read: the values of a shard from a row on.
        rows: how many values a shard has; only asked where a run goes on behind the first block.
        size: samples of a block.
        decode: makes of a value what a sample holds, or None of one that cannot be read.
        unreadable: the rows of a shard that cannot be read; asked where `rows` is.
        passed: told of a shard read from its first row to its last, of their number and of those that cannot be read.
    """

    def __init__(
        self,
        shards: list[str],
        read: Callable[[str, int], Iterator[Any]],
        rows: Callable[[str], int],
        seed: int,
        lane: int,
        size: int,
        decode: Callable[[Sample], Any] = lambda sample: sample.value,
        unreadable: Callable[[str], Collection[int]] = lambda _: (),
        passed: Callable[[str, int, list[int]], None] = lambda *_: None,
    ) -> None:
        self.shards, self.read, self.rows, self.size = shards, read, rows, size
        self.decode, self.unreadable, self.passed = decode, unreadable, passed
        self.key = (seed, lane)
        self._block, self._samples, self._order = -1, list[Sample | None](), list[int]()
        self._rest: Iterator[Sample] = iter(())
        self._ahead: list[Sample] = []

    def __getitem__(self, offset: int) -> Sample:
        number, inside = divmod(offset, self.size)
        if number != self._block or self._samples[self._order[inside]] is None:
            self._fill(number)
        place = self._order[inside]
        sample, self._samples[place] = self._samples[place], None  # a block is held once: what is used makes room
        if len(self._ahead) < self.size:  # for the next one, which so costs no pause
            self._ahead.append(next(self._rest))
        assert sample is not None
        return sample

    def _fill(self, number: int) -> None:
        """Takes up a block: the next one, or any."""
        if number != self._block + 1 or number == 0:
            self._rest, self._ahead = self.samples(number * self.size), []
        self._samples = [*self._ahead, *islice(self._rest, self.size - len(self._ahead))]
        stream = torch.Generator().manual_seed(seed_for("block", *self.key, number))
        self._order = torch.randperm(self.size, generator=stream).tolist()
        self._block, self._ahead = number, []

    def samples(self, start: int) -> Iterator[Sample]:
        """All samples from number `start` on, one pass after the other."""
        epoch = 0
        while True:
            found = 0
            for shard in self.pass_order(epoch):
                rows = self.readable(shard) if start else range(1)
                if start and start >= len(rows):
                    start, found = start - len(rows), found + len(rows)
                    continue
                found += start
                for sample in self.of_shard(shard, rows[start]):
                    found += 1
                    yield sample
                start = 0
            if not found:
                raise GftzooError(
                    f"the shards of a data stream hold no samples that can be read, e.g. {self.shards[0]!r}."
                )
            epoch, start = epoch + 1 + start // found, start % found

    def of_shard(self, shard: str, first: int) -> Iterator[Sample]:
        """The samples of a shard from a row on."""
        unreadable, row = list[int](), first - 1
        for row, value in enumerate(self.read(shard, first), first):
            decoded = self.decode(Sample(shard, row, value))
            if decoded is None:
                unreadable.append(row)
            else:
                yield Sample(shard, row, decoded)
        if not first:
            self.passed(shard, row + 1, unreadable)

    def readable(self, shard: str) -> Sequence[int]:
        """The rows of a shard that can be read."""
        without = self.unreadable(shard)
        return [row for row in range(self.rows(shard)) if row not in without] if without else range(self.rows(shard))

    def pass_order(self, epoch: int) -> list[str]:
        """The shards in the order of a pass."""
        stream = torch.Generator().manual_seed(seed_for("shards", *self.key, epoch))
        return [self.shards[index] for index in torch.randperm(len(self.shards), generator=stream).tolist()]
