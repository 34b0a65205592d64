"""LlamaGen's transformer, as a sequence model for training and a step at a time for sampling.

Suffixes: B batch, N codes of an image, V codebook, T condition tokens, L = T + N - 1 positions, D width, S slots of the
cache. "Autoregressive Model Beats Diffusion" (arXiv 2406.06525); state-dict keys are the official ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import Decoder
from gftzoo.layers.llama import Block, ClassEmbedding, LlamaOptions, RMSNorm, rotations
from gftzoo.layers.sequence import normal_weights, start_plain, with_beta
from gftzoo.layers.temperature import Prediction, each, with_slope
from gftzoo_llamagen.conditions import CaptionEmbedding, present


class NetworkOptions(LlamaOptions):
    """Options of the network."""

    caption_tokens: int = Field(120, gt=0, description="tokens of a caption, for a model conditioned on text")
    caption_features: int = Field(2048, gt=0, description="width of the text encoder's features")
    text_encoder: str = Field("google/flan-t5-xl", description="T5 encoder of captions: a hub repository or a folder")
    beta_precision: Literal["fp32", "bf16"] = Field("fp32", description="in which the sinusoid of beta is computed")
    decay: Literal["matrices", "all-but-norms"] = Field("matrices", description="which parameters decay")


class Transformer(nn.Module):
    """Logits of an image's codes, each given the condition and the codes before it, row by row.

    Args:
        options: sizes.
        card: gives grid, codebook, condition and classes, and whether there is a temperature input.
    """

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__()
        assert card.tokenizer.codebook is not None
        self.options, self.grid = options, card.grid
        self.codes = card.grid**2
        text, width = card.condition == "text", options.width
        self.prefix = options.caption_tokens if text else 1
        self.cls_embedding: ClassEmbedding | CaptionEmbedding
        if text:
            self.cls_embedding = CaptionEmbedding(self.prefix, options.caption_features, width)
        else:
            self.cls_embedding = ClassEmbedding(card.classes, width)
        self.tok_embeddings = nn.Embedding(card.tokenizer.codebook, width)
        self.tok_dropout = nn.Dropout(options.token_dropout)
        self.layers = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.norm = RMSNorm(width)
        self.output = nn.Linear(width, card.tokenizer.codebook, bias=False)
        # The released code computes the sinusoid in the type of its weights unless it is compiled; in bfloat16 that is
        # another function, on which the released 3B model was trained.
        precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.beta_precision]
        self.t_embedder, self.slope = options.build_temperature(
            card.temperature, width, card.tokenizer.codebook, RMSNorm, precision=precision
        )
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the output starts at zero, and so does what the temperature adds."""
        normal_weights(self)
        nn.init.zeros_(self.output.weight)
        start_plain(self.t_embedder, self.slope)

    def rotations(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every position."""
        return rotations(self.grid, self.options.head_width, self.prefix, device)

    def embed_condition(self, condition: Tensor, beta_B: Tensor | None) -> Tensor:
        """The condition's tokens (B, T, D); the temperature is added to each, or nothing where it is None."""
        return with_beta(self.cls_embedding(condition), self.t_embedder, beta_B)

    def attendable(self, condition: Tensor, length: int) -> Tensor | None:
        """Which positions may be attended to at all (B, length): all but a caption's padding; None for all."""
        if condition.ndim == 1:
            return None
        padding_free = present(condition)
        return torch.cat([padding_free, padding_free.new_ones(len(condition), length - self.prefix)], 1)

    def forward(self, codes_BN: Tensor, condition: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """Logits (B, N, V), float32, of all codes.

        Args:
            codes_BN: int64 codes; the last one is predicted and not read.
            condition: class indices (B,) or text features (B, T, F), padding zero.
            beta_B: the temperature; None adds nothing.
        """
        prefix_BTD = self.embed_condition(condition, beta_B)
        x_BLD = self.tok_dropout(torch.cat([prefix_BTD, self.tok_embeddings(codes_BN[:, :-1])], 1))
        length = x_BLD.shape[1]
        cos_LP, sin_LP = (table[:length] for table in self.rotations(x_BLD.device))
        columns = self.attendable(condition, length)
        mask = None if columns is None else causal_mask(columns)
        for block in self.layers:
            x_BLD = block(x_BLD, cos_LP, sin_LP, mask)
        return self.read_out(x_BLD[:, self.prefix - 1 :])

    def read_out(self, x_XD: Tensor) -> Prediction:
        """Logits (X, V), float32, of the last hidden state; two of them where the temperature is affine."""
        features_XD = self.norm(x_XD)
        return each(with_slope(self.slope, self.output(features_XD), x_XD, features_XD), Tensor.float)


class CodeDecoder(Decoder):
    """Codes row by row, behind the condition."""

    def __init__(self, network: Transformer, condition: Tensor) -> None:
        shape = len(condition), network.options.heads, network.options.head_width
        positions = network.prefix + network.codes
        super().__init__(len(network.layers), shape, positions, network.prefix, network.output.weight)
        self.network, self.condition = network, condition
        self.columns_BS = network.attendable(condition, len(self.slot_S))
        self.cos_LP, self.sin_LP = network.rotations(self.slot_S.device)

    def prefill(self, beta_B: Tensor | None) -> Prediction:
        return self._advance(self.network.embed_condition(self.condition, beta_B), self.slot_S[: self.prefix])

    def step(self, code_B: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Prediction:
        """The temperature was read with the condition."""
        return self._advance(self.network.tok_embeddings(code_B).unsqueeze(1), position_1)

    def keep(self, rows: int) -> None:
        super().keep(rows)
        self.columns_BS = None if self.columns_BS is None else self.columns_BS[:rows]

    def _advance(self, x_BLD: Tensor, position_L: Tensor) -> Prediction:
        mask = None
        if self.columns_BS is not None:
            past_LS, own_LS = self.slot_S <= position_L[:, None], self.slot_S == position_L[:, None]
            mask = (past_LS & self.columns_BS[:, None] | own_LS)[:, None]
        cos_LP, sin_LP = self.cos_LP[position_L], self.sin_LP[position_L]
        for block, past in zip(self.network.layers, self.pasts(position_L, mask), strict=True):
            x_BLD = block(x_BLD, cos_LP, sin_LP, None, past)
        return self.network.read_out(x_BLD[:, -1])


def causal_mask(columns_BL: Tensor) -> Tensor:
    """Earlier positions that may be attended to, and always the own one (B, 1, L, L)."""
    length = columns_BL.shape[1]
    past_LL = torch.ones(length, length, dtype=torch.bool, device=columns_BL.device).tril()
    own_LL = torch.eye(length, dtype=torch.bool, device=columns_BL.device)
    return (past_LL & columns_BL[:, None] | own_LL)[:, None]
