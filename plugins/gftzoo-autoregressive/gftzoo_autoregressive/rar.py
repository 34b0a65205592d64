"""RAR's transformer: the order of the codes is part of the problem, and each position is told which one comes next.

Suffixes: B batch, N codes of an image, V codebook, L = 2 + N - 1 positions, D width, H heads, K width of a head.
"Randomized Autoregressive Visual Generation" (arXiv 2411.00776); bytedance/1d-tokenizer, modeling/rar.py. State-dict
keys are the official ones.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.decoding import Decoder, Past, attend
from gftzoo.layers.sequence import INIT_STD, CodeNetworkOptions, start_plain, with_beta
from gftzoo.layers.temperature import Prediction, each, with_slope, zero_layer
from gftzoo.layers.transformer import Mlp

PREFIX = 2  # the start token and the class
SPARE_POSITIONS, SPARE_STEPS = 1024, 100  # rows of the official tables beyond the codes; the first two are the prefix's


class RAROptions(CodeNetworkOptions):
    """Options of the network."""

    hidden: int = Field(gt=0, description="width of the feed-forward")
    dropout: float = Field(0.1, ge=0, lt=1, description="of attention weights, projections and feed-forwards")
    random_until: int = Field(
        0, ge=0, description="samples of a run whose codes are in random order; after them fewer and fewer are"
    )
    raster_from: int = Field(0, ge=0, description="the sample of a run from which on all codes are in raster order")

    def random_share(self, position: int) -> float:
        """The chance of a random order for the sample at a position of the run: 1, then linear to 0."""
        if position < self.random_until:
            return 1.0
        length = self.raster_from - self.random_until
        return max(0.0, 1 - (position - self.random_until) / length) if length > 0 else 0.0


class Attention(nn.Module):
    """Causal self-attention with normalised queries and keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = (nn.LayerNorm(width // heads, eps=1e-6) for _ in range(2))
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, past: Past | None) -> Tensor:
        q, k, v = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q).type_as(v), self.k_norm(k).type_as(v)
        y_BLD = attend(q, k, v, None, past, self.dropout if self.training else 0.0)
        return self.proj_drop(self.proj(y_BLD))


