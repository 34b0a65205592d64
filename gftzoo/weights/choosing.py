"""Which state dict of a file is read: raw or averaged, whatever containers and prefixes are around it."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights.containers import Held, Kind, meaning_of, search
from gftzoo.weights.names import Entry, file_entry, folder_entry, role
from gftzoo.weights.plain import holds_tensors

LISTED = 8  # names in a message


@dataclass(frozen=True)
class Tensors:
    """A flat state dict, and what it is.

    Args:
        tensors: without prefixes and counters.
        entry: `raw`, `ema`, or `bare` where the file holds one state dict and does not say which.
        container: where in the file it was, e.g. `trainer.var_wo_ddp`; empty for the file itself.
        beside: the raw weights of the same file where `tensors` is an average, which may lack what is not trained.
    """

    tensors: Mapping[str, Tensor]
    entry: Kind
    container: str = ""
    beside: Mapping[str, Tensor] = field(default_factory=dict)


def choose(
    path: Path,
    file: Mapping[Any, Any],
    entry: Entry | None,
    expected: Collection[str] = (),
    told: Entry | None = None,
) -> Tensors:
    """The state dict of a file: the average where there is one, or what `entry` says.

    Args:
        path: for messages; its name tells what a file with one state dict holds (`ema.safetensors`, `ema_unet/`).
        file: as read, with containers in containers.
        entry: `raw`, `ema` or None.
        expected: names of the network's tensors, which are never taken for a wrapper's prefix.
        told: what the file says of itself, if it does.

    Raises:
        GftzooError: no tensors, none under a known name, or what may be an average under an unknown one.
        UsageError: the file lacks the entry, or holds several.
    """
    try:
        found = search(file, expected)
    except GftzooError as error:
        raise GftzooError(f"{str(path)!r} cannot be understood: {error}") from error
    alone = len(found.held) == 1 and not found.suspects  # else the file itself holds more than its name says
    held = [_told_by_name(path, found.held[0], told)] if alone else found.held
    if not held and not found.suspects:
        raise GftzooError(_nothing(path, file))
    averages = [each for each in held if each.kind == "ema"]
    others = [each for each in held if each.kind != "ema"]
    if found.suspects and not averages and (entry != "raw" or not held):
        raise GftzooError(_not_understood(path, file, found.suspects, others))
    if entry == "ema" or (entry is None and averages):
        chosen = _only(path, averages, "ema", others)
        beside = others[0].tensors if len(others) == 1 else {}
        return Tensors(chosen.tensors, "ema", chosen.container, beside)
    chosen = _only(path, _outside_averages(others), "raw", averages)
    return Tensors(chosen.tensors, chosen.kind, chosen.container)


def _told_by_name(path: Path, held: Held, told: Entry | None) -> Held:
    """The only state dict of a file, as what the file, its name or its folder's says where its keys do not.

    A `state_dict` or `model` without an average beside it says nothing: Stable Diffusion's `-emaonly.ckpt` has one.
    """
    silent = held.kind != "ema" and all(meaning_of(name) == "plain" for name in held.where)
    told = told or file_entry(path.stem) or folder_entry(path.parent.name) or _beside_raw(path)
    return replace(held, kind=told) if silent and told else held


def _beside_raw(path: Path) -> Entry | None:
    """`ema` for a file with one called `non_ema` beside it, as Stable Diffusion's folders have."""
    return "ema" if any(path.parent.glob(f"{glob.escape(path.name.partition('.')[0])}.non_ema.*")) else None


def _outside_averages(held: Sequence[Held]) -> Sequence[Held]:
    """Without the raw weights that are kept inside an average, unless there are no others."""
    return [each for each in held if not any(role(name) == "ema" for name in each.where)] or held


def _only(path: Path, held: Sequence[Held], entry: Entry, others: Sequence[Held]) -> Held:
    what = {"ema": "EMA weights", "raw": "raw weights"}
    if len(held) == 1:
        return held[0]
    if held:
        places = listed([each.container for each in held])
        raise UsageError(f"{str(path)!r} holds {what[entry]} more than once, as {places}; save one of them alone.")
    other: Entry = "raw" if entry == "ema" else "ema"
    only = f", only {listed([each.container for each in others])}" if others and others[0].container else ""
    raise UsageError(f"{str(path)!r} has no {what[entry]}{only}; use --entry {other}.")


def _not_understood(path: Path, file: Mapping[Any, Any], suspects: Sequence[str], others: Sequence[Held]) -> str:
    hint = f"; --entry raw takes {others[0].container or 'the other tensors'!r}" if others else ""
    return (
        f"{str(path)!r} has {listed(suspects)}, which may be an average of the weights and is not understood{hint}; "
        f"the file holds {listed(list(file))}, and averages are known as ema, model_ema, state_dict_ema and the like."
    )


def _nothing(path: Path, file: Mapping[Any, Any]) -> str:
    if not holds_tensors(file):
        return f"{str(path)!r} holds no tensors; it is not a checkpoint."
    return (
        f"{str(path)!r} holds {listed(list(file))}, and no state dict, of names with a tensor each, where weights are "
        "looked for (model, state_dict, module, params, ema, ...); save it alone, or under one of these names."
    )


def listed(names: Sequence[Any]) -> str:
    """Names from a file as people may read them."""
    some = ", ".join(repr(str(name)[:80]) for name in names[:LISTED])
    return f"{some} and {len(names) - LISTED} more" if len(names) > LISTED else some
