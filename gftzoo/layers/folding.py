"""Folding a fixed temperature into the weights of a plain network.

At one beta whatever a temperature adds is a constant, which some bias or table can hold, and an affine read-out is one
matrix: W_c + s W_d with s = 1/beta - 1. Sums are made in float64 and kept in the type of the weights. Suffixes: B
batch, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Slope, is_slope

Tensors = dict[str, Tensor]


def without_temperature(network: nn.Module, embeds: Callable[[str], bool]) -> Tensors:
    """The state dict on the CPU, without the slope and without what embeds the temperature."""
    state = network.state_dict()
    return {key: value.detach().cpu() for key, value in state.items() if not is_slope(key) and not embeds(key)}


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
