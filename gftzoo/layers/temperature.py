"""How a network sees the temperature beta: embedded as published, or through an affine read-out, which is exact.

The optimum of Guidance-Free Training (arXiv 2501.15420) is affine in s = 1/beta - 1: f_s = f_c + s (f_c - f_u), of the
conditional and the unconditional prediction. A network with two outputs c and d has that form by itself: f_s = c + s d,
the plain prediction and the slope. d has a read-out of its own that starts at zero, so that c keeps the keys, shapes
and values of official weights. Suffixes: B batch, X any dimensions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gftzoo.catalogue.cards import Frozen

TemperatureInput = Literal["embedding", "affine", "both", "none"]

# torch.rand's smallest step: s = 1/beta - 1 stays finite, and every positive draw keeps its value.
SMALLEST_BETA = 2.0**-24
PARTS = 8  # of a batch, see `Slope.in_parts`


class Affine(NamedTuple):
    """A prediction for every temperature at once, f_s = c + s d with s = 1/beta - 1; both (B, ...)."""

    c: Tensor
    d: Tensor

    def at(self, s_B: Tensor | float) -> Tensor:
        """f_s (B, ...) at the strengths s, (B,) or one for all; at s = 0 it is c to the bit."""
        if isinstance(s_B, Tensor):
            s_B = s_B.view(-1, *[1] * (self.c.ndim - 1))
        return self.c + s_B * self.d


Prediction = Tensor | Affine
Linear = nn.Linear | nn.Conv2d


def each(prediction: Prediction, change: Callable[[Tensor], Tensor]) -> Prediction:
    """The prediction with `change`, which must be linear (a slice, a cast, a view), applied to each of its tensors."""
    return Affine(*map(change, prediction)) if isinstance(prediction, Affine) else change(prediction)


def plain(prediction: Prediction) -> Tensor:
    """The prediction at beta = 1: c of an affine one, any other as it is."""
    return prediction.c if isinstance(prediction, Affine) else prediction


def strength(beta_B: Tensor) -> Tensor:
    """s = 1/beta - 1 of temperatures in [0, 1], finite at 0."""
    return 1.0 / beta_B.float().clamp(min=SMALLEST_BETA) - 1.0


class TemperatureOptions(Frozen):
    """Options of a network's temperature input; a family's network options inherit them."""

    temperature_input: TemperatureInput = Field(
        "embedding",
        description="embedding as published, an affine read-out c + (1/beta - 1) d, or both; released weights embed; "
        "none is for training at one temperature, which the network then need not be told",
    )
    temperature_blocks: int = Field(
        0, ge=0, le=64, description="blocks of d's own behind the trunk; with 0, d is one layer and can be baked"
    )

    @model_validator(mode="after")
    def _has_a_slope_to_shape(self) -> Self:
        shaped = [name for name in ("temperature_blocks", "temperature_rank") if getattr(self, name, None)]
        if shaped and not self.affine:
            raise ValueError(f"{shaped[0]} needs a slope; add temperature_input=affine or both")
        return self

    @property
    def embeds(self) -> bool:
        """Whether beta is embedded."""
        return self.temperature_input in ("embedding", "both")

    @property
    def affine(self) -> bool:
        """Whether there is a slope d."""
        return self.temperature_input in ("affine", "both")


class Slope(nn.Module):
    """d: a read-out on the features that c is read from, or behind blocks and a norm of its own.

    Every network keeps it under the attribute `slope`, by which its parameters are known (`is_slope`).

    Args:
        readout: features to d, a linear map: one layer, or several in an `nn.Sequential`.
        blocks: modules of hidden state and conditions.
        norm: behind the blocks, hidden state and conditions to features; None where they are features already.

    Attributes:
        in_parts: in training the batch goes through the blocks a part at a time, and again in the backward pass, so
            that the activations of one part are kept at once.
    """

    in_parts = False

    def __init__(self, readout: nn.Module, blocks: Iterable[nn.Module] = (), norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.readout = norm, readout

    def forward(self, hidden: Tensor, features: Tensor, *conditions: Tensor) -> Tensor:
        """d, given the trunk's hidden state and the features that c is read from."""
        if not self.blocks:
            return self.readout(features)
        if not (self.in_parts and torch.is_grad_enabled()):
            return self._behind_blocks(hidden, *conditions)
        parts = zip(*(given.chunk(PARTS) for given in (hidden, *conditions)), strict=True)
        return torch.cat([checkpoint(self._behind_blocks, *part, use_reentrant=False) for part in parts])

    def _behind_blocks(self, hidden: Tensor, *conditions: Tensor) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden, *conditions)
        return self.readout(hidden if self.norm is None else self.norm(hidden, *conditions))

    @property
    def layers(self) -> list[Linear]:
        """The linear layers of the read-out, first one first."""
        return cast(list[Linear], list(self.readout) if isinstance(self.readout, nn.Sequential) else [self.readout])

    @torch.no_grad()
    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """W_d (out, D, ...) and the bias (out,) of the read-out, float64."""
        *inner, last = self.layers
        weight = last.weight.double()
        for layer in reversed(inner):
            weight = weight @ layer.weight.double()
        return weight, None if last.bias is None else last.bias.double()


