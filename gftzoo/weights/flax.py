"""Files of Flax (`flax.serialization.to_bytes`): one msgpack tree of arrays, read without Flax or JAX.

Nothing in such a file can be executed: an array is a shape, the name of a type and bytes, and all three are checked.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgpack
import torch
from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.printing import plain

ARRAY, SCALAR = 1, 3  # Flax's extension types; 2, a complex number, is no weight
CHUNKED = "__msgpack_chunked_array__"  # marks an array of more than 2^30 bytes, which is kept in pieces
MOST_DIMENSIONS = 16
DEEPEST = 32  # of the tree
TYPES: Final[Mapping[str, torch.dtype]] = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
# A map of 1 to 15 entries, or of more. 0x80, the empty one, is also how a pickle starts.
MAPS = frozenset([*range(0x81, 0x90), 0xDE, 0xDF])


def is_flax(path: Path) -> bool:
    """By content, since the official files have no suffix: the first byte is that of a msgpack map."""
    with path.open("rb") as file:
        start = file.read(1)
    return bool(start) and start[0] in MAPS


def read_flax(path: Path) -> dict[str, Tensor]:
    """The arrays of a file under their names in the tree, joined by dots; numbers and text beside them are left out.

    Raises GftzooError if it is truncated, no file of Flax, or an array's bytes are not what its shape says.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            tree = msgpack.unpackb(data, ext_hook=partial(_extension, msgpack.unpackb), strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        # msgpack's own errors are ValueErrors but for those of a buffer that ends too soon
        reason = plain(str(error) or type(error).__name__, 160)
        raise GftzooError(f"{str(path)!r} is truncated or no file of Flax ({reason}).") from error
    found: dict[str, Tensor] = {}
    for name, tensor in _arrays(tree, path):
        if name in found:
            raise GftzooError(f"{str(path)!r} holds array {plain(name, 160)!r} twice, once with dots for branches.")
        found[name] = tensor
    return found


def _extension(unpacked: Callable[[bytes], Any], code: int, data: bytes) -> Any:
    """An array or a numpy scalar; ValueError for anything else."""
    if code not in (ARRAY, SCALAR):
        raise ValueError(f"extension type {code} is not an array")
    shape, kind, numbers = unpacked(data)
    return _array(shape, kind.decode() if isinstance(kind, bytes) else kind, numbers)


def _array(shape: Any, kind: Any, numbers: Any) -> Tensor:
    sized = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    if not sized or not isinstance(numbers, bytes):
        raise ValueError("an array has no shape or no bytes")
    if kind not in TYPES:
        raise ValueError(f"an array is of type {kind!r}; known are {', '.join(TYPES)}")
    dtype = TYPES[kind]
    if math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"an array of shape {tuple(shape)} and type {kind} has {len(numbers)} bytes")
    # a bytearray, since torch warns of memory that cannot be written to
    return torch.frombuffer(bytearray(numbers), dtype=dtype).view(shape) if numbers else torch.empty(shape, dtype=dtype)


def _arrays(tree: Any, path: Path, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, dict) and CHUNKED in tree:
        yield name, _whole(tree, name, path)
    elif isinstance(tree, dict):
        if depth >= DEEPEST:
            raise GftzooError(f"{str(path)!r} has more than {DEEPEST} branches inside each other; it is no checkpoint.")
        for key, branch in tree.items():
            text = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
            yield from _arrays(branch, path, f"{name}.{text}" if name else text, depth + 1)


def _whole(tree: Mapping[Any, Any], name: str, path: Path) -> Tensor:
    """An array from its pieces: `shape` and `chunks` have the keys 0, 1, ... as text."""
    try:
        shape = [tree["shape"][str(index)] for index in range(len(tree["shape"]))]
        chunks = [tree["chunks"][str(index)].flatten() for index in range(len(tree["chunks"]))]
        return torch.cat(chunks).view(shape)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        name = plain(name, 160)
        raise GftzooError(f"{str(path)!r} holds array {name!r} in pieces that do not fit together.") from error
