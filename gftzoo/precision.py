"""In which precision a model computes where nothing is trained: sampling, scoring, encoding.

Matrix products and convolutions run in autocast's dtype, as they do in training; weights, the state of a sampler and
what it draws from stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "bf16", "fp16", "fp32"]
DTYPES: dict[str, torch.dtype | None] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def choose_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype of `auto`, `bf16`, `fp16` or `fp32`; auto is bf16 on a GPU that has it and fp32 elsewhere."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return DTYPES[precision]


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bf16 by itself, and faster than those of fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def name_of(half: torch.dtype | None) -> str:
    """`bf16`, `fp16`, or `fp32` for None."""
    return next(name for name, dtype in DTYPES.items() if dtype is half)


def of_tokenizer(half: torch.dtype | None) -> torch.dtype | None:
    """The dtype of a tokenizer beside a network in `half`: never fp16, whose range the decoder of SD's VAE leaves."""
    return None if half is torch.float16 else half


def computing_in(half: torch.dtype | None, device: torch.device) -> Any:
    """Autocast to `half`; None leaves everything as it is, also an autocast of the caller's."""
    return nullcontext() if half is None else torch.autocast(device.type, half)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """No autocast: for what of a sampler is no network's, such as the sum of what its steps have added."""
    with torch.autocast(device.type, enabled=False):
        yield
