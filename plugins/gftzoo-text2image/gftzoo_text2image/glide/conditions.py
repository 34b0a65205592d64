"""Prompts as tokens: a byte-level BPE's of lower-cased text, or, without files of one, the bytes themselves.

A condition is (B, 3, T): whether a position holds a token, and the token's number in two parts below 256, which 16 bits
hold exactly. Suffixes: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.foreign_folders import load_foreign
from gftzoo.prompts import tell_of_long_prompts
from gftzoo_text2image.glide.options import GlideNetwork


@cache
def tokenizer(source: str) -> Any:
    """The byte-level BPE in a folder or repository of GPT-2's layout; GftzooError if it cannot be had."""
    from transformers import GPT2TokenizerFast  # slow to import

    advice = "name a folder with vocab.json and merges.txt with -o text_encoder=PATH."
    return load_foreign(GPT2TokenizerFast, source, f"the tokenizer {source!r}", advice)


def encode_prompts(model: Model, conditions: Sequence[int | str]) -> Tensor:
    """The conditions (B, 3, T) of prompts; longer ones are cut."""
    options = model.card.network_options(GlideNetwork)
    if model.device.type == "meta":  # shapes only: no tokenizer is loaded, nor may be at hand
        return torch.empty(len(conditions), 3, options.tokens, device="meta")
    end, rows = options.vocabulary - 1, []
    if model.card.text_encoder is not None:
        known = tokenizer(model.card.text_encoder)
        tell_of_long_prompts([str(prompt) for prompt in conditions], known, options.tokens, model.card.name)
        if len(known) != options.vocabulary:
            raise UsageError(
                f"the tokenizer {model.card.text_encoder!r} has {len(known)} tokens and {model.card.name} reads "
                f"{options.vocabulary}; give GPT-2's with -o text_encoder=PATH."
            )
    for prompt in conditions:
        text = str(prompt).lower()
        found = list(text.encode()) if model.card.text_encoder is None else known.encode(text)
        numbers = torch.full((options.tokens,), end)
        kept = found[: options.tokens]
        numbers[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
        rows.append(torch.stack([torch.arange(options.tokens) < len(kept), numbers // 256, numbers % 256]))
    return torch.stack(rows).float().to(model.device)


def null_condition(model: Model, like: Tensor) -> Tensor:
    """The empty prompt (3, T): the end of a text at every position, none of which counts."""
    end = model.card.network_options(GlideNetwork).vocabulary - 1
    row = torch.tensor([0, end // 256, end % 256], dtype=like.dtype, device=like.device)
    return row[:, None].expand(3, like.shape[-1])


def tokens_of(condition: Tensor) -> tuple[Tensor, Tensor]:
    """Token numbers and mask (B, T) of conditions."""
    mask, high, low = condition.unbind(1)
    return (256 * high + low).round().long(), mask > 0.5
