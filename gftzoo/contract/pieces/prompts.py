"""Conditions that are prompts, as features of a frozen CLIP text encoder.

Suffixes: B batch, T tokens, D width of the features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree, Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.layers.text_encoder import TextEncoder, text_encoder

TOKENS = 77  # of CLIP


class PromptConditions(ABC):
    """Features (B, T, D) of prompts; those of the empty prompt are the null condition.

    They are padded with zeros to what the network reads, so that any size of network trains on a smaller text encoder.
    """

    @abstractmethod
    def prompt_shape(self, card: ModelCard) -> tuple[int | None, int]:
        """Tokens and width of the features that the network reads; None where it reads any number of tokens."""

    @hookimpl
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor:
        if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
            return self._shaped(model, len(conditions))
        return self._fit(model, encoder_of(model).encode([str(prompt) for prompt in conditions], model.device))

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        meta = model.device.type == "meta"
        null = self._shaped(model, 1) if meta else self._fit(model, encoder_of(model).null(model.device))
        return torch.where(dropped.view(-1, 1, 1), null, condition)

    def _shaped(self, model: Model, count: int) -> Tensor:
        tokens, width = self.prompt_shape(model.card)
        return torch.empty(count, tokens or TOKENS, width, device="meta")

    def _fit(self, model: Model, features_BTD: Tensor) -> Tensor:
        """Features of the network's shape, zeros behind; UsageError where they are too many or too wide."""
        tokens, width = self.prompt_shape(model.card)
        found, wanted = features_BTD.shape[1:], (tokens or features_BTD.shape[1], width)
        for have, room, name in zip(found, wanted, ("text_tokens", "text_width"), strict=True):
            if have > room:
                raise UsageError(
                    f"{model.card.name} reads prompts with {name} {room} and its text encoder gives {have}; "
                    f"train it with -o network.{name}={have}."
                )
        return F.pad(features_BTD, (0, wanted[1] - found[1], 0, wanted[0] - found[0]))


def away_from(model: Model, condition: Tensor, guidance: Guidance, negative_prompt: str) -> Tensor:
    """The conditions of CFG's second pass: of the negative prompt, or the null condition where there is none.

    UsageError for a negative prompt without a second pass.
    """
    if not negative_prompt:
        return model.null_condition(condition)
    if not isinstance(guidance, ClassifierFree):
        raise UsageError(
            f"negative_prompt {negative_prompt!r} needs a second pass, which only CFG has; "
            "sample plain weights with --cfg, or leave it out."
        )
    return model.encode_condition([negative_prompt]).expand_as(condition)


def encoder_of(model: Model) -> TextEncoder:
    """The text encoder of a model: that of the pipeline its VAE was loaded from by path, else its card's."""
    pipeline = getattr(model.tokenizer, "pipeline", None)
    if pipeline is not None and (Path(pipeline) / "text_encoder").is_dir():
        return text_encoder(str(pipeline))
    if model.card.text_encoder is None:
        raise UsageError(f"{model.card.name} names no text encoder; give one with -o text_encoder=PATH.")
    return text_encoder(model.card.text_encoder)
