"""`fashion-mnist`: 70,000 grey 28x28 pictures of clothes, where Debian's `dataset-fashion-mnist` installs them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gftzoo.data.arrays import ArraySource
from gftzoo.data.sources import Opener, Source, Split
from gftzoo.errors import GftzooError

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def open_fashion(_: str, split: Split) -> Source:
    """The 60,000 training images, the 10,000 test images (held out), or both."""
    folder = Path(os.environ.get("GFTZOO_FASHION_MNIST", FOLDER))
    parts = {"train": ["train"], "held-out": ["t10k"], "all": ["train", "t10k"]}[split]
    try:
        pixels = np.concatenate([read_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in parts])
        labels = np.concatenate([read_idx(folder / f"{part}-labels-idx1-ubyte.gz") for part in parts])
    except FileNotFoundError as error:
        raise GftzooError(
            f"fashion-mnist is not at {str(folder)!r}; install Debian's package (`apt install dataset-fashion-mnist`) "
            "or set GFTZOO_FASHION_MNIST to the folder with its four .gz files."
        ) from error
    return ArraySource("fashion-mnist", pixels, labels.astype(np.int64).tolist(), CLASSES)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes; GftzooError if it is damaged."""
    try:
        with gzip.open(path) as file:
            raw = file.read()
        shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise GftzooError(f"{str(path)!r} is damaged ({error}).") from error


FASHION_MNIST = Opener(open_fashion)
