"""What every data loading process reads of a stream, as a function of the position in the run.

The shards of a stream are dealt to lanes, one for each process that loads data. A lane goes through its shards again
and again, in another order every pass, in blocks whose samples are shuffled: position p of the run is always the same
sample as long as ranks, workers and batch are the same, so that a resumed run needs no saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """The endless, shuffled samples of some shards.

    Args:
        shards: URLs.
        read: the samples of a shard from a row on.
        rows: how many samples a shard has; only asked where a run goes on behind the first block.
        size: samples of a block.
    """

    def __init__(
        self,
        shards: list[str],
        read: Callable[[str, int], Iterator[Any]],
        rows: Callable[[str], int],
        seed: int,
        lane: int,
        size: int,
    ) -> None:
        self.shards, self.read, self.rows, self.size = shards, read, rows, size
        self.key = (seed, lane)
        self._block, self._samples, self._order = -1, list[Sample](), list[int]()
        self._rest: Iterator[Sample] = iter(())

    def __getitem__(self, offset: int) -> Sample:
        return self.block(offset // self.size)[self._order[offset % self.size]]

    def block(self, number: int) -> list[Sample]:
        """The samples of a block before they are shuffled."""
        if number != self._block:
            if number != self._block + 1 or number == 0:
                self._rest = self.samples(number * self.size)
            self._samples = list(islice(self._rest, self.size))
            stream = torch.Generator().manual_seed(seed_for("block", *self.key, number))
            self._order = torch.randperm(self.size, generator=stream).tolist()
            self._block = number
        return self._samples

    def samples(self, start: int) -> Iterator[Sample]:
        """All samples from number `start` on, one pass after the other."""
        epoch = 0
        if start >= self.size:
            length = sum(self.rows(shard) for shard in self.shards)
            self._refuse_empty(length)
            epoch, start = divmod(start, length)
        while True:
            found = 0
            for shard in self.pass_order(epoch):
                if start and start >= (rows := self.rows(shard)):
                    start, found = start - rows, found + rows
                    continue
                for row, value in enumerate(self.read(shard, start), start):
                    found += 1
                    yield Sample(shard, row, value)
                start = 0
            self._refuse_empty(found)
            epoch += 1

    def pass_order(self, epoch: int) -> list[str]:
        """The shards in the order of a pass."""
        stream = torch.Generator().manual_seed(seed_for("shards", *self.key, epoch))
        return [self.shards[index] for index in torch.randperm(len(self.shards), generator=stream).tolist()]

    def _refuse_empty(self, found: int) -> None:
        if not found:
            raise GftzooError(f"the shards of a data stream hold no samples, e.g. {self.shards[0]!r}.")
