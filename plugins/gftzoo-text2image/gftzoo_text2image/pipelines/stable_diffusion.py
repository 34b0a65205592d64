"""Stable Diffusion 1.x and 2.x, and SDXL: UNets with cross-attention to CLIP's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gftzoo.layers.guidance_embedding import embed_strength
from gftzoo_text2image.pipelines.pipeline import Pipeline, Shapes, Text


class StableDiffusion(Pipeline):
    """`StableDiffusionPipeline`: the last hidden state of one text encoder."""

    component = "unet"
    network = "UNet2DConditionModel"
    head = "conv_out"
    tokens = 77
    temperature: ClassVar[Literal["guidance", "timestep_cond"] | None] = "timestep_cond"

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["cross_attention_dim"])}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _ = pipeline.encode_prompt(list(prompts), pipeline.device, 1, False)
        return {"text": text}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        return self.call(network, x_BChw, t_B, text, scale_B)

    def call(
        self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None, **added: Any
    ) -> Tensor:
        """The UNet, whose `timestep_cond` embeds the guidance scale less one."""
        width, embedded = network.config.time_cond_proj_dim, None
        if width is not None and scale_B is not None:
            embedded = embed_strength(scale_B - 1, width)
        return network(x_BChw, t_B, text["text"], timestep_cond=embedded, return_dict=False, **added)[0]


class StableDiffusionXL(StableDiffusion):
    """`StableDiffusionXLPipeline`: the features of two text encoders, one pooled, and the size of the picture."""

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        return {"text": (tokens, config["cross_attention_dim"]), "pooled": (pooled,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, _, pooled, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        # Pictures are whole: their own size, no crop, and what is wanted is the same; SDXL's VAE shrinks by 8.
        height, width = (8 * side for side in x_BChw.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=x_BChw.dtype, device=x_BChw.device)
        added = {"text_embeds": text["pooled"], "time_ids": sizes.expand(len(x_BChw), -1)}
        return self.call(network, x_BChw, t_B, text, scale_B, added_cond_kwargs=added)
