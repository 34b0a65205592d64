"""Names of Stable Diffusion's autoencoder and text encoders in the original code, from those of diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = (
    ("encoder.layers.", "transformer.resblocks."), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj"),
    ("final_layer_norm", "ln_final"), ("embeddings.token_embedding", "token_embedding"),
)  # fmt: skip


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's tensors under the original names; its attention is of 1x1 convolutions there."""
    levels = 1 + max(int(match[1]) for key in tensors if (match := re.search(r"up_blocks\.(\d+)", key)))
    found = {}
    for key, value in tensors.items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        attention = re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.+)\.(weight|bias)", name)
        if attention is not None:
            name = f"{attention[1]}mid.attn_1.{VAE_ATTENTION[attention[2]]}.{attention[3]}"
        found[name] = value[..., None, None] if attention is not None and value.ndim == 2 else value
    return found


def clip_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text encoder's tensors under the names of transformers 4, which the original code has."""
    return {f"text_model.{key.removeprefix('text_model.')}": value for key, value in tensors.items()}


def open_clip_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text encoder with a projection as OpenCLIP has it: q, k and v are one matrix."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key.removeprefix("text_model.")
        for own, original in OPEN_CLIP:
            name = name.replace(own, original)
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif name == "embeddings.position_embedding.weight":
            found["positional_embedding"] = value
        elif "self_attn.q_proj" in name:
            parts = [tensors[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            found[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
        elif "self_attn." not in name and "position_ids" not in name:
            found[name] = value
    return found
