"""Transformers over the class and the codes: VQGAN's, which is minGPT, and that of the public code of ViT-VQGAN.

Suffixes: B batch, N codes of an image, V codebook, L positions, D width, X any dimensions. "Taming Transformers"
(arXiv 2012.09841), CompVis/taming-transformers, modules/transformer/mingpt.py; "Vector-quantized Image Modeling with
Improved VQGAN" (arXiv 2110.04627), of which thuanz123/enhancing-transformers, modules/stage2/layers.py, is a public
code that is not its authors'.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import Decoder
from gftzoo.layers.sequence import CodeNetworkOptions, normal_weights, start_plain, with_beta
from gftzoo.layers.temperature import Prediction, each, with_slope
from gftzoo_autoregressive.layers import Block
from gftzoo_autoregressive.shifted import ShiftedBlock


class GPTOptions(CodeNetworkOptions):
    """Options of the network."""

    dropout: float = Field(0.0, ge=0, lt=1, description="of embeddings, projections and feed-forwards")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights")
    keep: float = Field(
        1.0, gt=0, le=1, description="chance of a code to be shown in training as it is, and not as a random one"
    )


class CodeGPT(nn.Module):
    """Logits of an image's codes, each given the class and the codes before it, row by row.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.
    """

    def __init__(self, options: GPTOptions, card: ModelCard) -> None:
        super().__init__()
        assert card.tokenizer.codebook is not None
        width, self.codebook = options.width, card.tokenizer.codebook
        self.options, self.classes, self.codes = options, card.classes, card.grid**2
        self.drop = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(self.build_block(index) for index in range(options.depth))
        self.head = nn.Linear(width, self.codebook, bias=False)
        temperature = options.build_temperature(card.temperature, width, self.codebook, nn.LayerNorm)
        self.beta_embed, self.slope = temperature

    @abstractmethod
    def build_block(self, index: int) -> nn.Module:
        """A block of the network."""

    @abstractmethod
    def embed_class(self, condition_B: Tensor) -> Tensor:
        """The class token (B, 1, D)."""

    @abstractmethod
    def embed_codes(self, codes_BL: Tensor, index_L: Tensor) -> Tensor:
        """Codes at their places in the image (B, L, D)."""

    @abstractmethod
    def normalise(self, x_XD: Tensor) -> Tensor:
        """The features that logits are read from."""

    def memory(self, like: Tensor) -> list[list[Tensor]]:
        """What each block keeps besides keys and values while codes are decoded; `like` has their batch and type."""
        return [[] for _ in self.blocks]

    def initialise(self) -> None:
        """Normal weights, positions zero; what the temperature adds starts at zero."""
        normal_weights(self)
        start_plain(self.beta_embed, self.slope)

    def embed_condition(self, condition_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """What stands before the codes (B, 1, D); the temperature is added to it, or nothing where it is None."""
        return with_beta(self.embed_class(condition_B), self.beta_embed, beta_B)

    def forward(self, codes_BN: Tensor, condition_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """Logits (B, N, V), float32, of all codes.

        Args:
            codes_BN: int64 codes; the last one is predicted and not read.
            condition_B: classes.
            beta_B: the temperature; None adds nothing.
        """
        index_L = torch.arange(codes_BN.shape[1] - 1, device=codes_BN.device)
        shown_BLD = self.embed_codes(codes_BN[:, :-1], index_L)
        x_BLD = self.drop(torch.cat([self.embed_condition(condition_B, beta_B), shown_BLD], 1))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.read_out(x_BLD)

    def read_out(self, x_XD: Tensor) -> Prediction:
        """Logits (X, V), float32, of the last hidden state; two of them where the temperature is affine."""
        features_XD = self.normalise(x_XD)
        return each(with_slope(self.slope, self.head(features_XD), x_XD, features_XD), Tensor.float)


class MinGPT(CodeGPT):
    """VQGAN's. Classes are looked up in the table of codes, a class in the row of the code of its number.

    The table has a row more than the official one, for the null class.
    """

    def __init__(self, options: GPTOptions, card: ModelCard) -> None:
        super().__init__(options, card)
        self.tok_emb = nn.Embedding(self.codebook + 1, options.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, self.codes, options.width))
        self.ln_f = nn.LayerNorm(options.width)
        self.initialise()

    def build_block(self, index: int) -> nn.Module:
        options = self.options
        return Block(options.width, options.heads, options.dropout, options.attention_dropout)

    def embed_class(self, condition_B: Tensor) -> Tensor:
        row_B = torch.where(condition_B == self.classes, self.codebook, condition_B)
        return self.tok_emb(row_B).unsqueeze(1) + self.pos_emb[:, :1]

    def embed_codes(self, codes_BL: Tensor, index_L: Tensor) -> Tensor:
        return self.tok_emb(codes_BL) + self.pos_emb[:, index_L + 1]

    def normalise(self, x_XD: Tensor) -> Tensor:
        return self.ln_f(x_XD)


class ShiftGPT(CodeGPT):
    """That of ViT-VQGAN's public code: attention reads a learned mixture of each position and the one before it."""

    def __init__(self, options: GPTOptions, card: ModelCard) -> None:
        super().__init__(options, card)
        width = options.width
        self.tok_emb_cond = nn.Embedding(card.classes + 1, width)
        self.pos_emb_cond = nn.Parameter(torch.zeros(1, 1, width))
        self.tok_emb_code = nn.Embedding(self.codebook, width)
        self.pos_emb_code = nn.Parameter(torch.zeros(1, self.codes, width))
        self.layer_norm = nn.LayerNorm(width)
        self.initialise()

    def build_block(self, index: int) -> nn.Module:
        options = self.options
        return ShiftedBlock(options.width, options.heads, options.dropout, options.attention_dropout)

    def embed_class(self, condition_B: Tensor) -> Tensor:
        return self.tok_emb_cond(condition_B).unsqueeze(1) + self.pos_emb_cond

    def embed_codes(self, codes_BL: Tensor, index_L: Tensor) -> Tensor:
        return self.tok_emb_code(codes_BL) + self.pos_emb_code[:, index_L]

    def normalise(self, x_XD: Tensor) -> Tensor:
        return self.layer_norm(x_XD)

    def memory(self, like: Tensor) -> list[list[Tensor]]:
        return [[like.new_zeros(len(like), 1, self.options.width)] for _ in self.blocks]


class GPTDecoder(Decoder):
    """Codes row by row, behind the class."""

    def __init__(self, network: CodeGPT, condition_B: Tensor) -> None:
        options = network.options
        shape = len(condition_B), options.heads, options.head_width
        super().__init__(options.depth, shape, network.codes, 1, network.head.weight)
        self.network, self.condition_B = network, condition_B
        self.memory = network.memory(self.caches[0].k_BHSK)

    def prefill(self, beta_B: Tensor | None) -> Prediction:
        return self._advance(self.network.embed_condition(self.condition_B, beta_B), self.slot_S[:1])

    def step(self, code_B: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Prediction:
        return self._advance(self.network.embed_codes(code_B.unsqueeze(1), position_1 - 1), position_1)

    def _advance(self, x_BLD: Tensor, position_L: Tensor) -> Prediction:
        for block, past, memory in zip(self.network.blocks, self.pasts(position_L), self.memory, strict=True):
            x_BLD = block(x_BLD, past, *memory)
        return self.network.read_out(x_BLD[:, -1])
