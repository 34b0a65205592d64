"""Commands whose work the ranks of torchrun share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gftzoo.group import process_group, told_of_lost_ranks, told_of_the_end

AGAIN = "give the same command again; what is finished of an .npz, a sweep or a cache is not done twice"


@contextmanager
def over_ranks(device: str) -> Iterator[None]:
    """The work of a command on this rank; the end of one of them ends all, with a sentence."""
    with told_of_the_end(AGAIN), process_group(device), told_of_lost_ranks(AGAIN):
        yield
