"""FLUX.1 and FLUX.2: transformers on packed patches; the dev models are told a guidance scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gftzoo_text2image.pipelines.pipeline import PatchedFlow, Shapes, Text, pack, unpack


class Flux(PatchedFlow):
    """`FluxPipeline`: T5's features and CLIP's pooled vector."""

    network = "FluxTransformer2DModel"
    temperature = "guidance"

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["joint_attention_dim"]), "pooled": (config["pooled_projection_dim"],)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, pooled, _ = pipeline.encode_prompt(list(prompts), max_sequence_length=tokens)
        return {"text": text, "pooled": pooled}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        h, w = (side // 2 for side in x_BChw.shape[-2:])
        places = grid(h, w, x_BChw.device)
        found = network(
            pack(x_BChw),
            encoder_hidden_states=text["text"],
            pooled_projections=text["pooled"],
            timestep=t_B / 1000,
            img_ids=torch.cat([torch.zeros_like(places[:, :1]), places], 1).to(x_BChw.dtype),
            txt_ids=torch.zeros(text["text"].shape[1], 3, device=x_BChw.device, dtype=x_BChw.dtype),
            guidance=scale_B,
            return_dict=False,
        )[0]
        return unpack(found, x_BChw.shape)


class Flux2(PatchedFlow):
    """`Flux2Pipeline`: hidden states of three layers of a language model; the latents are patches already."""

    network = "Flux2Transformer2DModel"
    temperature = "guidance"

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["joint_attention_dim"])}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        layers = pipeline.text_encoder.config.get_text_config().num_hidden_layers
        # 10, 20 and 30 of the 40 that the published encoder has
        chosen = tuple(layers * quarter // 4 for quarter in (1, 2, 3))
        text, _ = pipeline.encode_prompt(list(prompts), max_sequence_length=tokens, text_encoder_out_layers=chosen)
        return {"text": text}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        B, _, h, w = x_BChw.shape
        places = torch.nn.functional.pad(grid(h, w, x_BChw.device), (1, 1))
        words = torch.arange(text["text"].shape[1], device=x_BChw.device)
        found = network(
            x_BChw.flatten(2).transpose(1, 2),
            encoder_hidden_states=text["text"],
            timestep=t_B / 1000,
            img_ids=places.expand(B, -1, -1),
            txt_ids=torch.nn.functional.pad(words[:, None], (3, 0)).expand(B, -1, -1),
            guidance=scale_B,
            return_dict=False,
        )[0]
        return found.transpose(1, 2).unflatten(-1, x_BChw.shape[-2:])

    def shift(self, scheduler: Mapping[str, Any], config: Mapping[str, Any], side: int, steps: int) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu  # slow to import

        return float(compute_empirical_mu(image_seq_len=side**2, num_steps=steps))


def grid(h: int, w: int, device: torch.device) -> Tensor:
    """Row and column (h w, 2) of every patch."""
    return torch.cartesian_prod(torch.arange(h, device=device), torch.arange(w, device=device))
