"""What networks over sequences of codes share: how they start, and how a temperature enters them.

Suffixes: B batch, L positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import ResidualMLP, ScaledTemperatureOptions, Slope, zero_layer

INIT_STD = 0.02


class CodeNetworkOptions(ScaledTemperatureOptions):
    """Options of a network over codes; codebook, grid and classes follow from tokenizer, resolution and data."""

    depth: int = Field(gt=0, description="transformer blocks")
    width: int = Field(gt=0, description="width of the residual stream")
    heads: int = Field(gt=0, description="attention heads")

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.width // self.heads

    def build_temperature(
        self,
        present: bool,
        width: int,
        out: int,
        norm: Callable[[int], nn.Module],
        bias: bool = False,
        precision: torch.dtype = torch.float32,
    ) -> tuple[SinusoidEmbedding | None, Slope | None]:
        """What embeds beta, and d beside the logits (out): each None where it is not asked for, or not `present`.

        Args:
            present: whether the network has a temperature, `card.temperature`.
            width: of the embedding, and of the features that the logits are read from.
            out: logits of a position.
            norm: of the width; behind blocks of d's own.
            bias: whether the read-out has one.
            precision: of the sinusoid.
        """
        embedding = SinusoidEmbedding(width, self.beta_scale, precision) if present and self.embeds else None
        block = partial(ResidualMLP, width)
        slope = self.build_slope(width, out, block, partial(norm, width), bias) if present and self.affine else None
        return embedding, slope


def start_plain(*added: SinusoidEmbedding | Slope | None) -> None:
    """Zeroes the last layer of what a temperature adds, in place: the network starts as the plain one."""
    for module in added:
        if module is not None:
            zero_layer(module.layers[-1])


def normal_weights(network: nn.Module, std: float = INIT_STD) -> None:
    """Normal matrices and tables, and biases of zero, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def with_beta(x_BLD: Tensor, embedding: SinusoidEmbedding | None, beta_B: Tensor | None) -> Tensor:
    """The embedded temperature added to every position, or nothing where there is none."""
    return x_BLD if beta_B is None or embedding is None else x_BLD + embedding(beta_B).unsqueeze(1)
