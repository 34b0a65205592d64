"""An affine temperature on a denoiser of diffusers: the slope d is read by a last layer of its own.

The denoiser's last layer keeps its keys, shapes and values, and gives the channels of c and behind them those of d;
what follows it in the class only puts patches in their places. At one beta d is folded into that layer, and the network
is the stock one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Affine, Prediction, Slope, start_slope
from gftzoo_text2image.pipelines import Pipeline


class SlopedLinear(nn.Linear):
    """A layer on tokens of `patches` pixels each, channels innermost: of every pixel the channels of c, then of d."""

    def __init__(self, like: nn.Linear, patches: int) -> None:
        super().__init__(like.in_features, like.out_features, like.bias is not None)
        self.patches = patches
        readout = nn.Linear(like.in_features, like.out_features, like.bias is not None)
        self.slope: Slope | None = Slope(readout)
        start_slope(self)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        c = super().forward(input)
        d = torch.zeros_like(c) if self.slope is None else self.slope(input, input)
        pixels = [part.unflatten(-1, (self.patches, -1)) for part in (c, d)]
        return torch.cat(pixels, -1).flatten(-2)


class SlopedConv(nn.Conv2d):
    """A convolution, and behind its channels those of d."""

    def __init__(self, like: nn.Conv2d) -> None:
        size: Any = like.kernel_size
        super().__init__(like.in_channels, like.out_channels, size, padding=like.padding)  # type: ignore[arg-type]
        readout = nn.Conv2d(like.in_channels, like.out_channels, size, padding=like.padding)  # type: ignore[arg-type]
        self.slope: Slope | None = Slope(readout)
        start_slope(self)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        c = super().forward(input)
        d = torch.zeros_like(c) if self.slope is None else self.slope(input, input)
        return torch.cat([c, d], 1)


def add_slope(network: Any, pipeline: Pipeline) -> None:
    """Gives the last layer a slope beside it, zero at first, in place; UsageError for one that is no plain layer."""
    owner, _, name = pipeline.head.rpartition(".")
    parent = network.get_submodule(owner)
    head = getattr(parent, name)
    if isinstance(head, nn.Conv2d):
        sloped: nn.Module = SlopedConv(head)
    elif isinstance(head, nn.Linear):
        channels = channels_of(network)
        sloped = SlopedLinear(head, head.out_features // channels if pipeline.unpacks else 1)
        if "out_channels" in vars(network):  # which the class shapes its output by
            network.out_channels = 2 * channels
    else:
        raise UsageError(
            f"the last layer of {type(network).__name__}, {pipeline.head}, is a {type(head).__name__} and no plain "
            "layer that a slope could stand beside; train one temperature with -o network.temperature_input=none."
        )
    setattr(parent, name, sloped)


def channels_of(network: Any) -> int:
    """The channels of a transformer's output, a variance among them."""
    known = vars(network).get("out_channels") or network.config.get("out_channels")
    return int(known or network.config["in_channels"])


def as_prediction(network: nn.Module, pipeline: Pipeline, found_BKhw: Tensor, channels: int) -> Prediction:
    """What a denoiser gave, without a variance behind: c alone, or c and d where there is a slope."""
    head = network.get_submodule(pipeline.head)
    if not isinstance(head, SlopedLinear | SlopedConv):
        return found_BKhw[:, :channels]
    c, d = (part[:, :channels] for part in found_BKhw.chunk(2, 1))
    return c if head.slope is None else Affine(c, d)
