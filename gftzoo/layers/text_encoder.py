"""The frozen CLIP text encoder of a diffusers pipeline. Suffixes: B batch, T tokens, D width of the features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.foreign_folders import load_part
from gftzoo.generator import to_device
from gftzoo.prompts import tell_of_long_prompts


class TextEncoder:
    """Tokenizer and encoder of a pipeline; what it gives is its last hidden state, after the final norm."""

    def __init__(self, pipeline: str) -> None:
        try:
            import transformers  # slow to import, and most models are told a class
        except ModuleNotFoundError as error:
            raise GftzooError("prompts are read by transformers; run `pip install 'gftzoo[prompts]'`.") from error
        self.pipeline = pipeline
        transformers.utils.logging.disable_progress_bar()  # of loading, which takes a moment
        encoder = load_part(transformers.CLIPTextModel, "text_encoder", pipeline, torch_dtype=torch.float32)
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer = load_part(transformers.CLIPTokenizer, "tokenizer", pipeline)
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
