"""Captions as features of a T5 encoder, for models conditioned on text.

Suffixes: B batch, T tokens, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.foreign_folders import refuse_code
from gftzoo.prompts import tell_of_long_prompts


@cache
def text_encoder(source: str) -> tuple[Any, Any]:
    """Tokenizer and encoder of a hub repository or folder; GftzooError if they cannot be had."""
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        refuse_code(source)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        encoder = T5EncoderModel.from_pretrained(source, trust_remote_code=False)
        return tokenizer, encoder.eval().requires_grad_(False)
    except GftzooError:
        raise
    except Exception as error:  # the hub client and the readers raise many types
        raise GftzooError(
            f"the text encoder {source!r} could not be loaded ({type(error).__name__}); download google/flan-t5-xl "
            "where there is a network and name its folder with -o network.text_encoder=PATH."
        ) from error


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
