"""Numbers that the official code (LTH14/mar @fe470ac) computed, and the card of its tiny networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from golden import Golden, open_golden

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.loading.files import import_model
from gftzoo.model import Model


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def tiny_card(arch: dict[str, Any], **network: Any) -> ModelCard:
    """The card of a golden's network; dropout is zero there."""
    spec = TokenizerSpec(id="tiny", kind="kl-16", channels=arch["vae_embed_dim"], downsample=arch["vae_stride"])
    options = {
        "width": arch["encoder_embed_dim"],
        "depth": arch["encoder_depth"],
        "heads": arch["encoder_num_heads"],
        "patch_size": arch["patch_size"],
        "buffer": arch["buffer_size"],
        "head_depth": arch["diffloss_d"],
        "head_width": arch["diffloss_w"],
        "head_repeats": arch["diffusion_batch_mul"],
        "dropout": 0.0,
    }
    return ModelCard(
        name="tiny",
        family="mar",
        parameters=1,
        resolution=arch["img_size"],
        tokenizer=spec,
        classes=arch["class_num"],
        network={**options, **network},
    )


def official_model(golden: Golden, folder: Path, **card: Any) -> Model:
    """The golden's network, loaded from an official container with other numbers under `model`."""
    path = folder / "checkpoint-last.pth"
    raw = {key: torch.zeros_like(value) for key, value in golden.weights.items()}
    torch.save({"model": raw, "model_ema": golden.weights, "epoch": 800}, path)
    model = import_model(tiny_card(golden.config["arch"]).change(**card), path)
    model.network.eval()
    return model
