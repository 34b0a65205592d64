"""Weights of others: diffusers folders, single files of diffusers or of the original code, plain UNets made GFT's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gftzoo.errors import GftzooError, UsageError
from gftzoo.zoo import ModelCard
from gftzoo_sd.lora import TEMPERATURE, with_factors
from gftzoo_sd.network import SDNetwork, build_unet

FILES = tuple(f"diffusion_pytorch_model{kind}" for kind in (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin"))
PLACES = ("", "ema_unet", "unet")  # the UNet itself, a checkpoint of the GFT code (EMA first), a pipeline
ORIGINAL = "model.diffusion_model."  # prefix of the UNet in files of the original code
COMPARED = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")


def unet_file(card: ModelCard, folder: Path) -> Path:
    """The file with the UNet in a diffusers folder: a UNet's, a pipeline's, or a checkpoint of thu-ml/GFT's training.

    Raises UsageError if there is none, or if its configuration is another network's (state dicts do not tell heads).
    """
    for place in PLACES:
        for name in FILES:
            path = folder / place / name
            if path.is_file():
                check_config(card, path.parent / "config.json")
                return path
    raise UsageError(
        f"{str(folder)!r} holds no UNet; a diffusers folder has {FILES[0]} in it or in its folder unet, "
        "or name the file itself."
    )


def check_config(card: ModelCard, path: Path) -> None:
    """UsageError if the UNet that the file describes is not the card's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GftzooError(f"{str(path)!r} is missing or damaged; it says what the UNet beside it is.") from error
    with torch.device("meta"):
        own = build_unet(card).config
    for key in COMPARED:
        value = own[key]
        if found.get(key, value) != (list(value) if isinstance(value, tuple) else value):
            raise UsageError(f"{str(path.parent)!r} is no {card.name}: its {key} is {found[key]} and not {value}.")


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's state dict under diffusers' names, with what the card's network has beyond it.

    A temperature input is added with zero effect (thu-ml/GFT stable-diffusion-v1-5/train.py), so are LoRA factors.
    """
    fitted = from_original(card, tensors) if any(key.startswith(ORIGINAL) for key in tensors) else dict(tensors)
    network = card.network_options(SDNetwork)
    if card.temperature and network.embeds and TEMPERATURE not in fitted:
        fitted[TEMPERATURE] = torch.zeros(network.channels[0], network.temperature_width)
    if network.lora_rank is not None and not any(".lora_" in key for key in fitted):
        fitted = with_factors(fitted, network.lora_rank)
    return fitted


def from_original(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet of a single-file checkpoint of the original code (raw weights), renamed by diffusers."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        config = dict(build_unet(card).config)
    unet = {key: value for key, value in tensors.items() if key.startswith(ORIGINAL)}
    converted: dict[str, Tensor] = convert_ldm_unet_checkpoint(unet, config)
    return converted
