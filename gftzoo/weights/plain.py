"""Plain data around weights, searched for tensors: an optimizer's state, a callback's, options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch import Tensor

from gftzoo.weights.names import role

Path = tuple[str, ...]
NODES = 100_000  # looked at in search of a tensor; files of people have some hundreds


def averages_within(value: Any, where: Path) -> list[str]:
    """Places of tensors in plain data whose name may mean an average: a callback's, an optimizer's."""
    return [
        ".".join(place)
        for place, each in _walk(value, where)
        if len(place) > len(where) and averaged_name(place[-1]) and holds_tensors(each)
    ]


def averaged_name(name: str) -> bool:
    """Whether a key says that it holds an average; the names of tensors, which have dots, do not."""
    return "." not in name and role(name) in ("ema", "suspect")


def holds_tensors(value: Any) -> bool:
    """Whether there is a tensor of more than one number in plain data."""
    return any(isinstance(each, Tensor) and each.numel() > 1 for _, each in _walk(value))


def _walk(value: Any, where: Path = ()) -> Iterator[tuple[Path, Any]]:
    """A value and what is in it, with places, up to NODES of them: files may hold themselves."""
    waiting, seen = [(where, value)], 0
    while waiting and seen < NODES:
        place, each = waiting.pop()
        seen += 1
        yield place, each
        children: Iterable[tuple[Any, Any]] = ()
        if isinstance(each, Mapping):
            children = each.items()
        elif isinstance(each, list | tuple):
            children = enumerate(each)
        waiting.extend(((*place, str(key)[:80]), child) for key, child in islice(children, NODES))
