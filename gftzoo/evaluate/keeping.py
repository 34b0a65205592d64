"""Where trained feature networks are kept: in the user's cache folder, or in memory where that cannot be written.

A file's name ends in the hash of its content, so that one that is damaged is known from itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from gftzoo.atomic import DiskError, written_whole
from gftzoo.homes import cache_folder

LARGEST = 64 * 2**20  # bytes; a network that is trained in minutes has far fewer
_log = logging.getLogger("gftzoo.evaluate")
_in_memory: dict[str, bytes] = {}


def kept_weights(key: str, make: Callable[[], bytes]) -> bytes:
    """The weights kept under `key`; what `make` returns where there are none, kept from then on.

    A damaged file is made again. Where the folder cannot be written, this process remembers the weights and says so.
    """
    if key in _in_memory:
        return _in_memory[key]
    folder = cache_folder("features")
    found = _read(folder, key)
    if found is not None:
        return found
    weights = make()
    try:
        with written_whole(folder / f"{key}-{_digest(weights)}.safetensors") as partial:
            partial.write_bytes(weights)
    except DiskError as error:
        _log.warning("The trained feature network is kept for this process only: %s", error)
        _in_memory[key] = weights
        return weights
    return _read(folder, key) or weights  # of another process, where two trained it at the same time


def _digest(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()[:16]


def _read(folder: Path, key: str) -> bytes | None:
    """The first whole file of that key; damaged ones are told of and removed."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.startswith(f"{key}-"))
    except OSError:
        return None
    for path in paths:
        try:
            weights = path.read_bytes() if path.stat().st_size <= LARGEST else b""
        except OSError:
            continue
        if path.name == f"{key}-{_digest(weights)}.safetensors":
            return weights
        _log.warning("The feature network %r is damaged and is trained again.", str(path))
        try:
            path.unlink()
        except OSError:  # it is passed over from then on
            continue
    return None
