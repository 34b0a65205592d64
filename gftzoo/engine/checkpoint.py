"""Checkpoints that cannot be half: a folder written beside, flushed and renamed, of safetensors and plain JSON.

`checkpoints/step-00001000/` holds card.json, raw.safetensors, ema.safetensors (if there is an average),
optimizer.safetensors and state.json. Anything that `gftzoo.load` reads is complete in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from gftzoo.engine.ema import EMA, local
from gftzoo.engine.loop import whole
from gftzoo.errors import GftzooError
from gftzoo.model import Model
from gftzoo.weights import check_fit, write_card

STATE_FILE = "state.json"
_NAME = re.compile(r"step-(\d+)$")


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor on the CPU (every rank must call it), or a CPU copy of the tensor."""
    return whole(tensor).detach().cpu().contiguous()


def optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors, `parameter name/state name`."""
    return {
        f"{name}/{key}": full(torch.as_tensor(value))
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Takes up a saved optimizer state."""
    for name, parameter in network.named_parameters():
        prefix = f"{name}/"
        saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if saved:
            optimizer.state[parameter] = {key: _like(parameter, key, value) for key, value in saved.items()}


def _like(parameter: Tensor, key: str, value: Tensor) -> Tensor:
    """A step counter stays on the CPU; moments go to the parameter's device and, if it is sharded, are sharded too."""
    return value.clone() if value.ndim == 0 and key == "step" else distributed_like(parameter, value)


def distributed_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value`, a whole tensor, where and sharded as `parameter` is."""
    value = value.to(parameter.device)
    if not isinstance(parameter.data, DTensor):
        return value
    return distribute_tensor(value, parameter.data.device_mesh, parameter.data.placements)


def collect(model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors of a checkpoint, one file after the other, so that memory holds one at a time; for every rank.

    On a CPU they are the live tensors and not copies: a file must be written before the next is asked for.
    """
    yield "raw", {name: full(value) for name, value in model.network.state_dict().items()}
    yield "optimizer", optimizer_tensors(model.network, optimizer)
    if ema is not None:
        with ema.swapped_in():
            yield "ema", {name: full(value) for name, value in model.network.state_dict().items()}


def write(run: Path, model: Model, files: Iterable[tuple[str, Mapping[str, Tensor]]], state: Mapping[str, Any]) -> Path:
    """Writes one checkpoint; afterwards it is there whole, or the older ones are as they were.

    Raises GftzooError if the disk is full or the folder cannot be written.
    """
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in files:
            metadata = {"model": model.card.name, "entry": name, "step": str(state["step"])}
            save_file(_unshared(tensors), partial / f"{name}.safetensors", metadata=metadata)
        write_card(model.card, partial, {**model.provenance, "run": run.name, "step": state["step"]})
        (partial / STATE_FILE).write_text(json.dumps(dict(state), indent=1) + "\n", encoding="utf-8")
        for path in [*partial.iterdir(), partial]:
            _flush(path)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _flush(folder.parent)
    except Exception as error:  # safetensors wraps a full disk in an error type of its own
        shutil.rmtree(partial, ignore_errors=True)
        kept = newest(run)
        after = f"the run can go on from {kept.name} once there is room" if kept else "nothing was saved yet"
        raise GftzooError(f"checkpoint {str(folder)!r} could not be written ({error}); {after}.") from error
    return folder


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors refuses tensors that share storage (tied weights): each gets its own."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def all_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if _NAME.match(path.name)]
    return sorted((p for p in found if (p / STATE_FILE).is_file()), key=lambda p: int(p.name[5:]))


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return next(reversed(all_checkpoints(run)), None)


def prune(run: Path, keep_last: int, keep_every: int | None) -> None:
    """Removes old checkpoints after a newer one is safe; multiples of `keep_every` stay."""
    for path in all_checkpoints(run)[:-keep_last]:
        if not keep_every or int(path.name[5:]) % keep_every:
            shutil.rmtree(path)


def read_state(folder: Path) -> dict[str, Any]:
    """The small state file; GftzooError if it is damaged."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state["step"] = int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GftzooError(
            f"{str(folder / STATE_FILE)!r} is damaged; remove the folder to use an older checkpoint."
        ) from error
    return state


def restore(folder: Path, model: Model, optimizer: torch.optim.Optimizer, ema: EMA | None) -> int:
    """Loads a checkpoint into everything that trains; returns its step. GftzooError if a file is damaged."""
    state = read_state(folder)
    tensors = {name: _read(folder / f"{name}.safetensors") for name in ("raw", "optimizer")}
    check_fit(model.network, tensors["raw"], str(folder))
    set_model_state_dict(model.network, dict[str, Any](tensors["raw"]), options=StateDictOptions(full_state_dict=True))
    load_optimizer(model.network, optimizer, tensors["optimizer"])
    if ema is not None:
        saved = _read(folder / "ema.safetensors")
        ema.load({n: local(distributed_like(p, saved[n])) for n, p in model.network.named_parameters()})
    return int(state["step"])


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:
        raise GftzooError(
            f"{str(path)!r} is damaged ({error}); remove its folder to use an older checkpoint."
        ) from error
