"""PixArt-Sigma and Sana: transformers with cross-attention to a masked prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gftzoo_text2image.pipelines.pipeline import Pipeline, Shapes, Text


class PixArtSigma(Pipeline):
    """`PixArtSigmaPipeline`: T5's features; behind the noise it predicts a variance, which is not used."""

    network = "PixArtTransformer2DModel"
    tokens = 300
    adapters = False

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["caption_channels"]), "mask": (tokens,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        from diffusers.utils import is_bs4_available, is_ftfy_available  # slow to import

        # The stock pipeline cleans captions where it can.
        clean = is_bs4_available() and is_ftfy_available()
        text, mask, _, _ = pipeline.encode_prompt(list(prompts), False, max_sequence_length=tokens, clean_caption=clean)
        return {"text": text, "mask": mask}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        return network(
            x_BChw,
            encoder_hidden_states=text["text"],
            timestep=t_B,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            encoder_attention_mask=text["mask"],
            return_dict=False,
        )[0]


class Sana(Pipeline):
    """`SanaPipeline`: a language model's features of the prompt behind an instruction, and its mask."""

    network = "SanaTransformer2DModel"
    tokens = 300

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["caption_channels"]), "mask": (tokens,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, mask, _, _ = pipeline.encode_prompt(
            list(prompts), False, max_sequence_length=tokens, complex_human_instruction=instruction(pipeline)
        )
        return {"text": text, "mask": mask}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        return network(
            x_BChw,
            encoder_hidden_states=text["text"],
            encoder_attention_mask=text["mask"],
            timestep=t_B * network.config.timestep_scale,
            return_dict=False,
        )[0]


def instruction(pipeline: Any) -> list[str]:
    """What the stock pipeline puts in front of a prompt."""
    lines: list[str] = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
    return lines
