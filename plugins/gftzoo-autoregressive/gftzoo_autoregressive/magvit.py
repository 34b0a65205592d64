"""Open-MAGVIT2's transformer: codes too many for one table, each drawn in two parts.

Suffixes: B batch, N codes of an image, L positions, D width, P = 2 parts, V values of both parts together, X any
dimensions. "Open-MAGVIT2" (arXiv 2409.04410); TencentARC/SEED-Voken, Open_MAGVIT2/modules/transformer/gpt.py.
State-dict keys are the official ones.
"""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import DepthDecoder
from gftzoo.layers.llama import Block, ClassEmbedding, RMSNorm, rotations
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import (
    Affine,
    Prediction,
    ResidualMLP,
    ScaledTemperatureOptions,
    Slope,
    start_slope,
    zero_layer,
)

INIT_STD = 0.02
PARTS = 2


class MagvitOptions(ScaledTemperatureOptions):
    """Options of the network; grid and classes follow from tokenizer, resolution and data."""

    depth: int = Field(gt=0, description="blocks over the positions")
    part_depth: int = Field(gt=0, description="blocks over the parts of a position")
    width: int = Field(gt=0, description="width of the residual stream")
    heads: int = Field(gt=0, description="attention heads; their width must be a multiple of 4")
    hidden_multiple: int = Field(256, gt=0, description="the feed-forward width 8/3 width is rounded up to this")
    parts: tuple[int, int] = Field(
        (64, 4096), description="values of the parts of a code, the low part first; their product is the codebook"
    )
    token_dropout: float = Field(0.1, ge=0, lt=1, description="on the embedded class and codes")
    residual_dropout: float = Field(0.1, ge=0, lt=1, description="on the output of attention")
    ffn_dropout: float = Field(0.1, ge=0, lt=1, description="on the output of the feed-forward")

    @property
    def hidden(self) -> int:
        """Width of the feed-forward: two thirds of 4 width, rounded up to the multiple."""
        return -(-int(2 * 4 * self.width / 3) // self.hidden_multiple) * self.hidden_multiple


class MagvitTransformer(nn.Module):
    """Logits of both parts of an image's codes, each given the class, the codes before it and the part before it.

    Args:
        options: sizes.
        card: gives grid and classes, and whether there is a temperature input.
    """

    def __init__(self, options: MagvitOptions, card: ModelCard) -> None:
        super().__init__()
        self.options, self.grid, self.codes = options, card.grid, card.grid**2
        width, (low, high) = options.width, options.parts
        self.pre_emb, self.post_emb = nn.Embedding(low, width), nn.Embedding(high, width)
        self.class_emb = ClassEmbedding(card.classes, width)
        self.token_drop = nn.Dropout(options.token_dropout)
        shape = width, options.heads, options.hidden, options.residual_dropout, options.ffn_dropout
        self.spatial_blocks = nn.ModuleList(Block(*shape) for _ in range(options.depth))
        self.factorized_blocks = nn.ModuleList(Block(*shape) for _ in range(options.part_depth))
        self.norm = RMSNorm(width)
        self.head = nn.ModuleList(nn.Linear(width, values, bias=False) for values in options.parts)
        self.beta_embed: SinusoidEmbedding | None = None
        if card.temperature and options.embeds:
            self.beta_embed = SinusoidEmbedding(width, options.beta_scale)
        self.slope: Slope | None = None
        if card.temperature and options.affine:
            block, norm = partial(ResidualMLP, width), partial(RMSNorm, width)
            self.slope = options.build_slope(width, low + high, block, norm, bias=False)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the heads start at zero, and so does what the temperature adds."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for head in self.head:
            nn.init.zeros_(head.get_parameter("weight"))
        if self.beta_embed is not None:
            zero_layer(self.beta_embed.layers[-1])
        start_slope(self)

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.options.width // self.options.heads

    def split(self, codes_X: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high parts of codes."""
        low = self.options.parts[0]
        return codes_X % low, codes_X // low

    def join(self, parts_XP: Tensor) -> Tensor:
        """The codes of their parts."""
        return parts_XP[..., 0] + self.options.parts[0] * parts_XP[..., 1]

    def rotations(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the class and of every code; parts have those of the class and the first code."""
        return rotations(self.grid, self.head_width, 1, device)

    def embed_condition(self, condition_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """What stands before the codes (B, 1, D); the temperature is added to it, or nothing where it is None."""
        class_B1D = self.class_emb(condition_B)
        if beta_B is not None and self.beta_embed is not None:
            class_B1D = class_B1D + self.beta_embed(beta_B).unsqueeze(1)
        return class_B1D

    def forward(self, codes_BN: Tensor, condition_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """Logits (B, N, V), float32, of all codes: those of the low part, then those of the high part.

        Args:
            codes_BN: int64 codes; of the last one, the low part is read.
            condition_B: classes.
            beta_B: the temperature; None adds nothing.
        """
        low_BN, high_BN = self.split(codes_BN)
        low_BND = self.pre_emb(low_BN)
        codes_BND = low_BND + self.post_emb(high_BN)
        prefix_B1D = self.embed_condition(condition_B, beta_B)
        x_BLD = self.token_drop(torch.cat([prefix_B1D, codes_BND[:, :-1]], 1))
        cos_LP, sin_LP = self.rotations(x_BLD.device)
        for block in self.spatial_blocks:
            x_BLD = block(x_BLD, cos_LP[: x_BLD.shape[1]], sin_LP[: x_BLD.shape[1]])
        y_XPD = torch.stack([x_BLD, low_BND.type_as(x_BLD)], 2).flatten(0, 1)
        for block in self.factorized_blocks:
            y_XPD = block(y_XPD, cos_LP[:PARTS], sin_LP[:PARTS])
        parts = [self.read_out(part, y_XPD[:, part].view_as(x_BLD)) for part in range(PARTS)]
        if isinstance(parts[0], Affine):
            return Affine(*(torch.cat(both, -1) for both in zip(*parts, strict=True)))
        return torch.cat([part for part in parts if isinstance(part, Tensor)], -1)

    def read_out(self, part: int, y_XD: Tensor) -> Prediction:
        """Logits (X, values), float32, of a part; two of them where the temperature is affine."""
        features_XD, low = self.norm(y_XD), self.options.parts[0]
        logits = self.head[part](features_XD).float()
        if self.slope is None:
            return logits
        d_XV = self.slope(y_XD, features_XD).float()
        return Affine(logits, d_XV[..., low:] if part else d_XV[..., :low])


class MagvitDecoder(DepthDecoder):
    """Both parts of each code, row by row, behind the class."""

    def __init__(self, network: MagvitTransformer, condition_B: Tensor) -> None:
        options = network.options
        shape = len(condition_B), options.heads, network.head_width
        super().__init__((options.depth, options.part_depth), shape, network.codes, PARTS, network.norm.weight)
        self.network, self.condition_B = network, condition_B
        self.cos_LP, self.sin_LP = network.rotations(condition_B.device)

    def begin(self, beta_B: Tensor | None) -> Tensor:
        return self._body(self.network.embed_condition(self.condition_B, beta_B), self.at(0))

    def advance(self, codes_BP: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Tensor:
        low_B, high_B = codes_BP.unbind(1)
        code_BD = self.network.pre_emb(low_B) + self.network.post_emb(high_B)
        return self._body(code_BD.unsqueeze(1), position_1)

    def embed(self, codes_BK: Tensor) -> Tensor:
        return self.network.pre_emb(codes_BK)

    def read(self, part: int, x_B1D: Tensor) -> Prediction:
        position_1 = self.head.at(part)
        cos_1P, sin_1P = self.cos_LP[position_1], self.sin_LP[position_1]
        for block, past in zip(self.network.factorized_blocks, self.head.pasts(position_1), strict=True):
            x_B1D = block(x_B1D, cos_1P, sin_1P, None, past)
        return self.network.read_out(part, x_B1D[:, 0])

    def _body(self, x_B1D: Tensor, position_1: Tensor) -> Tensor:
        cos_1P, sin_1P = self.cos_LP[position_1], self.sin_LP[position_1]
        for block, past in zip(self.network.spatial_blocks, self.pasts(position_1), strict=True):
            x_B1D = block(x_B1D, cos_1P, sin_1P, None, past)
        return x_B1D
