"""Stable Diffusion 3 and 3.5: a transformer that joins picture and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gftzoo_text2image.pipelines.pipeline import Pipeline, Shapes, Text, linear_shift


class StableDiffusion3(Pipeline):
    """`StableDiffusion3Pipeline`: two CLIPs, of 77 tokens, and T5 behind them; one pooled vector of the CLIPs."""

    network = "SD3Transformer2DModel"
    tokens = 256  # of T5
    clip = 77

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {
            "text": (self.clip + tokens, config["joint_attention_dim"]),
            "pooled": (config["pooled_projection_dim"],),
        }

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=tokens
        )
        return {"text": text, "pooled": pooled}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        return network(x_BChw, text["text"], text["pooled"], t_B, return_dict=False)[0]

    def shift(self, scheduler: Mapping[str, Any], config: Mapping[str, Any], side: int, steps: int) -> float:
        return linear_shift(scheduler, (side // int(config["patch_size"])) ** 2, highest=1.16)