class ResidualMLP(nn.Module):
    """x + W2 silu(W1 norm(x)), position by position: a block of d's own that needs no cache of keys and values."""

    def __init__(self, width: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, x_XD: Tensor, *conditions: Tensor) -> Tensor:
        return x_XD + self.mlp(self.norm(x_XD))


def linear_readout(width: int, out: int, rank: int | None = None, bias: bool = False) -> nn.Module:
    """A linear layer (X, D) -> (X, out), or two through `rank`; not yet zero."""
    if rank is None:
        return nn.Linear(width, out, bias=bias)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, out, bias=bias))


class LinearTemperatureOptions(TemperatureOptions):
    """Those of a network whose slope is a linear layer."""

    temperature_rank: int | None = Field(
        None, gt=0, description="d's layer as a product of two of this rank, for large codebooks; null is a full matrix"
    )

    def build_slope(
        self, width: int, out: int, block: Callable[[], nn.Module], norm: Callable[[], nn.Module], bias: bool = True
    ) -> Slope:
        """d (out) on the features (width) that c is read from, or behind blocks and a norm of its own."""
        readout = linear_readout(width, out, self.temperature_rank, bias)
        if not self.temperature_blocks:
            return Slope(readout)
        return Slope(readout, (block() for _ in range(self.temperature_blocks)), norm())


class ScaledTemperatureOptions(LinearTemperatureOptions):
    """Those of a network that chooses the scale of an embedded temperature."""

    beta_scale: float = Field(
        1000.0, gt=0, description="the temperature's sinusoids see this times beta: how sharply nearby values differ"
    )


def with_slope(slope: Slope | None, c: Tensor, hidden: Tensor, features: Tensor, *conditions: Tensor) -> Prediction:
    """c, and d beside it where there is a slope; its arguments are those of `Slope.forward`."""
    return c if slope is None else Affine(c, slope(hidden, features, *conditions))


@contextmanager
def without_slope(network: nn.Module) -> Iterator[None]:
    """The network computes c alone for the duration: its slopes are out, and cost nothing."""
    # asked of the dictionary of parts: a module without the attribute takes ten times as long to say so
    found: list[Any] = [module for module in network.modules() if isinstance(module._modules.get("slope"), Slope)]
    owners = [(module, module.slope) for module in found]
    for module, _ in owners:
        module.slope = None
    try:
        yield
    finally:
        for module, slope in owners:
            module.slope = slope


def checkpoint_slopes(network: nn.Module) -> None:
    """Takes a batch through the blocks of its slopes a part at a time, twice."""
    for module in network.modules():
        if isinstance(module, Slope):
            module.in_parts = True


def start_slope(network: nn.Module) -> None:
    """Zeroes the last layer of every slope in the network, in place: it starts as the plain model, to the bit."""
    for module in network.modules():
        if isinstance(module, Slope):
            zero_layer(module.layers[-1])


def zero_layer(layer: nn.Module) -> None:
    """Weight and bias zero, in place."""
    for parameter in layer.parameters(recurse=False):
        nn.init.zeros_(parameter)


def is_slope(name: str) -> bool:
    """Whether a parameter or state-dict key belongs to a slope."""
    return "slope" in name.split(".")


def with_idle_slope(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, completed by the slope of a freshly initialised network where they have none of it."""
    if any(is_slope(key) for key in tensors):
        return dict(tensors)
    return {**tensors, **{key: value for key, value in network.state_dict().items() if is_slope(key)}}
