"""Captions as features of a T5 encoder, for models conditioned on text.

Suffixes: B batch, T tokens, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gftzoo.foreign_folders import load_foreign
from gftzoo.prompts import tell_of_long_prompts


@cache
def text_encoder(source: str) -> tuple[Any, Any]:
    """Tokenizer and encoder of a hub repository or folder; GftzooError if they cannot be had."""
    from transformers import AutoTokenizer, T5EncoderModel

    what = f"the text encoder {source!r}"
    advice = "download google/flan-t5-xl where there is a network and give its folder, -o network.text_encoder=PATH."
    tokenizer = load_foreign(AutoTokenizer, source, what, advice)
    encoder = load_foreign(T5EncoderModel, source, what, advice)
    return tokenizer, encoder.eval().requires_grad_(False)


@torch.no_grad()
def encode_captions(captions: Sequence[str], source: str, tokens: int, device: torch.device) -> Tensor:
    """Features (B, T, F) float32 of lower-case captions, padding zero and on the left."""
    tokenizer, encoder = text_encoder(source)
    cleaned = [" ".join(str(caption).lower().split()) for caption in captions]
    tell_of_long_prompts(cleaned, tokenizer, tokens, source)
    batch = tokenizer(cleaned, max_length=tokens, padding="max_length", truncation=True, return_tensors="pt")
    ids_BT, present_BT = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    with torch.autocast(device.type, enabled=False):  # features do not depend on how the network is trained
        features_BTF = encoder.to(device)(input_ids=ids_BT, attention_mask=present_BT).last_hidden_state
    return pad_left(features_BTF.float(), present_BT)


def pad_left(features_BTF: Tensor, present_BT: Tensor) -> Tensor:
    """Moves each row's tokens to its end, in order, with zeros before them."""
    order_BT = present_BT.long().argsort(dim=1, stable=True)
    kept_BTF = features_BTF * present_BT.unsqueeze(-1)
    return kept_BTF.gather(1, order_BT.unsqueeze(-1).expand_as(kept_BTF))
