"""A checkpoint taken up again: verified, compared with what is to be trained, and read into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo import checksums
from gftzoo.adapters import adapter_of
from gftzoo.catalogue.cards import ModelCard
from gftzoo.checksums import DamagedError, advice
from gftzoo.engine.checkpoints.moments import check_moments
from gftzoo.engine.checkpoints.tensors import Named, empty_optimizer, fill, live, not_finite, shapes
from gftzoo.engine.parallel.ranks import any_rank
from gftzoo.engine.step.counting import go_on
from gftzoo.engine.step.ema import EMA
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.weights import check_fit, read_card

IDENTITY = ("name", "family", "network", "tokenizer", "resolution", "condition", "classes", "temperature")


def restore(folder: Path, model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None) -> dict[str, Any]:
    """Loads a checkpoint, however many ranks wrote it, into everything that trains; returns its state. For every rank.

    Raises:
        DamagedError: a file is not what was written, or not what a checkpoint holds; the newest sound one is named.
        GftzooError: it belongs to another network.
    """
    problem = _problem(folder, model.card) if is_main_process() else None
    if any_rank(problem is not None):
        raise problem or GftzooError(f"the main process could not use {str(folder)!r}.")
    try:
        beside = model.network.state_dict() if adapter_of(model) else {}
        check_fit(model.network, {**beside, **shapes(folder, "raw")}, str(folder))
        saved = shapes(folder, "optimizer")
        check_moments(saved, model.network, optimizer)
        empty_optimizer(model.network, optimizer, saved)
        for kind, tensors in live(model, optimizer, ema):
            _check_types(kind, tensors, shapes(folder, kind))
            fill(tensors, folder, kind)
        state = checksums.read_state(folder).model_dump()
        go_on(optimizer, state["optimizer"])
    except GftzooError:
        raise
    except Exception as error:  # damage shows in many types of error
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise _unusable(folder, why[-1]) from error
    broken = not_finite(model, optimizer, ema)
    if any_rank(broken is not None):
        raise _unusable(folder, f"tensor {broken} holds what is no number" if broken else "another rank cannot read it")
    return state


def _problem(folder: Path, card: ModelCard) -> GftzooError | None:
    try:
        checksums.verify(folder)
        there, _ = read_card(folder)
    except GftzooError as error:
        return error
    for field in IDENTITY:
        if getattr(there, field) != getattr(card, field):
            return _unusable(folder, f"its card has another {field} than the run's configuration")
    return None


def _unusable(folder: Path, why: str) -> DamagedError:
    return DamagedError(f"{str(folder)!r} is damaged ({why}); {advice(folder)}.")


def _check_types(kind: str, tensors: Named, saved: Mapping[str, Tensor]) -> None:
    """ValueError for a tensor that is missing or of another type or shape than what trains."""
    for name, tensor in tensors.items():
        if name not in saved:
            raise ValueError(f"{kind} lacks tensor {name!r}")
        found = saved[name]
        if found.dtype != tensor.dtype or found.shape != tensor.shape:
            raise ValueError(f"tensor {name!r} of {kind} is {found.dtype} {tuple(found.shape)} and not {tensor.dtype}")
