"""Decoding of codes one after the other: attention over cached keys and values, for causal networks.

Suffixes: B batch, L positions read at once, S slots of the cache, H heads, K width of a head, D width, V codebook.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.layers.compiling import compiled, hold_still
from gftzoo.layers.temperature import Prediction


class Cache:
    """Keys and values of one layer, written in place; the length never changes, so that a step can be compiled."""

    def __init__(self, batch: int, heads: int, slots: int, head_width: int, like: Tensor, dtype: torch.dtype) -> None:
        self.k_BHSK = torch.zeros(batch, heads, slots, head_width, device=like.device, dtype=dtype)
        self.v_BHSK = torch.zeros_like(self.k_BHSK)

    def write(self, position_L: Tensor, k_BHLK: Tensor, v_BHLK: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the keys and values of the given positions; returns all of them."""
        return self.k_BHSK.index_copy_(2, position_L, k_BHLK), self.v_BHSK.index_copy_(2, position_L, v_BHLK)

    def keep(self, rows: int) -> None:
        """Forgets all but the first rows of the batch."""
        self.k_BHSK, self.v_BHSK = self.k_BHSK[:rows], self.v_BHSK[:rows]


class Past:
    """What a layer reads beside its input while codes are decoded: its cache, where the input belongs, what it sees.

    Attributes:
        cache: of the layer.
        position_L: slots of the input.
        mask: slots that each position attends to, (1 or B, 1, L, S).
    """

    def __init__(self, cache: Cache, position_L: Tensor, mask: Tensor) -> None:
        self.cache, self.position_L, self.mask = cache, position_L, mask


def attend(
    q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, mask: Tensor | None, past: Past | None, dropout: float = 0.0
) -> Tensor:
    """Causal attention (B, L, D), over the sequence itself, under `mask` where there is one, or over a cache."""
    if past is not None:
        k_BHLK, v_BHLK = past.cache.write(past.position_L, k_BHLK, v_BHLK)
        mask = past.mask
    y_BHLK = F.scaled_dot_product_attention(
        q_BHLK, k_BHLK, v_BHLK, attn_mask=mask, is_causal=mask is None, dropout_p=dropout
    )
    return y_BHLK.transpose(1, 2).flatten(2)


class Caches:
    """The caches of several layers, of fixed size (the positions rounded up to a multiple of 8).

    Args:
        layers: that attend.
        shape: batch, heads and head width.
        positions: of the longest sequence.
        weight: of the network; keys and values are of its type, or of autocast's.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int], positions: int, weight: Tensor) -> None:
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        batch, heads, head_width = shape
        slots = -(-positions // 8) * 8
        self.caches = [Cache(batch, heads, slots, head_width, weight, dtype) for _ in range(layers)]
        self.slot_S = torch.arange(slots, device=weight.device)

    def pasts(self, position_L: Tensor, mask: Tensor | None = None) -> list[Past]:
        """What each layer reads for the input at these positions: by default all slots up to each of them."""
        if mask is None:
            mask = (self.slot_S <= position_L[:, None])[None, None]
        return [Past(cache, position_L, mask) for cache in self.caches]

    def at(self, position: int) -> Tensor:
        """A position as a tensor (1,)."""
        return self.slot_S[position:][:1]

    def keep(self, rows: int) -> None:
        """Goes on with the first rows of the batch only."""
        for cache in self.caches:
            cache.keep(rows)

    def hold_still(self) -> None:
        """Lets CUDA graphs write to the caches, which they refuse otherwise."""
        for cache in self.caches if self.slot_S.is_cuda else ():
            hold_still(cache.k_BHSK, cache.v_BHSK)


class Decoder(Caches):
    """The codes of a batch of images, one after the other: `prefill` once, then `step` for every code.

    Its state is the caches alone. A network's own decoder says what stands before the codes and how a code is read.

    Args:
        prefix: positions before the first code.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int], positions: int, prefix: int, weight: Tensor) -> None:
        super().__init__(layers, shape, positions, weight)
        self.prefix = prefix

    def prefill(self, beta_B: Tensor | None) -> Prediction:
        """Reads the condition; logits (B, V) of the first code."""
        raise NotImplementedError

    def step(self, code_B: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Prediction:
        """Reads the code at a position (1,) of the sequence; logits (B, V) of the next."""
        raise NotImplementedError

    def logits(self, n: int, code_B: Tensor | None, beta_B: Tensor | None) -> Prediction:
        """Logits (B, V) of code `n`, given the code before it, None for the first."""
        return self.prefill(beta_B) if code_B is None else self.step(code_B, self.at(self.prefix + n - 1), beta_B)

    def compile(self, backend: str = "inductor") -> None:
        """Makes the step one graph; on a GPU it is recorded once and replayed."""
        self.hold_still()
        self.step = compiled(self.step, self.slot_S.is_cuda, backend)  # type: ignore[method-assign]


class DepthDecoder(Decoder):
    """Positions of several codes each: a body reads the positions, and a head the codes of each.

    Args:
        layers: that attend, of body and head.
        parts: codes of a position.
    """

    def __init__(
        self, layers: tuple[int, int], shape: tuple[int, int, int], positions: int, parts: int, weight: Tensor
    ) -> None:
        super().__init__(layers[0], shape, positions, 1, weight)
        self.parts, self.head = parts, Caches(layers[1], shape, parts, weight)
        self.drawn: list[Tensor] = []

    def begin(self, beta_B: Tensor | None) -> Tensor:
        """Reads the condition; what the head reads at the first position (B, 1, D)."""
        raise NotImplementedError

    def advance(self, codes_BP: Tensor, position_1: Tensor, beta_B: Tensor | None) -> Tensor:
        """Reads the codes of a position (1,); what the head reads at the next (B, 1, D)."""
        raise NotImplementedError

    def embed(self, codes_BK: Tensor) -> Tensor:
        """What the head reads behind the first K codes of a position (B, 1, D)."""
        raise NotImplementedError

    def read(self, part: int, x_B1D: Tensor) -> Prediction:
        """Logits (B, V) of a code of the position, of what the head reads."""
        raise NotImplementedError

    def logits(self, n: int, code_B: Tensor | None, beta_B: Tensor | None) -> Prediction:
        position, part = divmod(n, self.parts)
        if code_B is None:
            return self.read(0, self.begin(beta_B))
        self.drawn.append(code_B)
        codes_BK = torch.stack(self.drawn, 1)
        if part:
            return self.read(part, self.embed(codes_BK))
        self.drawn = []
        return self.read(0, self.advance(codes_BK, self.at(position), beta_B))

    def keep(self, rows: int) -> None:
        super().keep(rows)
        self.head.keep(rows)
        self.drawn = [code_B[:rows] for code_B in self.drawn]

    def compile(self, backend: str = "inductor") -> None:
        self.hold_still()
        self.head.hold_still()
        on_gpu = self.slot_S.is_cuda
        self.advance = compiled(self.advance, on_gpu, backend)  # type: ignore[method-assign]
        self.read = compiled(self.read, on_gpu, backend)  # type: ignore[method-assign]
