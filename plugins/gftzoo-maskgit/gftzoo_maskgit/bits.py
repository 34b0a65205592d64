"""Codes as bits, least significant first: what a lookup-free quantiser gives, and how a code is split into parts.

Suffixes: X any dimensions, S parts of a code, K bits of a part or a code. Channel k of a quantised map is bit k.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_bits(codes_X: Tensor, bits: int) -> Tensor:
    """Bits (X, K) of int64 codes as +1 and -1, float32."""
    place_K = torch.arange(bits, device=codes_X.device)
    return (codes_X[..., None] >> place_K & 1).float() * 2 - 1


def from_bits(signs_XK: Tensor) -> Tensor:
    """The int64 codes (X,) of numbers whose signs are bits; 0 counts as negative."""
    place_K = torch.arange(signs_XK.shape[-1], device=signs_XK.device)
    return ((signs_XK > 0).long() << place_K).sum(-1)


def split(codes_X: Tensor, parts: int, bits: int) -> Tensor:
    """The parts (X, S) of codes, each of `bits` bits, the low ones first."""
    shift_S = torch.arange(parts, device=codes_X.device) * bits
    return codes_X[..., None] >> shift_S & (1 << bits) - 1


def join(parts_XS: Tensor, bits: int) -> Tensor:
    """The codes (X,) of their parts."""
    shift_S = torch.arange(parts_XS.shape[-1], device=parts_XS.device) * bits
    return (parts_XS << shift_S).sum(-1)
