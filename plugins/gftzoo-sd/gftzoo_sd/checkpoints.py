"""Weights of others: diffusers folders, single files of diffusers or of the original code, plain UNets made GFT's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import GftzooError, UsageError
from gftzoo.weights import weights_in
from gftzoo_sd.network import SDNetwork

STEM = "diffusion_pytorch_model"
AVERAGE = "ema_unet"  # in a checkpoint of the GFT code, beside `unet`
ORIGINAL = "diffusion_model."  # prefix of the UNet in files of the original code, behind `model.` beside other networks
TEMPERATURE = "time_embedding.cond_proj.weight"  # new in a fine-tuned network
COMPARED = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")


def unet_file(card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path:
    """The file with the UNet, or the index of its shards, in a diffusers folder.

    That is a UNet's own, a pipeline's, or a checkpoint of thu-ml/GFT's training, of which the average is taken unless
    `entry` is raw.

    Raises UsageError if there is none, or if its configuration is another network's (state dicts do not tell heads).
    """
    average = folder / AVERAGE
    # The average and no other: raw weights are not taken for one that cannot be read.
    places = [average] if entry != "raw" and average.is_dir() else [folder, folder / "unet"]
    for place in places:
        path = weights_in(place, None if place == average else entry, [STEM])
        if path is not None:
            check_config(card, path.parent / "config.json")
            return path
    raise UsageError(
        f"{str(places[-1])!r} holds no UNet; a diffusers folder has {STEM}.safetensors, .bin or an index of shards in "
        "it or in its folder unet, or name the file itself."
    )


def check_config(card: ModelCard, path: Path) -> None:
    """UsageError if the UNet that the file describes is not the card's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GftzooError(f"{str(path)!r} is missing or damaged; it says what the UNet beside it is.") from error
    from gftzoo_sd.unet import build_unet  # slow to import

    with torch.device("meta"):
        own = build_unet(card).config
    for key in COMPARED:
        value = own[key]
        if found.get(key, value) != (list(value) if isinstance(value, tuple) else value):
            raise UsageError(f"{str(path.parent)!r} is no {card.name}: its {key} is {found[key]} and not {value}.")


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's state dict under diffusers' names, with what the card's network has beyond it.

    A temperature input is added with zero effect (thu-ml/GFT stable-diffusion-v1-5/train.py).
    """
    prefix = next((p for p in (f"model.{ORIGINAL}", ORIGINAL) if any(key.startswith(p) for key in tensors)), None)
    fitted = dict(tensors) if prefix is None else from_original(card, tensors, prefix)
    network = card.network_options(SDNetwork)
    if card.temperature and network.embeds and TEMPERATURE not in fitted:
        fitted[TEMPERATURE] = torch.zeros(network.channels[0], network.temperature_width)
    return fitted


def from_original(card: ModelCard, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The UNet of a single-file checkpoint of the original code, of which the names begin so, renamed by diffusers."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from gftzoo_sd.unet import build_unet

    with torch.device("meta"):
        config = dict(build_unet(card).config)
    unet = {f"model.{ORIGINAL}{key.removeprefix(prefix)}": v for key, v in tensors.items() if key.startswith(prefix)}
    converted: dict[str, Tensor] = convert_ldm_unet_checkpoint(unet, config)
    return converted
