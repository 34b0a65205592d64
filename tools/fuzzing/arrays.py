"""Images and statistics in npz files that are scored."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path

import numpy as np

from fuzzing.target import SilentChangeError, Target
from gftzoo.evaluate.npz import npz_batches, npz_names, npz_shape, npz_statistics


class NpzTarget(Target):
    """ADM's layout, stored and compressed: images, statistics, and both."""

    @cached_property
    def valid(self) -> list[tuple[str, bytes]]:
        random = np.random.default_rng(0)
        images = {"arr_0": random.integers(0, 255, (5, 6, 7, 3), dtype=np.uint8), "arr_1": np.arange(5)}
        statistics = {
            "mu": np.zeros(4),
            "sigma": np.eye(4),
            "mu_s": np.ones(3),
            "sigma_s": np.asfortranarray(np.eye(3)),
        }
        parts = ((np.savez, images), (np.savez_compressed, images), (np.savez, statistics))
        return [packed(write, arrays) for write, arrays in (*parts, (np.savez_compressed, {**images, **statistics}))]

    def seeds(self) -> list[tuple[str, bytes]]:
        return self.valid

    def read(self, path: Path) -> None:
        names, statistics = npz_names(path), npz_statistics(path)
        if not statistics.keys() <= names:
            raise SilentChangeError(f"{statistics.keys()} are read of {names}")
        if "arr_0" in names:
            count, height, width, _ = npz_shape(path)
            shapes = [tuple(batch.shape) for batch in npz_batches(path)]
            if sum(shape[0] for shape in shapes) != count or any(shape[1:] != (3, height, width) for shape in shapes):
                raise SilentChangeError(f"batches of {shapes} and a header of {count} x {height} x {width}")


def packed(write, arrays: dict[str, np.ndarray]) -> tuple[str, bytes]:
    file = io.BytesIO()
    write(file, **arrays)
    return ".npz", file.getvalue()
