"""Folding a fixed temperature into the weights of a plain network.

At one beta whatever a temperature adds is a constant, which some bias or table can hold, and an affine read-out is one
matrix: W_c + s W_d with s = 1/beta - 1. Sums are made in float64 and kept in the type of the weights. Suffixes: B
batch, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Slope, is_slope

Tensors = dict[str, Tensor]


def fold(
    network: nn.Module,
    beta: float,
    embeddings: Mapping[str, Sequence[str]],
    readout: str,
    rows: Tensor | None = None,
) -> Tensors:
    """The state dict, on the CPU, of the plain network that predicts what this one predicts at `beta`.

    Args:
        network: with a temperature.
        beta: in (0, 1].
        embeddings: names of modules that embed the temperature, where the network has them, and the keys of the biases
            and tables that what each adds goes into; none for what the caller folds itself.
        readout: prefix of the layer that the slope stands beside.
        rows: booleans (out,) where only some of its outputs are steered; None for all.

    Raises:
        UsageError: the slope has blocks of its own.
    """
    modules = dict(network.named_modules())
    embeds = tuple(f"{name}." for name in embeddings)
    state = network.state_dict()
    tensors = {k: v.detach().cpu() for k, v in state.items() if not is_slope(k) and not k.startswith(embeds)}
    for name, keys in embeddings.items():
        for key in keys if name in modules else ():
            add(tensors, key, constant(modules[name], torch.tensor([beta])))
    slope = next((module for module in modules.values() if isinstance(module, Slope)), None)
    fold_slope(tensors, slope, beta, readout, rows)
    return tensors


def fold_projection(tensors: Tensors, projection: nn.Module, value: Tensor, layer: str) -> None:
    """Adds to a layer's bias, in place, what a projection into that layer's input makes of `value` (1, ...)."""
    add(tensors, f"{layer}.bias", tensors[f"{layer}.weight"].double() @ constant(projection, value.double()))


@torch.no_grad()
def constant(embedding: nn.Module, value: Tensor) -> Tensor:
    """What a module makes of one row (1, ...), without the row (D,), float64."""
    row_D: Tensor = copy.deepcopy(embedding).cpu().double()(value.cpu())[0]
    return row_D


def add(tensors: Tensors, key: str, value: Tensor) -> None:
    """Adds to a tensor, in place of its entry; shapes broadcast."""
    held = tensors[key]
    tensors[key] = (held.double() + value.cpu()).to(held.dtype)


def fold_slope(tensors: Tensors, slope: Slope | None, beta: float, layer: str, rows: Tensor | None = None) -> None:
    """Adds (1/beta - 1) d to the layer that c is read from, in place; nothing without a slope, or at beta = 1.

    Args:
        tensors: a state dict.
        slope: d.
        beta: in (0, 1].
        layer: prefix of that layer's weight and bias.
        rows: booleans (out,) where only some outputs are steered; None for all.

    Raises:
        UsageError: d has blocks of its own, so that it is no linear function of the features.
    """
    if slope is None or beta == 1:
        return
    if slope.blocks:
        raise UsageError(
            f"the slope of this temperature has {len(slope.blocks)} block(s) of its own, which a plain network has no "
            "place for; use it with --beta as it is, or train one with -o network.temperature_blocks=0."
        )
    weight, bias = slope.matrix()
    strength = torch.full((len(weight),), 1 / beta - 1, dtype=torch.float64)
    if rows is not None:
        strength = strength.where(rows, 0.0)
    add(tensors, f"{layer}.weight", strength.view(-1, *[1] * (weight.ndim - 1)) * weight.cpu())
    if bias is not None:
        add(tensors, f"{layer}.bias", strength * bias.cpu())


def settle_rows(tensors: Tensors, layer: str, rows: Tensor, value: float) -> None:
    """Makes some outputs of a layer a constant, in place: what was never trained is not left to chance.

    Args:
        tensors: a state dict.
        layer: prefix of the layer's weight and bias.
        rows: booleans (out,).
        value: what these outputs are from now on.
    """
    weight, bias = tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
    tensors[f"{layer}.weight"] = weight.masked_fill(rows.view(-1, *[1] * (weight.ndim - 1)), 0.0)
    tensors[f"{layer}.bias"] = bias.masked_fill(rows, value)