def modulation(width: int, parts: int) -> nn.Sequential:
    """What the condition (X, D) makes of each position: shifts, scales and gates (X, parts D)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class Block(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the condition of every position."""

    def __init__(self, options: RAROptions) -> None:
        super().__init__()
        width = options.width
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, options.heads, options.dropout)
        self.mlp = Mlp(width, options.hidden, drop=options.dropout)
        self.adaLN_modulation = modulation(width, 6)

    def forward(self, x_BLD: Tensor, c_BLD: Tensor, past: Past | None = None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(c_BLD).chunk(6, -1)
        x_BLD = x_BLD + gate_1 * self.attn(self.norm1(x_BLD) * (1 + scale_1) + shift_1, past)
        return x_BLD + gate_2 * self.mlp(self.norm2(x_BLD) * (1 + scale_2) + shift_2)


class FinalNorm(nn.Module):
    """The last norm, scaled and shifted by the condition of every position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.adaLN_modulation = modulation(width, 2)

    def forward(self, x_BLD: Tensor, c_BLD: Tensor) -> Tensor:
        scale, shift = self.adaLN_modulation(c_BLD).chunk(2, -1)
        return self.norm_final(x_BLD) * (1 + scale) + shift


class RAR(nn.Module):
    """Logits of an image's codes, each given the condition, the codes before it, and which of the codes it is.

    Args:
        options: sizes.
        card: gives grid, codebook and classes, and whether there is a temperature input.
    """

    def __init__(self, options: RAROptions, card: ModelCard) -> None:
        super().__init__()
        assert card.tokenizer.codebook is not None
        width, self.codebook = options.width, card.tokenizer.codebook
        self.options, self.codes = options, card.grid**2
        self.first_class = self.codebook + 1  # behind a row for masked codes, which is not used
        self.embeddings = nn.Embedding(self.first_class + card.classes + 1, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.codes + SPARE_POSITIONS, width))
        self.target_aware_pos_embed = nn.Parameter(torch.zeros_like(self.pos_embed))
        self.timesteps_embeddings = nn.Parameter(torch.zeros(1, self.codes + SPARE_STEPS, width))
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.adaln_before_head = FinalNorm(width)
        self.lm_head = nn.Linear(width, self.codebook)
        temperature = options.build_temperature(card.temperature, width, self.codebook, FinalNorm, bias=True)
        self.beta_embed, self.slope = temperature
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; modulations start at zero, and so does what the temperature adds."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and name != "cls_token":
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, Block | FinalNorm):
                zero_layer(module.adaLN_modulation[1])
        start_plain(self.beta_embed, self.slope)

    def embed_class(self, condition_B: Tensor, beta_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """The class token (B, 1, D), and what every position is modulated by before its own place is added."""
        class_B1D = self.embeddings(condition_B + self.first_class).unsqueeze(1)
        return class_B1D, with_beta(class_B1D, self.beta_embed, beta_B)

    def prefix(self, class_B1D: Tensor) -> Tensor:
        """The positions before the codes (B, 2, D), without the one that comes next."""
        start_B1D = self.cls_token.expand(len(class_B1D), -1, -1)
        return torch.cat([start_B1D, class_B1D], 1) + self.pos_embed[:, :PREFIX]

    def forward(
        self, codes_BN: Tensor, order_BN: Tensor, condition_B: Tensor, beta_B: Tensor | None = None
    ) -> Prediction:
        """Logits (B, N, V), float32, of all codes in the given order.

        Args:
            codes_BN: int64 codes in that order; the last one is predicted and not read.
            order_BN: where each code stands in the image, row by row.
            condition_B: classes.
            beta_B: the temperature; None adds nothing.
        """
        class_B1D, c_B1D = self.embed_class(condition_B, beta_B)
        own_BND = self.pos_embed[0][PREFIX + order_BN]
        next_BND = self.target_aware_pos_embed[0][PREFIX + order_BN]
        codes_BMD = self.embeddings(codes_BN[:, :-1]) + own_BND[:, :-1]
        prefix_B2D = self.prefix(class_B1D)
        x_BLD = torch.cat([prefix_B2D[:, :1], torch.cat([prefix_B2D[:, 1:], codes_BMD], 1) + next_BND], 1)
        c_BLD = c_B1D + self.timesteps_embeddings[:, : x_BLD.shape[1]]
        for block in self.blocks:
            x_BLD = block(x_BLD, c_BLD)
        return self.read_out(x_BLD[:, PREFIX - 1 :], c_BLD[:, PREFIX - 1 :])

    def read_out(self, x_BLD: Tensor, c_BLD: Tensor) -> Prediction:
        """Logits (B, L, V), float32, of the last hidden state; two of them where the temperature is affine."""
        features_BLD = self.adaln_before_head(x_BLD, c_BLD)
        logits_BLV = self.lm_head(features_BLD)
        return each(with_slope(self.slope, logits_BLV, x_BLD, features_BLD, c_BLD), Tensor.float)


class RARDecoder(Decoder):
    """Codes in raster order. Each position has its own temperature; those of the past stay in keys and values."""

    def __init__(self, network: RAR, condition_B: Tensor) -> None:
        options = network.options
        shape = len(condition_B), options.heads, options.head_width
        super().__init__(options.depth, shape, PREFIX + network.codes, PREFIX, network.cls_token)
        self.network, self.condition_B = network, condition_B

    def prefill(self, beta_B: Tensor | None) -> Prediction:
        network = self.network
        class_B1D, c_B1D = network.embed_class(self.condition_B, beta_B)
        start_B1D, class_B1D = network.prefix(class_B1D).split(1, 1)
        class_B1D = class_B1D + network.target_aware_pos_embed[:, PREFIX : PREFIX + 1]
        return self._advance(torch.cat([start_B1D, class_B1D], 1), c_B1D, self.slot_S[:PREFIX])

    def step(self, code_B: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Prediction:
        network = self.network
        _, c_B1D = network.embed_class(self.condition_B, beta_B)
        x_B1D = network.embeddings(code_B).unsqueeze(1) + network.pos_embed[:, position_1]
        return self._advance(x_B1D + network.target_aware_pos_embed[:, position_1 + 1], c_B1D, position_1)

    def keep(self, rows: int) -> None:
        super().keep(rows)
        self.condition_B = self.condition_B[:rows]

    def _advance(self, x_BLD: Tensor, c_B1D: Tensor, position_L: Tensor) -> Prediction:
        c_BLD = c_B1D + self.network.timesteps_embeddings[:, position_L]
        for block, past in zip(self.network.blocks, self.pasts(position_L), strict=True):
            x_BLD = block(x_BLD, c_BLD, past)
        return each(self.network.read_out(x_BLD[:, -1:], c_BLD[:, -1:]), lambda logits: logits[:, 0])
