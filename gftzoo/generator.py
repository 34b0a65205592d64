"""Randomness that belongs to a sample and not to a batch.

Every random number gftzoo draws for a sample comes from that sample's own stream, keyed by (seed, sample position).
An image therefore does not depend on the batch it was drawn in, a training sample does not depend on the number of
ranks, and a resumed run needs no saved generator state.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def seed_for(*key: object) -> int:
    """A 63-bit seed that is a pure function of `key`, the same on every machine and rank."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & (2**63 - 1)


class SampleGenerator:
    """One random stream per sample; every draw has shape (B, *shape) and row i comes from stream i only.

    Streams live on the CPU, so that the numbers are the same whatever the device; draws are moved to `device`, which
    nothing waits for. What Python itself has to know of them, such as a shape, is drawn from `host`.

    Attributes:
        positions: of the samples in a run, which say how far the training is; 0 outside of a run.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.positions = [0] * len(seeds)
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def for_samples(
        cls, purpose: str, seed: int, positions: Iterable[int], device: torch.device | str = "cpu"
    ) -> SampleGenerator:
        """Streams of the samples at global `positions` of the run with `seed`; `purpose` keeps uses apart."""
        places = [int(position) for position in positions]
        generator = cls([seed_for(purpose, seed, place) for place in places], device)
        generator.positions = places
        return generator

    @property
    def host(self) -> SampleGenerator:
        """The same streams, whose draws stay on the CPU, where looking at one does not wait for a device."""
        same = copy.copy(self)
        same.device = torch.device("cpu")
        return same

    def __len__(self) -> int:
        return len(self.streams)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, shape (B, *shape)."""
        return self._stack(lambda stream: torch.randn(shape, generator=stream))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32, shape (B, *shape)."""
        return self._stack(lambda stream: torch.rand(shape, generator=stream))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high), int64, shape (B, *shape)."""
        return self._stack(lambda stream: torch.randint(high, shape, generator=stream))

    def permutation(self, n: int) -> Tensor:
        """A random order of 0..n-1 for each sample, int64, shape (B, n)."""
        return self._stack(lambda stream: torch.randperm(n, generator=stream))

    def _stack(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return to_device(torch.stack([draw(stream) for stream in self.streams]), self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a GPU copies one of the CPU from pinned memory, while the CPU goes on."""
    pinned = device.type == "cuda" and tensor.device.type == "cpu"
    return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=True)
