"""Prompts as one row of numbers each: what a pipeline's own text encoders make of them, side by side.

Suffixes: B batch, N numbers of a prompt.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.prompts import tell_of_long_prompts
from gftzoo_text2image.folders import load_text_encoders
from gftzoo_text2image.network import config_of, options_of, pipeline_of
from gftzoo_text2image.pipelines.pipeline import Shapes

MOST_BYTES = 2**31  # of features that are kept, so that a prompt is encoded once


def shapes_of(card: ModelCard) -> Shapes:
    """The tensors that a prompt of the card becomes, by name, without the batch."""
    pipeline = pipeline_of(card)
    return pipeline.shapes(config_of(card), options_of(card).tokens or pipeline.tokens)


def numbers_of(shapes: Shapes) -> int:
    """How many numbers the tensors of these shapes have."""
    return sum(map(math.prod, shapes.values()))


def join(tensors: dict[str, Tensor], shapes: Shapes) -> Tensor:
    """The tensors in one (B, N), each padded with zeros to its shape."""
    rows = []
    for name, shape in shapes.items():
        tensor = tensors[name].float()
        missing = [size - found for size, found in zip(shape, tensor.shape[1:], strict=True)]
        if min(missing) < 0:
            raise UsageError(f"the text encoders give {name} {tuple(tensor.shape[1:])}, and the network reads {shape}.")
        rows.append(F.pad(tensor, [n for size in reversed(missing) for n in (0, size)]).flatten(1))
    return torch.cat(rows, 1)


def split(condition_BN: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """The tensors of joined ones."""
    parts = condition_BN.split([math.prod(shape) for shape in shapes.values()], 1)
    return {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


class TextEncoders:
    """The text encoders and tokenizers of one pipeline; what they made of a prompt is kept."""

    def __init__(self, pipeline: str, source: str) -> None:
        self.source = source
        self.parts: Any = load_text_encoders(pipeline, source)
        self.kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def tell_of_long(self, prompts: Sequence[str], tokens: int) -> None:
        """Says once which prompts will be cut."""
        tokenizers = [t for name, t in sorted(self.parts.components.items()) if name.startswith("tokenizer") and t]
        if tokenizers and callable(getattr(tokenizers[-1], "encode", None)):
            tell_of_long_prompts(prompts, tokenizers[-1], tokens, self.source)

    @torch.no_grad()
    def encode(self, card: ModelCard, prompts: Sequence[str], device: torch.device) -> Tensor:
        """Features (B, N) float32 of prompts, from the CPU's memory where they have been encoded before."""
        pipeline = pipeline_of(card)
        tokens, shapes = options_of(card).tokens or pipeline.tokens, shapes_of(card)
        new = [prompt for prompt in dict.fromkeys(prompts) if (prompt, tokens) not in self.kept]
        if new:
            self.tell_of_long(new, tokens)
            self.parts.to(device)
            with torch.autocast(device.type, enabled=False):  # features do not depend on how the network is trained
                found = join(pipeline.encode(self.parts, new, tokens), shapes).cpu()
            self.kept |= {(prompt, tokens): row for prompt, row in zip(new, found, strict=True)}
        rows = torch.stack([self.kept[prompt, tokens] for prompt in prompts])
        while len(self.kept) > 1 and len(self.kept) * rows[0].nbytes > MOST_BYTES:
            self.kept.popitem(last=False)
        return rows.to(device)


text_encoders = cache(TextEncoders)


def encoders_of(model: Model) -> TextEncoders:
    """The text encoders of a model: of the pipeline that its VAE was loaded from by path, else its card's."""
    folder = getattr(model.tokenizer, "pipeline", None)
    source = folder if folder is not None and (Path(folder) / "model_index.json").is_file() else model.card.text_encoder
    if source is None:
        raise UsageError(f"{model.card.name} names no text encoders; give a pipeline with -o text_encoder=PATH.")
    return text_encoders(options_of(model.card).pipeline, str(source))


def encode_prompts(model: Model, conditions: Sequence[int | str]) -> Tensor:
    """Features (B, N) of prompts."""
    if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
        return torch.empty(len(conditions), numbers_of(shapes_of(model.card)), device="meta")
    return encoders_of(model).encode(model.card, [str(prompt) for prompt in conditions], model.device)


def null_features(model: Model, like_BN: Tensor) -> Tensor:
    """Features (1, N) of the empty prompt, beside those of prompts."""
    if like_BN.is_meta:
        return torch.empty(1, like_BN.shape[1], device="meta")
    return encoders_of(model).encode(model.card, [""], like_BN.device)
