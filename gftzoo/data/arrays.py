"""Sources that lie in memory as one array: whole batches are one index operation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gftzoo.data.sources import Source, Split

HELD_OUT_OF = 3  # every third image of a class


class ArraySource(Source):
    """Images (N, H, H) or (N, H, H, 3), uint8, with one class index or caption each.

    `groups` are the class indices of images with captions.
    """

    def __init__(
        self,
        name: str,
        pixels: NDArray[np.uint8],
        conditions: Sequence[int] | Sequence[str],
        class_names: tuple[str, ...] = (),
        mirrorable: bool = True,
        groups: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.name, self.class_names, self.mirrorable = name, class_names, mirrorable
        self.condition = "class" if class_names and not groups else "text"
        self.channels = 1 if pixels.ndim == 3 else 3
        self.size = int(pixels.shape[1])
        self.conditions: list[int | str] = [*conditions]
        self.groups = groups
        stacked = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        self.pixels_NCHW = torch.from_numpy(np.ascontiguousarray(stacked))
        digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + repr([*self.conditions, *groups]).encode())
        self.fingerprint = digest.hexdigest()[:16]
        self._resized = lru_cache(maxsize=2)(self._resize)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to a process that is started, and not forked, without what it keeps for the next batch."""
        state = {name: value for name, value in vars(self).items() if name != "_resized"}
        return _revived, (type(self), state)

    def __len__(self) -> int:
        return len(self.conditions)

    def condition_of(self, row: int) -> int | str:
        return self.conditions[row]

    def class_of(self, row: int) -> int:
        return int(self.groups[row] if self.groups else self.conditions[row])

    def image(self, row: int, resolution: int, channels: int) -> Tensor:
        return self._resized(resolution, channels)[row]

    def images(self, rows: Sequence[int], resolution: int, channels: int) -> Tensor:
        return self._resized(resolution, channels)[torch.as_tensor(rows, dtype=torch.int64)]

    def _resize(self, resolution: int, channels: int) -> Tensor:
        """All images at another size (bicubic, antialiased) and number of channels, kept for the next batch."""
        images_NCHW = self.pixels_NCHW
        if resolution != self.size:
            parts = [
                F.interpolate(part.float(), (resolution, resolution), mode="bicubic", antialias=True)
                for part in images_NCHW.split(1024)
            ]
            images_NCHW = torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])
        return with_channels(images_NCHW, channels)


def _revived(kind: type[ArraySource], state: dict[str, Any]) -> ArraySource:
    source = kind.__new__(kind)
    vars(source).update(state)
    source._resized = lru_cache(maxsize=2)(source._resize)
    return source


def with_channels(images_BCHW: Tensor, channels: int) -> Tensor:
    """Grey to colour by repetition, colour to grey by the luma weights of ITU-R 601."""
    have = images_BCHW.shape[-3]
    if have == channels:
        return images_BCHW
    if have == 1:
        return images_BCHW.expand(*images_BCHW.shape[:-3], 3, -1, -1).contiguous()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (images_BCHW.float() * weights).sum(-3, keepdim=True).round().to(torch.uint8)


def stratified(labels: Sequence[int] | NDArray[np.int64], split: Split) -> NDArray[np.int64]:
    """Rows of a split: within each class every third image is held out, whatever the order of the classes."""
    rows = np.arange(len(labels))
    if split == "all":
        return rows
    counts: dict[int, int] = {}
    held = np.zeros(len(labels), dtype=bool)
    for row, label in enumerate(int(x) for x in labels):
        counts[label] = counts.get(label, 0) + 1
        held[row] = counts[label] % HELD_OUT_OF == 0
    return rows[held] if split == "held-out" else rows[~held]
