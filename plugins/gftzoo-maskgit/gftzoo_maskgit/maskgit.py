"""MaskGIT's network: BERT over a class token and the codes of an image, some of them masked.

Suffixes: B batch, N codes of an image, V codebook, L = 1 + N positions, D width. "MaskGIT:
Masked Generative Image Transformer" (arXiv 2202.04200); google-research/maskgit, maskgit/nets/maskgit_transformer.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.temperature import start_slope
from gftzoo_maskgit.layers import (
    BERT_EPS,
    TANH_GELU,
    Head,
    PostNormBlock,
    build_beta_embedding,
    build_slope,
    init_bert,
    start_idle,
)
from gftzoo_maskgit.options import NetworkOptions
from gftzoo_maskgit.table import TableNetwork


class MaskGIT(TableNetwork):
    """Logits of all codes given those that are not masked, and the class.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.
    """

    positions = "position_embeddings"

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__(options, card)
        width = options.width
        self.word_embeddings = nn.Embedding(self.rows, width)
        self.null_class = nn.Parameter(torch.zeros(1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1 + self.codes, width))
        self.embeddings_ln = nn.LayerNorm(width, eps=BERT_EPS)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(PostNormBlock(options, TANH_GELU) for _ in range(options.depth))
        self.head = Head(width, width, TANH_GELU(), BERT_EPS)
        self.bias = nn.Parameter(torch.zeros(self.rows)) if options.tied else None
        self.output = None if options.tied else nn.Linear(width, self.codebook)
        self.beta_embed = build_beta_embedding(options, card.temperature)
        self.slope = build_slope(options, card.temperature, width, width, self.codebook)
        self.initialise()

    def initialise(self) -> None:
        """The cut normal distribution of BERT for matrices and tables; the temperature starts at nothing."""
        init_bert(self, self.null_class, self.position_embeddings)
        start_idle(self.beta_embed)
        start_slope(self)

    @property
    def table(self) -> nn.Embedding:
        return self.word_embeddings

    def hidden(
        self,
        codes_BM: Tensor,
        masked_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BM: Tensor | None = None,
    ) -> Tensor:
        image_BND = self.word_embeddings(self.rows_of(codes_BM, masked_BM))
        x_BLD = torch.cat([self.embed_class(class_B), image_BND], 1) + self.position_embeddings
        x_BLD = self.dropout(self.embeddings_ln(self.with_beta(x_BLD, beta_B)))
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return x_BLD[:, 1:]

    def features(self, h_BNW: Tensor) -> Tensor:
        return self.head(h_BNW)

    def tied_readout(self) -> tuple[Tensor, Tensor]:
        assert self.bias is not None
        return self.word_embeddings.weight[: self.codebook], self.bias[: self.codebook]

    def repeated(self) -> list[nn.Module]:
        return list(self.layers)
