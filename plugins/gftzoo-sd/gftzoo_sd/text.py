"""Prompts as features of a frozen CLIP text encoder, and the parts of a diffusers pipeline they come from.

A pipeline is named by a folder beside this file, a local folder, or a hub repository, in that order.
Suffixes: B batch, T tokens, D width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.foreign_folders import load_foreign, refuse_code
from gftzoo.generator import to_device
from gftzoo.prompts import tell_of_long_prompts
from gftzoo_sd.network import SDNetwork

HERE = Path(__file__).parent


def local_folder(pipeline: str) -> Path | None:
    """The folder of a pipeline that is here; None for one on the hub."""
    return next((folder for folder in (HERE / pipeline, Path(pipeline)) if folder.is_dir()), None)


def load_part(kind: Any, part: str, pipeline: str, **options: Any) -> Any:
    """A component of a pipeline (`vae`, `text_encoder`, `tokenizer`); a local folder may also be the component itself.

    Raises GftzooError if it cannot be had.
    """
    folder, what = local_folder(pipeline), f"the {part} of {pipeline!r}"
    advice = (
        "name a local diffusers folder, in training with -o text_encoder=PATH and -o tokenizer_path=PATH, in sampling "
        "with --tokenizer-path PATH."
    )
    if folder is None:
        return load_foreign(kind, pipeline, what, advice, subfolder=part, **options)
    refuse_code(folder)
    place = folder / part if (folder / part).is_dir() else folder
    return load_foreign(kind, place, what, advice, local_files_only=True, **options)


class TextEncoder:
    """Tokenizer and encoder of a pipeline; what it gives is its last hidden state, after the final norm."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # of loading, which takes a moment
        encoder = load_part(CLIPTextModel, "text_encoder", pipeline, torch_dtype=torch.float32)
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer = load_part(CLIPTokenizer, "tokenizer", pipeline)
        tokens, known = len(self.tokenizer), encoder.config.vocab_size
        if tokens != known:  # transformers makes an empty tokenizer of a folder that has none
            raise GftzooError(
                f"the tokenizer of {pipeline!r} has {tokens} tokens and its text encoder {known}; "
                "name a complete diffusers folder with -o text_encoder=PATH."
            )
        self._null: dict[torch.device, Tensor] = {}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """Features (B, T, D) float32; a prompt is cut or padded to the encoder's length."""
        tell_of_long_prompts(prompts, self.tokenizer, self.tokenizer.model_max_length, self.pipeline)
        ids_BT = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.autocast(device.type, enabled=False):  # features do not depend on how the network is trained
            features_BTD: Tensor = self.encoder.to(device)(to_device(ids_BT, device)).last_hidden_state
        return features_BTD.float()

    def null(self, device: torch.device) -> Tensor:
        """Features (1, T, D) of the empty prompt."""
        if device not in self._null:
            self._null[device] = self.encode([""], device)
        return self._null[device]


text_encoder = cache(TextEncoder)


def encoder_of(model: Model) -> TextEncoder:
    """The text encoder of a model: that of the pipeline its VAE was loaded from by path, else its card's."""
    pipeline = getattr(model.tokenizer, "pipeline", None)
    if pipeline is not None and (Path(pipeline) / "text_encoder").is_dir():
        return text_encoder(str(pipeline))
    if model.card.text_encoder is None:
        raise UsageError(f"{model.card.name} names no text encoder; give one with -o text_encoder=PATH.")
    return text_encoder(model.card.text_encoder)


def encode_prompts(model: Model, conditions: Sequence[int | str]) -> Tensor:
    """Features (B, T, `text_width`) of prompts."""
    if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
        return torch.empty(len(conditions), 77, model.card.network_options(SDNetwork).text_width, device="meta")
    return fit_width(model, encoder_of(model).encode([str(prompt) for prompt in conditions], model.device))


def null_features(model: Model) -> Tensor:
    """Features (1, T, `text_width`) of the empty prompt."""
    if model.device.type == "meta":
        return encode_prompts(model, [""])
    return fit_width(model, encoder_of(model).null(model.device))


def fit_width(model: Model, features_BTD: Tensor) -> Tensor:
    """Features as wide as the network reads them, zeros behind: any size of network trains on any text encoder.

    Raises UsageError where they are too wide.
    """
    wanted, found = model.card.network_options(SDNetwork).text_width, features_BTD.shape[-1]
    if found > wanted:
        raise UsageError(
            f"{model.card.name} reads prompt features {wanted} wide and its text encoder gives {found}; "
            f"train it with -o network.text_width={found}."
        )
    return F.pad(features_BTD, (0, wanted - found))
