"""MaskBit's network: a transformer that is given codes as bits and predicts the parts of each code.

Suffixes: B batch, N codes of an image, S parts of a code, M = N S parts of an image, code by code, V values of a part,
K bits of a part, L = N + 1 positions, D width. "MaskBit: Embedding-free Image Generation via Bit Tokens"
(arXiv 2409.16211); markweberdev/maskbit, modeling/bert.py, classes `LFQBert` (`tokens=bits`), `Bert` (`tokens=table`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import start_slope
from gftzoo.tokenizers.quantised.bits import join, split, to_bits
from gftzoo_maskgit.layers import (
    BERT_EPS,
    Head,
    MaskedNetwork,
    PostNormBlock,
    build_beta_embedding,
    build_slope,
    init_bert,
    prenorm_block,
    start_idle,
)
from gftzoo_maskgit.options import NetworkOptions


class BitTokens(nn.Module):
    """Parts (B, M) as bits, zero where masked, through one layer (B, N, D); logits through another."""

    def __init__(self, options: NetworkOptions, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.input_proj = nn.Linear(options.splits * bits, options.width)
        self.prediction_layer = nn.Linear(options.width, options.splits << bits)

    def forward(self, codes_BM: Tensor, masked_BM: Tensor) -> Tensor:
        bits_BMK = to_bits(codes_BM, self.bits).masked_fill(masked_BM[..., None], 0.0)
        return self.input_proj(bits_BMK.reshape(len(codes_BM), -1, self.input_proj.in_features))

    def read_out(self, features_BND: Tensor) -> Tensor:
        """Logits (B, N, S V)."""
        return self.prediction_layer(features_BND)


class TableTokens(nn.Module):
    """The sum (B, N, D) of a row for each part, the last one of a table where masked; logits with the same tables."""

    def __init__(self, options: NetworkOptions, bits: int, codes: int) -> None:
        super().__init__()
        self.mask = values = 1 << bits
        self.tok_emb_list = nn.ModuleList(nn.Embedding(values + 1, options.width) for _ in range(options.splits))
        self.bias = nn.ParameterList(torch.zeros(codes, values) for _ in range(options.splits))

    def forward(self, codes_BM: Tensor, masked_BM: Tensor) -> Tensor:
        parts = codes_BM.masked_fill(masked_BM, self.mask).unflatten(1, (-1, len(self.bias))).unbind(-1)
        return torch.stack([table(ids_BN) for table, ids_BN in zip(self.tok_emb_list, parts, strict=True)]).sum(0)

    def read_out(self, features_BND: Tensor) -> Tensor:
        """Logits (B, N, S V)."""
        pairs = zip(self.tok_emb_list, self.bias, strict=True)
        return torch.cat(
            [features_BND @ table.get_parameter("weight")[:-1].T + bias_NV for table, bias_NV in pairs], -1
        )


class MaskBit(MaskedNetwork):
    """Logits of all parts of all codes given those that are not masked, and the class, which stands last.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.

    Raises UsageError where the codebook is no power of two with that many equal parts.
    """

    positions = "pos_emb"

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__()
        self.options, self.classes, self.codes, self.splits = options, card.classes, card.grid**2, options.splits
        self.bits = part_bits(card, options.splits)
        width, bits_in = options.width, options.tokens == "bits"
        self.tokens = BitTokens(options, self.bits) if bits_in else TableTokens(options, self.bits, self.codes)
        self.readout = "tokens.prediction_layer" if bits_in else None
        self.class_emb = nn.Embedding(card.classes + 1, width)
        self.pos_emb = nn.Parameter(torch.zeros(1, self.codes + 1, width))
        self.first_ln = nn.LayerNorm(width, eps=BERT_EPS)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(self._build_block() for _ in range(options.depth))
        self.norm_after_transformer = nn.LayerNorm(width, eps=BERT_EPS) if options.prenorm else nn.Identity()
        self.last_layer = Head(width, width, nn.GELU(), BERT_EPS)
        self.beta_embed = build_beta_embedding(options, card.temperature)
        self.slope = build_slope(options, card.temperature, width, width, self.splits << self.bits)
        self.initialise()

    def _build_block(self) -> nn.Module:
        o = self.options
        return (
            prenorm_block(o.width, o.heads, o.mlp_ratio, o.dropout, BERT_EPS)
            if o.prenorm
            else PostNormBlock(o, nn.GELU)
        )

    def initialise(self) -> None:
        """The cut normal distribution of BERT for matrices and tables; the temperature starts at nothing."""
        init_bert(self, self.pos_emb)
        start_idle(self.beta_embed)
        start_slope(self)

    def hidden(
        self,
        codes_BM: Tensor,
        masked_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BM: Tensor | None = None,
    ) -> Tensor:
        class_B1D = self.class_emb(class_B)[:, None]
        x_BLD = torch.cat([self.tokens(codes_BM, masked_BM), class_B1D], 1) + self.pos_emb
        x_BLD = self.dropout(self.first_ln(self.with_beta(x_BLD, beta_B)))
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return self.norm_after_transformer(x_BLD)[:, :-1]

    def features(self, h_BNW: Tensor) -> Tensor:
        return self.last_layer(h_BNW)

    def read_out(self, features_BND: Tensor) -> Tensor:
        return self.tokens.read_out(features_BND)

    def split(self, codes_BN: Tensor) -> Tensor:
        return split(codes_BN, self.splits, self.bits).flatten(1)

    def join(self, parts_BM: Tensor) -> Tensor:
        return join(parts_BM.unflatten(1, (-1, self.splits)), self.bits)

    def repeated(self) -> list[nn.Module]:
        return list(self.layers)


def part_bits(card: ModelCard, parts: int) -> int:
    """Bits of each part of a code; UsageError where the codebook is no power of two with that many equal parts."""
    codebook = card.tokenizer.codebook or 0
    bits, rest = divmod(codebook.bit_length() - 1, parts)
    if codebook < 2 or codebook & (codebook - 1) or rest:
        raise UsageError(
            f"{card.name} splits codes of bits into {parts} equal part(s), and tokenizer {card.tokenizer.id!r} has "
            f"{codebook} codes; use one with 2^k codes where {parts} divides k, e.g. -o tokenizer=maskbit-12, or "
            "-o network.splits=1."
        )
    return bits
