"""The block of Llama over codes in rows; the names of modules are those of the official files.

Suffixes: B batch, L positions, D width, H heads, K width of a head, P = K / 2 pairs that the rotary embedding turns.
FoundationVision/LlamaGen, autoregressive/models/gpt.py; TencentARC/SEED-Voken has the same.
"""

from __future__ import annotations

from functools import cache

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.errors import UsageError
from gftzoo.layers.decoding import Past, attend
from gftzoo.layers.sequence import CodeNetworkOptions

ROPE_BASE = 10_000.0


class LlamaOptions(CodeNetworkOptions):
    """Options of a network of these blocks; its own inherit them."""

    heads: int = Field(gt=0, description="attention heads; their width must be a multiple of 4")
    hidden_multiple: int = Field(256, gt=0, description="the feed-forward width 8/3 width is rounded up to this")
    token_dropout: float = Field(0.1, ge=0, lt=1, description="on the embedded condition and codes")
    residual_dropout: float = Field(0.1, ge=0, lt=1, description="on the output of attention")
    ffn_dropout: float = Field(0.1, ge=0, lt=1, description="on the output of the feed-forward")

    @property
    def hidden(self) -> int:
        """Width of the feed-forward: two thirds of 4 width, rounded up to the multiple."""
        return -(-int(2 * 4 * self.width / 3) // self.hidden_multiple) * self.hidden_multiple

    def check(self, model: str) -> None:
        """UsageError for heads that the rotary embedding cannot turn; `model` is the name to be shown."""
        if self.width % (4 * self.heads):
            raise UsageError(
                f"{model}: width {self.width} over {self.heads} heads gives a head width that is no multiple of 4; "
                "change -o network.width or -o network.heads."
            )


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps), computed in float32, cast back, and only then scaled."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        return (exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt()).type_as(x) * self.weight


@cache
def rotations(grid: int, head_width: int, prefix: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, P) of the two-dimensional rotary embedding, for `prefix` condition tokens and grid^2 codes.

    The first half of the pairs turns with a code's row, the second with its column. Condition tokens get zero for both:
    their queries and keys vanish, so that they are attended to with logit 0 and attend uniformly themselves.
    """
    with torch.inference_mode(False):  # the cached table also serves training
        frequency_J = ROPE_BASE ** (-torch.arange(0, head_width // 2, 2, device=device).float() / (head_width // 2))
        angle_GJ = torch.outer(torch.arange(grid, device=device).float(), frequency_J)
        row_LJ, column_LJ = angle_GJ.repeat_interleave(grid, 0), angle_GJ.repeat(grid, 1)
        angle_LP = torch.cat([row_LJ, column_LJ], 1)
        zero_TP = angle_LP.new_zeros(prefix, angle_LP.shape[1])
        return torch.cat([zero_TP, angle_LP.cos()]), torch.cat([zero_TP, angle_LP.sin()])


def rotate(x_BHLK: Tensor, cos_LP: Tensor, sin_LP: Tensor) -> Tensor:
    """Turns pairs of neighbouring elements, in float32: a product of complex numbers, which is one pass over memory.

    A compiler fuses the same into one pass by itself, and has no kernels for complex numbers.
    """
    pairs_BHLP2 = x_BHLK.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():
        a, b = pairs_BHLP2.unbind(-1)
        turned_BHLP2 = torch.stack([a * cos_LP - b * sin_LP, b * cos_LP + a * sin_LP], -1)
    else:
        turned_BHLP2 = torch.view_as_real(torch.view_as_complex(pairs_BHLP2) * torch.complex(cos_LP, sin_LP))
    return turned_BHLP2.flatten(-2).type_as(x_BHLK)


class Attention(nn.Module):
    """Causal self-attention with rotary positions, over the sequence or over a cache."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(width, 3 * width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)
        self.resid_dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BLD: Tensor,
        cos_LP: Tensor,
        sin_LP: Tensor,
        mask: Tensor | None = None,
        past: Past | None = None,
    ) -> Tensor:
        q, k, v = self.wqkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos_LP, sin_LP), rotate(k, cos_LP, sin_LP)
        return self.resid_dropout(self.wo(attend(q, k, v, mask, past)))


class FeedForward(nn.Module):
    """SwiGLU without biases."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.ffn_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn_dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, options: LlamaOptions) -> None:
        super().__init__()
        self.attention = Attention(options.width, options.heads, options.residual_dropout)
        self.feed_forward = FeedForward(options.width, options.hidden, options.ffn_dropout)
        self.attention_norm = RMSNorm(options.width)
        self.ffn_norm = RMSNorm(options.width)

    def forward(
        self,
        x_BLD: Tensor,
        cos_LP: Tensor,
        sin_LP: Tensor,
        mask: Tensor | None = None,
        past: Past | None = None,
    ) -> Tensor:
        h_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), cos_LP, sin_LP, mask, past)
        return h_BLD + self.feed_forward(self.ffn_norm(h_BLD))


class ClassEmbedding(nn.Module):
    """Class indices (B,) to one token (B, 1, D); index `classes` is the null class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, classes_B: Tensor) -> Tensor:
        return self.embedding_table(classes_B).unsqueeze(1)
