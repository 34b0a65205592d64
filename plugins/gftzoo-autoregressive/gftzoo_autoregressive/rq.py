"""RQ-Transformer: a body over positions, and at each a head over the codes of its residuals.

Suffixes: B batch, N positions of an image, P codes of a position, E width of a code vector, V codebook, D width, X any
dimensions. "Autoregressive Image Generation using Residual Quantization" (arXiv 2203.01941);
kakaobrain/rq-vae-transformer, models/rqtransformer/transformers.py. State-dict keys are the official ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import DepthDecoder
from gftzoo.layers.sequence import INIT_STD, CodeNetworkOptions, start_plain, with_beta
from gftzoo.layers.temperature import Prediction, each, with_slope
from gftzoo_autoregressive.layers import Block


class RQOptions(CodeNetworkOptions):
    """Options of the network; `depth` is that of the body."""

    part_depth: int = Field(gt=0, description="blocks over the codes of a position")
    dropout: float = Field(0.1, ge=0, lt=1, description="of projections and feed-forwards")
    codes_from: Literal["tokenizer", "table"] = Field(
        "tokenizer", description="codes enter by the tokenizer's vectors, as released, or by a table of the network"
    )
    readout: Literal["shared", "each"] = Field(
        "shared", description="one read-out for all codes of a position, as released, or one for each"
    )


class BlockStack(nn.Module):
    """Blocks, one after the other."""

    def __init__(self, depth: int, options: RQOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(options.width, options.heads, options.dropout) for _ in range(depth))


class PartLinear(nn.Module):
    """A linear layer for each code of a position: (X, P, D) to (X, P, V)."""

    def __init__(self, parts: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(parts, width, out) * INIT_STD)
        self.bias = nn.Parameter(torch.zeros(parts, out))

    def forward(self, x_XPD: Tensor, first: int = 0) -> Tensor:
        """`first` is the part of the first row."""
        last = first + x_XPD.shape[-2]
        return torch.einsum("...pd,pdv->...pv", x_XPD, self.weight[first:last]) + self.bias[first:last]


class Classifier(nn.Module):
    """A norm and logits."""

    def __init__(self, options: RQOptions, parts: int, codebook: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(options.width)
        self.linear: nn.Module = nn.Linear(options.width, codebook)
        if options.readout == "each":
            self.linear = PartLinear(parts, options.width, codebook)


class RQTransformer(nn.Module):
    """Logits of an image's codes, each given the class and the codes before it, position by position.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.
    """

    def __init__(self, options: RQOptions, card: ModelCard) -> None:
        super().__init__()
        assert card.tokenizer.codebook is not None
        width, codebook = options.width, card.tokenizer.codebook
        self.options, self.positions, self.parts = options, card.grid**2, card.tokenizer.parts
        self.cond_emb = nn.Embedding(card.classes + 1, width)
        self.pos_emb_cond = nn.Parameter(torch.randn(1, 1, width) * INIT_STD)
        self.pos_emb_hw = nn.Parameter(torch.randn(1, self.positions, width) * INIT_STD)
        self.pos_emb_d = nn.Parameter(torch.randn(1, self.parts, width) * INIT_STD)
        if options.codes_from == "tokenizer":
            self.input_mlp, self.head_mlp = (nn.Linear(card.tokenizer.channels, width) for _ in range(2))
        else:
            self.tok_emb = nn.Embedding(codebook, width)
        self.body_transformer = BlockStack(options.depth, options)
        self.head_transformer = BlockStack(options.part_depth, options)
        self.classifier = Classifier(options, self.parts, codebook)
        temperature = options.build_temperature(card.temperature, width, codebook, nn.LayerNorm, bias=True)
        self.beta_embed, self.slope = temperature
        start_plain(*temperature)

    def embed_condition(self, condition_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """What stands before the positions (B, 1, D); the temperature is added to it, or nothing where it is None."""
        return with_beta(self.cond_emb(condition_B).unsqueeze(1) + self.pos_emb_cond, self.beta_embed, beta_B)

    def embed_positions(self, given_XPE: Tensor) -> Tensor:
        """A position (X, D) of all its codes, whose vectors, or whose indices (X, P), are given.

        They are summed behind the layer, so that its bias counts once for each code.
        """
        if self.options.codes_from == "tokenizer":
            return self.input_mlp(given_XPE).sum(-2)
        return self.tok_emb(given_XPE).sum(-2)

    def embed_parts(self, given_XPE: Tensor) -> Tensor:
        """What the head reads behind each code (X, P, D): the sum of the vectors so far, or the code's own row."""
        if self.options.codes_from == "tokenizer":
            return self.head_mlp(given_XPE.cumsum(-2))
        return self.tok_emb(given_XPE)

    def forward(self, given_BNPE: Tensor, condition_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """Logits (B, N P, V), float32, of all codes, position by position.

        Args:
            given_BNPE: vectors of the codes, or their indices (B, N, P) where the network has a table.
            condition_B: classes.
            beta_B: the temperature; None adds nothing.
        """
        positions_BND = self.embed_positions(given_BNPE) + self.pos_emb_hw
        x_BND = torch.cat([self.embed_condition(condition_B, beta_B), positions_BND[:, :-1]], 1)
        for block in self.body_transformer.blocks:
            x_BND = block(x_BND)
        parts_BNPD = self.embed_parts(given_BNPE)[:, :, :-1]
        y_XPD = torch.cat([x_BND.unsqueeze(2), parts_BNPD.type_as(x_BND)], 2).flatten(0, 1) + self.pos_emb_d
        for block in self.head_transformer.blocks:
            y_XPD = block(y_XPD)
        shape = len(condition_B), self.positions * self.parts
        return each(self.read_out(y_XPD), lambda logits: logits.reshape(*shape, -1))

    def read_out(self, y_XPD: Tensor, part: int | None = None) -> Prediction:
        """Logits (X, P, V), float32, of all codes of a position, or of one; two of them where beta is affine."""
        features_XPD = self.classifier.layer_norm(y_XPD)
        linear = self.classifier.linear
        logits = linear(features_XPD, part or 0) if isinstance(linear, PartLinear) else linear(features_XPD)
        return each(with_slope(self.slope, logits, y_XPD, features_XPD), Tensor.float)


class RQDecoder(DepthDecoder):
    """The codes of each position, row by row, behind the class.

    Args:
        network: of which the codes are drawn.
        condition_B: classes.
        codebook_VE: the tokenizer's vectors; None for a network with a table.
    """

    def __init__(self, network: RQTransformer, condition_B: Tensor, codebook_VE: Tensor | None) -> None:
        options = network.options
        shape = len(condition_B), options.heads, options.head_width
        layers = options.depth, options.part_depth
        super().__init__(layers, shape, network.positions, network.parts, network.pos_emb_d)
        self.network, self.condition_B, self.codebook_VE = network, condition_B, codebook_VE

    def begin(self, beta_B: Tensor | None) -> Tensor:
        return self._body(self.network.embed_condition(self.condition_B, beta_B), self.at(0))

    def advance(self, codes_BP: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Tensor:
        code_BD = self.network.embed_positions(self._given(codes_BP))
        return self._body(code_BD.unsqueeze(1) + self.network.pos_emb_hw[:, position_1 - 1], position_1)

    def embed(self, codes_BK: Tensor) -> Tensor:
        return self.network.embed_parts(self._given(codes_BK))[:, -1:]

    def read(self, part: int, x_B1D: Tensor) -> Prediction:
        y_B1D = x_B1D + self.network.pos_emb_d[:, part : part + 1]
        blocks = self.network.head_transformer.blocks
        for block, past in zip(blocks, self.head.pasts(self.head.at(part)), strict=True):
            y_B1D = block(y_B1D, past)
        return each(self.network.read_out(y_B1D, part), lambda logits: logits[:, 0])

    def _given(self, codes_X: Tensor) -> Tensor:
        return codes_X if self.codebook_VE is None else self.codebook_VE[codes_X]

    def _body(self, x_B1D: Tensor, position_1: Tensor) -> Tensor:
        for block, past in zip(self.network.body_transformer.blocks, self.pasts(position_1), strict=True):
            x_B1D = block(x_B1D, past)
        return x_B1D
