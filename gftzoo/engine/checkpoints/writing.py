"""A checkpoint written beside, flushed and renamed: it is there whole, or the older ones are as they were."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gftzoo import checksums
from gftzoo.engine.checkpoints.kept import discard, newest
from gftzoo.engine.checkpoints.tensors import gathered, live, write_sharded
from gftzoo.engine.parallel.ranks import any_rank
from gftzoo.engine.step.ema import EMA
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process
from gftzoo.model import Model
from gftzoo.systems import flush
from gftzoo.weights import metadata_of, trained_further, write_card


def write(
    run: Path,
    model: Model,
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    state: Mapping[str, Any],
    sharded: bool = False,
) -> Path:
    """Writes one checkpoint; afterwards it is there whole, or the older ones are as they were. For every rank.

    Args:
        run: the run's folder; all ranks see the same one.
        model: what trains, with `optimizer` and `ema`.
        state: plain data; its `step` names the checkpoint.
        sharded: every rank writes its own part, and nothing is gathered.

    Raises:
        GftzooError: on every rank, if the disk is full or the folder cannot be written.
    """
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    partial = folder.with_name(f".partial-{folder.name}")
    problem: Exception | None = _make_folder(partial) if is_main_process() else None
    if not any_rank(problem is not None):
        try:
            _write_tensors(partial, model, optimizer, ema, sharded)
            if is_main_process():
                write_card(model.card, partial, trained_further(model.provenance, run=run.name, step=state["step"]))
                checksums.seal(partial, state)
                _put_in_place(partial, folder)
        except Exception as error:  # safetensors wraps a full disk in an error type of its own
            problem = error
    if any_rank(problem is not None):
        shutil.rmtree(partial, ignore_errors=True)
        raise GftzooError(_not_written(run, folder, problem)) from problem
    return folder


def _make_folder(partial: Path) -> OSError | None:
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        return error
    return None


def _write_tensors(
    partial: Path, model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None, sharded: bool
) -> None:
    problem: Exception | None = None
    for kind, tensors in live(model, optimizer, ema):
        if sharded:
            write_sharded(partial, kind, tensors)
            continue
        complete = gathered(tensors)  # on every rank, also after a problem: the others wait for it
        if is_main_process() and problem is None:
            try:
                about = metadata_of(model.card, kind, model.provenance)
                save_file(complete, partial / f"{kind}.safetensors", metadata=about)
            except Exception as error:
                problem = error
    if problem is not None:
        raise problem


def _put_in_place(partial: Path, folder: Path) -> None:
    for path in [*partial.rglob("*"), partial]:
        flush(path)
    discard(folder)
    partial.rename(folder)
    flush(folder.parent)


def _not_written(run: Path, folder: Path, problem: Exception | None) -> str:
    kept = newest(run)
    after = f"the run can go on from {kept.name} once there is room" if kept else "nothing was saved yet"
    why = str(problem or "another rank failed").strip().splitlines() or [type(problem).__name__]
    return f"checkpoint {str(folder)!r} could not be written ({why[-1]}); {after}."
