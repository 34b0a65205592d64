"""GLIDE's network: diffusers' UNet2DConditionModel on the features of the text transformer.

Suffixes: B batch, C channels, H W sides, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import idle_embedding
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import zero_layer
from gftzoo.layers.unet_names import RESIDUAL, places, renamed
from gftzoo_text2image.glide.options import GlideNetwork, UNetOptions
from gftzoo_text2image.glide.text import TextTransformer

TEXT = (
    "transformer.",
    "final_ln.",
    "token_embedding.",
    "positional_embedding",
    "padding_embedding",
    "transformer_proj.",
)
BETA = "beta_embedder"  # name of the temperature's module
ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}


class Glide(nn.Module):
    """Noise and variance of a noised picture, given a prompt."""

    def __init__(self, options: GlideNetwork, channels: int, temperature: bool) -> None:
        from diffusers import UNet2DConditionModel  # slow to import

        super().__init__()
        vector = 4 * options.width
        self.unet = UNet2DConditionModel(**arguments(options, channels * (2 if options.enlarges else 1), channels))
        self.text = TextTransformer(
            options.vocabulary, options.tokens, options.text_width, options.text_layers, options.text_heads, vector
        )
        zero_layer(self.unet.conv_out)
        if temperature and options.temperature_input == "embedding":
            self.beta_embedder = temperature_embedding(vector)

    def forward(
        self, x_BCHW: Tensor, t_B: Tensor, tokens_BT: Tensor, mask_BT: Tensor, beta_B: Tensor | None = None
    ) -> Tensor:
        """The prediction (B, 2C, H, W) at timesteps 0..999, noise before variance."""
        text_BTD, vector_BD = self.text(tokens_BT, mask_BT)
        return self.denoise(x_BCHW, t_B, text_BTD, vector_BD, beta_B)

    def denoise(
        self, x_BCHW: Tensor, t_B: Tensor, text_BTD: Tensor, vector_BD: Tensor, beta_B: Tensor | None = None
    ) -> Tensor:
        """The same for a prompt that the text transformer has read."""
        if beta_B is not None and hasattr(self, "beta_embedder"):
            vector_BD = vector_BD + self.beta_embedder(beta_B)
        return self.unet(x_BCHW, t_B, text_BTD, class_labels=vector_BD, return_dict=False)[0]


def temperature_embedding(width: int) -> SinusoidEmbedding:
    """What is added to the embedding of the timestep."""
    embedding = SinusoidEmbedding(width, 1000.0)
    nn.init.normal_(embedding.layers[-1].weight, std=0.02)
    return embedding


def build_glide(card: ModelCard) -> Glide:
    """The network of a card."""
    return Glide(card.network_options(GlideNetwork), card.tokenizer.channels, card.temperature)


def arguments(options: UNetOptions, seen: int, channels: int) -> dict[str, Any]:
    """Those of diffusers' class for so many channels in, and so many predicted."""
    down = ["SimpleCrossAttnDownBlock2D" if attends else "ResnetDownsampleBlock2D" for attends in options.attention]
    up = ["SimpleCrossAttnUpBlock2D" if attends else "ResnetUpsampleBlock2D" for attends in options.attention]
    return {
        "in_channels": seen,
        "out_channels": 2 * channels,
        "layers_per_block": options.layers,
        "block_out_channels": options.channels,
        "down_block_types": tuple(down),
        "up_block_types": tuple(reversed(up)),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "cross_attention_dim": options.text_width,
        "attention_head_dim": options.head_width,  # here it is the width of a head
        "norm_num_groups": options.norm_groups,
        "resnet_time_scale_shift": "scale_shift",
        "class_embed_type": "identity",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def from_official(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of openai/glide-text2im, or ours, as ours; a new temperature input starts without effect."""
    options, found = card.network_options(GlideNetwork), dict(tensors)
    if "input_blocks.0.0.weight" in found:
        text = {f"text.{key}": value for key, value in found.items() if key.startswith(TEXT)}
        unet = {key: value for key, value in found.items() if not key.startswith(TEXT)}
        found = text | {f"unet.{key}": value for key, value in unet_tensors(unet, options).items()}
    with torch.device("meta"):
        return with_idle_temperature(found, build_glide(card))


def with_idle_temperature(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors, with a temperature input that has no effect yet where the network has one and they have none."""
    embedding = getattr(network, BETA, None)
    if embedding is None or f"{BETA}.mlp.0.weight" in tensors:
        return dict(tensors)
    with torch.device("cpu"):
        return {**tensors, **idle_embedding(BETA, embedding)}


def unet_tensors(tensors: Mapping[str, Tensor], options: UNetOptions) -> dict[str, Tensor]:
    """The U-Net's tensors under diffusers' names; where q, k and v, and those of the text, are apart."""
    modules = places(options.attention, options.layers, residual=True)
    found: dict[str, Tensor] = {}
    for key, value in renamed(tensors, modules, RESIDUAL | ATTENTION).items():
        head, _, kind = key.rpartition(".")
        place, _, layer = head.rpartition(".")
        if layer == "qkv":
            names: tuple[str, ...] = ("to_q", "to_k", "to_v")
        elif layer == "encoder_kv":
            names = ("add_k_proj", "add_v_proj")
        else:
            found[key] = value.squeeze(-1) if ".attentions." in key and value.ndim == 3 else value
            continue
        heads = value.squeeze(-1) if value.ndim == 3 else value
        width = options.head_width
        parts = heads.unflatten(0, (-1, len(names), width)).unbind(1)
        found |= {f"{place}.{name}.{kind}": part.flatten(0, 1) for name, part in zip(names, parts, strict=True)}
    return found
