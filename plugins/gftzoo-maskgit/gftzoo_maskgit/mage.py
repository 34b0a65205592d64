"""MAGE's network: an encoder of what is shown, and a decoder that fills what is masked with the class token's output.

Suffixes: B batch, N codes of an image, V codebook, L = 1 + N positions, K positions that the
encoder is shown, D width of the encoder, W width of the decoder. "MAGE: MAsked Generative Encoder to Unify
Representation Learning and Image Synthesis" (arXiv 2211.09117); module names are those of LTH14/mage, models_mage.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.initialisation import xavier
from gftzoo.layers.temperature import start_slope
from gftzoo_maskgit.layers import (
    Head,
    build_beta_embedding,
    build_slope,
    prenorm_block,
    start_idle,
)
from gftzoo_maskgit.options import NetworkOptions
from gftzoo_maskgit.table import TableNetwork

EPS = 1e-6


class TokenEmbedding(nn.Module):
    """The class token's vector (B, 1, D) and codes or masks (B, N) with their positions, as vectors (B, L, D).

    Args:
        rows: of the table: codes, classes and, last, the mask.
        positions: L.
        options: width and dropout.
    """

    def __init__(self, rows: int, positions: int, options: NetworkOptions) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(rows, options.width)
        self.position_embeddings = nn.Embedding(positions, options.width)
        self.LayerNorm = nn.LayerNorm(options.width, eps=EPS)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, class_B1D: Tensor, ids_BN: Tensor) -> Tensor:
        return torch.cat([class_B1D, self.word_embeddings(ids_BN)], 1) + self.position_embeddings.weight

    def normalise(self, x_BLD: Tensor) -> Tensor:
        """The norm behind the sum, and dropout."""
        return self.dropout(self.LayerNorm(x_BLD))


class MLMLayer(Head):
    """The head, and the bias of logits that the table of codes reads."""

    def __init__(self, width: int, out: int, rows: int, tied: bool) -> None:
        super().__init__(width, out, nn.GELU(), 1e-5)
        self.bias = nn.Parameter(torch.zeros(1, 1, rows)) if tied else None


class MAGE(TableNetwork):
    """Logits of all codes given those that are not masked, and the class.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.
    """

    positions = "token_emb.position_embeddings.weight"

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__(options, card)
        width, inner = options.width, options.decoder_width
        ratio, dropout = options.mlp_ratio, options.dropout
        self.token_emb = TokenEmbedding(self.rows, 1 + self.codes, options)
        self.null_class = nn.Parameter(torch.zeros(1, width))
        shape = (width, options.heads, ratio, dropout, EPS)
        self.blocks = nn.ModuleList(prenorm_block(*shape) for _ in range(options.depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.decoder_embed = nn.Linear(width, inner)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, 1 + self.codes, inner))
        shape = (inner, options.decoder_heads, ratio, dropout, EPS)
        self.decoder_blocks = nn.ModuleList(prenorm_block(*shape) for _ in range(options.decoder_depth))
        self.decoder_norm = nn.LayerNorm(inner, eps=EPS)
        self.mlm_layer = MLMLayer(inner, width, self.rows, options.tied)
        self.output = None if options.tied else nn.Linear(width, self.codebook)
        self.beta_embed = build_beta_embedding(options, card.temperature)
        self.slope = build_slope(options, card.temperature, inner, width, self.codebook)
        self.initialise()

    def initialise(self) -> None:
        """Xavier for linear layers, N(0, 0.02) for tables; the temperature starts at nothing."""
        xavier(self)
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        for table in (*tables, self.null_class, self.decoder_pos_embed_learned):
            nn.init.normal_(table, std=self.options.init)
        start_idle(self.beta_embed)
        start_slope(self)

    @property
    def table(self) -> nn.Embedding:
        return self.token_emb.word_embeddings

    def encode(
        self,
        codes_BN: Tensor,
        masked_BN: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BN: Tensor | None = None,
    ) -> Tensor:
        """What is shown, encoded (B, K, D), the class token first and codes in their order."""
        embedding, rows_BN = self.token_emb, self.rows_of(codes_BN, masked_BN)
        x_BKD = embedding.normalise(self.with_beta(embedding(self.embed_class(class_B), rows_BN), beta_B))
        if left_out_BN is not None:
            x_BKD = gather(x_BKD, shown_positions(left_out_BN))
        for block in self.blocks:
            x_BKD = block(x_BKD)
        return self.norm(x_BKD)

    def decode(self, latent_BKD: Tensor, masked_BN: Tensor, left_out_BN: Tensor | None = None) -> Tensor:
        """The decoder's state (B, N, W) of the codes: where masked, it starts from the class token's output."""
        seen_BKW = self.decoder_embed(latent_BKD)
        class_B1W, image_BNW = seen_BKW[:, :1], seen_BKW[:, 1:]
        if left_out_BN is not None:
            place_BN = F.pad(~left_out_BN, (1, 0), value=True).cumsum(1)[:, 1:] - 1  # of each code among those shown
            image_BNW = gather(seen_BKW, place_BN)
        image_BNW = torch.where(masked_BN[..., None], class_B1W, image_BNW)
        x_BLW = torch.cat([class_B1W, image_BNW], 1) + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x_BLW = block(x_BLW)
        return self.decoder_norm(x_BLW[:, 1:])

    def hidden(
        self,
        codes_BM: Tensor,
        masked_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BM: Tensor | None = None,
    ) -> Tensor:
        return self.decode(self.encode(codes_BM, masked_BM, class_B, beta_B, left_out_BM), masked_BM, left_out_BM)

    def features(self, h_BNW: Tensor) -> Tensor:
        return self.mlm_layer(h_BNW)

    def tied_readout(self) -> tuple[Tensor, Tensor]:
        """The table gets no gradient from reading logits, as published."""
        assert self.mlm_layer.bias is not None
        return self.table.weight[: self.codebook].detach(), self.mlm_layer.bias[0, 0, : self.codebook]

    def repeated(self) -> list[nn.Module]:
        return [*self.blocks, *self.decoder_blocks]


def shown_positions(left_out_BN: Tensor) -> Tensor:
    """The positions (B, K) that are not left out, the class token's first, in ascending order."""
    hidden_BL = F.pad(left_out_BN, (1, 0), value=False)
    shown = hidden_BL.shape[1] - int(left_out_BN[0].sum())
    return hidden_BL.int().argsort(dim=1, stable=True)[:, :shown]


def gather(x_BLD: Tensor, position_BK: Tensor) -> Tensor:
    """Some positions (B, K, D) of x."""
    return x_BLD.gather(1, position_BK[..., None].expand(-1, -1, x_BLD.shape[-1]))
