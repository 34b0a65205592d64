"""Open-MAGVIT2's transformer: codes too many for one table, each drawn in two parts.

Suffixes: B batch, N codes of an image, L positions, D width, P = 2 parts, V values of both parts together, X any
dimensions. "Open-MAGVIT2" (arXiv 2409.04410); TencentARC/SEED-Voken, Open_MAGVIT2/modules/transformer/gpt.py.
State-dict keys are the official ones.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import DepthDecoder
from gftzoo.layers.llama import Block, ClassEmbedding, LlamaOptions, RMSNorm, rotations
from gftzoo.layers.sequence import normal_weights, start_plain, with_beta
from gftzoo.layers.temperature import Affine, Prediction

PARTS = 2


class MagvitOptions(LlamaOptions):
    """Options of the network; `depth` is that of the blocks over the positions."""

    part_depth: int = Field(gt=0, description="blocks over the parts of a position")
    parts: tuple[int, int] = Field(
        (64, 4096), description="values of the parts of a code, the low part first; their product is the codebook"
    )


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
        self.spatial_blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.factorized_blocks = nn.ModuleList(Block(options) for _ in range(options.part_depth))
        self.norm = RMSNorm(width)
        self.head = nn.ModuleList(nn.Linear(width, values, bias=False) for values in options.parts)
        self.beta_embed, self.slope = options.build_temperature(card.temperature, width, low + high, RMSNorm)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the heads start at zero, and so does what the temperature adds."""
        normal_weights(self)
        for head in self.head:
            nn.init.zeros_(head.get_parameter("weight"))
        start_plain(self.beta_embed, self.slope)

    def split(self, codes_X: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high parts of codes."""
        low = self.options.parts[0]
        return codes_X % low, codes_X // low

    def join(self, parts_XP: Tensor) -> Tensor:
        """The codes of their parts."""
        return parts_XP[..., 0] + self.options.parts[0] * parts_XP[..., 1]

    def rotations(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the class and of every code; parts have those of the class and the first code."""
        return rotations(self.grid, self.options.head_width, 1, device)

    def embed_condition(self, condition_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """What stands before the codes (B, 1, D); the temperature is added to it, or nothing where it is None."""
        return with_beta(self.class_emb(condition_B), self.beta_embed, beta_B)

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
        shape = len(condition_B), options.heads, options.head_width
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
