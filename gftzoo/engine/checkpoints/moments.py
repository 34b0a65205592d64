"""What each optimizer keeps for a parameter that it has moved, by which a saved state is known to be its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
BLOCK = 256  # numbers of a block of 8-bit moments, and entries of its table
SCALAR: Shape = ()


@dataclass(frozen=True)
class Kept:
    """A tensor of the state: its type, and the shapes that it may have."""

    dtype: torch.dtype
    shapes: tuple[Shape, ...]


def kept(optimizer: torch.optim.Optimizer, shape: Shape, dtype: torch.dtype) -> list[dict[str, Kept]]:
    """The states that an optimizer may have for a parameter of that shape and type."""
    count = torch.Size(shape).numel()
    like, counted = Kept(dtype, (shape,)), Kept(torch.int64, (SCALAR,))
    adam = {"exp_avg": like, "exp_avg_sq": like}
    adamw = {"step": Kept(torch.float32, (SCALAR,)), **adam}
    flat = {"s": Kept(dtype, ((count,),)), "p0": Kept(dtype, ((count,), SCALAR))}
    whole = Kept(torch.float32, (shape,))
    eighths, table = Kept(torch.uint8, (shape,)), Kept(torch.float32, ((BLOCK,),))
    scales = Kept(torch.float32, ((-(-count // BLOCK),),))
    blocks = {"qmap1": table, "qmap2": table, "absmax1": scales, "absmax2": scales}
    states = {
        "AdamW": [adamw],
        "Together": [adamw, {"momentum_buffer": like}],
        "AdamWScheduleFree": [{"z": like, "exp_avg_sq": like, "y": like}],
        "Prodigy": [{"step": counted, **flat, **adam}],
        "AdamW8bit": [
            {"step": counted, "state1": whole, "state2": whole},
            {"step": counted, "state1": eighths, "state2": eighths, **blocks},
        ],
    }
    return states[type(optimizer).__name__]


def check_moments(saved: Mapping[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """ValueError where what was saved of the optimizer is not its state for the parameters of the network."""
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in saved.items():
        name, _, key = full.rpartition("/")
        if name not in trained:
            raise ValueError(f"the optimizer has {full!r}, which is no moment of this network")
        found.setdefault(name, {})[key] = tensor
    if not found:
        raise ValueError("the optimizer has no state")
    for name, tensors in found.items():
        parameter = trained[name]
        states = kept(optimizer, tuple(parameter.shape), parameter.dtype)
        if not any(_is(tensors, state) for state in states):
            raise ValueError(_what_is_wrong(name, tensors, states))


def _is(tensors: Mapping[str, Tensor], state: Mapping[str, Kept]) -> bool:
    return tensors.keys() == state.keys() and all(_fits(tensor, state[key]) for key, tensor in tensors.items())


def _fits(tensor: Tensor, wanted: Kept) -> bool:
    return tensor.dtype == wanted.dtype and tuple(tensor.shape) in wanted.shapes


def _what_is_wrong(name: str, tensors: Mapping[str, Tensor], states: list[dict[str, Kept]]) -> str:
    """The first tensor that is lacking, foreign, or of another type or shape, against the state that is nearest."""
    nearest = max(states, key=lambda state: len(state.keys() & tensors.keys()))
    foreign = next((key for key in tensors if key not in nearest), None)
    if foreign is not None and not nearest.keys() & tensors.keys():
        return f"the optimizer has '{name}/{foreign}', which is no moment of this network"
    lacking = next((key for key in nearest if key not in tensors), foreign)
    if lacking is not None:
        return f"the optimizer lacks '{name}/{lacking}', or has more than one kind of moments of it"
    wrong = next(key for key, tensor in tensors.items() if not _fits(tensor, nearest[key]))
    return f"the optimizer's '{name}/{wrong}' is {tensors[wrong].dtype} of the shape {tuple(tensors[wrong].shape)}"
