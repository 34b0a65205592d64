"""Prompts as CLIP's text features: the embedding, the states of all tokens, which of these count, and whether to drop.

A condition is a row (B, N) of these side by side. Suffixes: B batch, T tokens, D width, N numbers of a condition.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.foreign_folders import load_foreign
from gftzoo.prompts import tell_of_long_prompts
from gftzoo_text2image.pipelines.pipeline import Shapes
from gftzoo_text2image.text import join, numbers_of, split

ADVICE = "name a pipeline's folder with text_encoder and tokenizer in it with -o text_encoder=PATH."
MOST_PROMPTS = 4096  # whose features are kept, of a quarter of a megabyte each


class ClipText:
    """CLIP's text encoder of a pipeline in a folder or on the hub; what it made of a prompt is kept."""

    def __init__(self, source: str) -> None:
        from transformers import AutoTokenizer, CLIPTextModelWithProjection  # slow to import

        self.source, local = source, Path(source).is_dir()
        what = f"the text encoder of {source!r}"
        self.encoder: Any = load_part(CLIPTextModelWithProjection, source, "text_encoder", what, ADVICE)
        if local:
            self.tokenizer = load_foreign(AutoTokenizer, Path(source) / "tokenizer", what, ADVICE)
        else:
            self.tokenizer = load_foreign(AutoTokenizer, source, what, ADVICE, subfolder="tokenizer")
        self.kept: OrderedDict[tuple[str, int], dict[str, Tensor]] = OrderedDict()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], tokens: int, device: torch.device) -> dict[str, Tensor]:
        """`text` (B, D), `states` (B, T, D) and `mask` (B, T) of prompts, cut at T tokens."""
        new = [prompt for prompt in dict.fromkeys(prompts) if (prompt, tokens) not in self.kept]
        if new:
            tell_of_long_prompts(new, self.tokenizer, tokens, self.source)
            given = self.tokenizer(new, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt")
            with torch.autocast(device.type, enabled=False):  # features do not depend on how a network is trained
                found = self.encoder.to(device)(given.input_ids.to(device))
            rows = zip(found.text_embeds.cpu(), found.last_hidden_state.cpu(), given.attention_mask, strict=True)
            for prompt, (text, states, mask) in zip(new, rows, strict=True):
                self.kept[prompt, tokens] = {"text": text, "states": states, "mask": mask.float()}
        kept = [self.kept[prompt, tokens] for prompt in prompts]
        while len(self.kept) > MOST_PROMPTS:
            self.kept.popitem(last=False)
        return {name: torch.stack([row[name] for row in kept]).to(device) for name in ("text", "states", "mask")}


clip_text = cache(ClipText)


def load_part(kind: Any, source: str, part: str, what: str, advice: str) -> Any:
    """A part of a pipeline in fp32, frozen; GftzooError where it cannot be had."""
    local = Path(source).is_dir()
    place, where = (Path(source) / part, {}) if local else (source, {"subfolder": part})
    found = load_foreign(kind, place, what, advice, local_files_only=local, dtype=torch.float32, **where)
    return found.eval().requires_grad_(False)


def shapes_of(model: Model) -> Shapes:
    """The tensors of a condition of the model, without the batch."""
    options: Any = model.card.network_options(model.family.options().network)
    width, tokens = options.clip_width, options.tokens
    return {"text": (width,), "states": (tokens, width), "mask": (tokens,), "dropped": (1,)}


def encode(model: Model, prompts: Sequence[str], dropped: bool) -> Tensor:
    """Conditions (B, N) of prompts; UsageError for a text encoder of another width."""
    shapes = shapes_of(model)
    if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
        return torch.empty(len(prompts), numbers_of(shapes), device="meta")
    source = model.card.text_encoder
    if source is None:
        raise UsageError(f"{model.card.name} names no text encoder; {ADVICE}")
    found = clip_text(source).encode(prompts, shapes["mask"][0], model.device)
    found["dropped"] = torch.full((len(prompts), 1), float(dropped), device=model.device)
    if found["text"].shape[1:] != shapes["text"]:
        width = found["text"].shape[1]
        raise UsageError(f"{source!r} gives {width} features and {model.card.name} reads {shapes['text'][0]}; {ADVICE}")
    return join(found, shapes)


def encode_prompts(model: Model, conditions: Sequence[int | str]) -> Tensor:
    """Conditions (B, N) of prompts."""
    return encode(model, [str(prompt) for prompt in conditions], False)


def condition_drop(model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
    """The empty prompt where `dropped` (B,) is true; there the decoder leaves out the picture's embedding, too."""
    null = torch.empty_like(condition[:1]) if condition.is_meta else encode(model, [""], True)
    return torch.where(dropped.view(-1, 1), null.to(condition.device, condition.dtype), condition)


def parts_of(model: Model, condition: Tensor) -> dict[str, Tensor]:
    """The tensors of conditions (B, N)."""
    return split(condition, shapes_of(model))
