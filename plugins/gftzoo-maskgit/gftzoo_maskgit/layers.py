"""What the masked networks share: BERT's layer, the head in front of the logits, the temperature.

Suffixes: B batch, L positions, D width, X any dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import Prediction, ResidualMLP, Slope, each, with_slope
from gftzoo.layers.transformer import Attention, Block, Mlp
from gftzoo_maskgit.options import NetworkOptions

INIT_STD = 0.02
BERT_EPS = 1e-12
TANH_GELU = partial(nn.GELU, approximate="tanh")


class MaskedNetwork(nn.Module):
    """Logits (B, M, V) of the M parts of an image's codes, given those that are not masked, the class and beta.

    Attributes:
        options: sizes.
        codes: N, codes of an image.
        splits: S, parts of a code; M = N S, code by code.
        beta_embed: embeds the temperature, which is added to every position before the first norm.
        slope: d of an affine temperature.
        positions: key of the table that is added there too.
        readout: prefix of the layer that logits are read from; None where that is the table of codes, which is an input
            too.
    """

    positions: ClassVar[str]
    beta_embed: SinusoidEmbedding | None
    slope: Slope | None
    options: NetworkOptions
    codes: int
    splits = 1
    readout: str | None

    def split(self, codes_BN: Tensor) -> Tensor:
        """The parts (B, M) of codes."""
        return codes_BN

    def join(self, parts_BM: Tensor) -> Tensor:
        """The codes (B, N) of parts."""
        return parts_BM

    def hidden(
        self,
        codes_BM: Tensor,
        masked_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BM: Tensor | None = None,
    ) -> Tensor:
        """The last hidden state (B, N, W) of the codes; arguments as of `forward`."""
        raise NotImplementedError

    def features(self, h_BNW: Tensor) -> Tensor:
        """What logits are read from, (B, N, D)."""
        raise NotImplementedError

    def read_out(self, features_BND: Tensor) -> Tensor:
        """Logits (B, N, S V) of features."""
        raise NotImplementedError

    def forward(
        self,
        codes_BM: Tensor,
        masked_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        left_out_BM: Tensor | None = None,
    ) -> Prediction:
        """Logits (B, M, V), float32.

        Args:
            codes_BM: int64 parts of codes; masked ones are not read.
            masked_BM: which are masked.
            class_B: class indices, `classes` for the null class.
            beta_B: the temperature; None adds nothing.
            left_out_BM: masked codes that an encoder is not shown, equally many in each row; None shows all. Without
                an encoder apart it means nothing.
        """
        h_BNW = self.hidden(codes_BM, masked_BM, class_B, beta_B, left_out_BM)
        features_BND = self.features(h_BNW)
        found = with_slope(self.slope, self.read_out(features_BND), h_BNW, features_BND)
        return each(found, self.by_parts)

    def by_parts(self, logits_BNX: Tensor) -> Tensor:
        """Logits (B, N, S V) as (B, M, V), float32."""
        return logits_BNX.float().unflatten(-1, (self.splits, -1)).flatten(1, 2)

    def with_beta(self, x_BLD: Tensor, beta_B: Tensor | None) -> Tensor:
        """Embedded positions and the temperature; they alone where it is None, or not embedded."""
        if self.beta_embed is None or beta_B is None:
            return x_BLD
        return x_BLD + self.beta_embed(beta_B)[:, None]

    def repeated(self) -> list[nn.Module]:
        """The blocks, for sharding, checkpointing and compilation."""
        raise NotImplementedError


class PostNormBlock(nn.Module):
    """Attention, then an MLP, each added to its input and normalised afterwards."""

    def __init__(self, options: NetworkOptions, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
        self.attn = Attention(width, options.heads, qkv_bias=True, attn_drop=dropout, proj_drop=dropout)
        self.norm1 = nn.LayerNorm(width, eps=BERT_EPS)
        self.mlp = Mlp(width, int(width * options.mlp_ratio), act_layer=activation, drop=(0.0, dropout))
        self.norm2 = nn.LayerNorm(width, eps=BERT_EPS)

    def forward(self, x_BLD: Tensor) -> Tensor:
        x_BLD = self.norm1(x_BLD + self.attn(x_BLD))
        return self.norm2(x_BLD + self.mlp(x_BLD))


class Head(nn.Module):
    """The layer between the transformer and the logits: hidden state (X, D) to features (X, out)."""

    def __init__(self, width: int, out: int, activation: nn.Module, eps: float) -> None:
        super().__init__()
        self.fc, self.activation, self.ln = nn.Linear(width, out), activation, nn.LayerNorm(out, eps=eps)

    def forward(self, x_XD: Tensor) -> Tensor:
        return self.ln(self.activation(self.fc(x_XD)))


def prenorm_block(width: int, heads: int, mlp_ratio: float, dropout: float, eps: float) -> Block:
    """A block with its norms in front, as in ViT."""
    norm = partial(nn.LayerNorm, eps=eps)
    return Block(width, heads, mlp_ratio, qkv_bias=True, proj_drop=dropout, attn_drop=dropout, norm_layer=norm)


def build_beta_embedding(options: NetworkOptions, temperature: bool) -> SinusoidEmbedding | None:
    """The embedding of beta, where there is one."""
    return SinusoidEmbedding(options.width, options.beta_scale) if temperature and options.embeds else None


def build_slope(options: NetworkOptions, temperature: bool, hidden: int, features: int, out: int) -> Slope | None:
    """d, on the features that the logits are read from, or behind MLPs and a norm of its own; where there is one."""
    if not (temperature and options.affine):
        return None
    width = hidden if options.temperature_blocks else features
    return options.build_slope(width, out, partial(ResidualMLP, hidden), partial(nn.LayerNorm, hidden), bias=False)


def start_idle(embedding: SinusoidEmbedding | None) -> None:
    """N(0, 0.02) and a last layer of zero: the temperature adds nothing yet."""
    if embedding is not None:
        first, last = embedding.layers
        nn.init.normal_(first.weight, std=INIT_STD)
        nn.init.zeros_(last.weight)


def init_bert(network: MaskedNetwork, *tables: nn.Parameter) -> None:
    """Matrices and tables from a normal distribution cut at two deviations, biases zero."""
    std = network.options.init
    for table in tables:
        nn.init.trunc_normal_(table, std=std, a=-2 * std, b=2 * std)
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
