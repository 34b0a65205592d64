"""The VAE as a part of a diffusers pipeline."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.errors import UsageError
from gftzoo.foreign_folders import load_part
from gftzoo.tokenizers import DiffusersVAE


class PipelineVAE(DiffusersVAE):
    """`pipeline` is the local folder it was loaded from, where the user named one; the text encoder lies beside it."""

    def __init__(self, spec: TokenizerSpec, autoencoder: AutoencoderKL, pipeline: str | None) -> None:
        super().__init__(spec, autoencoder)
        self.pipeline = pipeline


def build_autoencoder(spec: TokenizerSpec, weights: str | None) -> PipelineVAE:
    """The VAE of a pipeline: of the local folder `weights`, gftzoo's own (`spec.file`) or on the hub."""
    source = weights or spec.file or spec.repo
    if source is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; give a local diffusers folder.")
    autoencoder = load_part(AutoencoderKL, "vae", source, torch_dtype=torch.float32)
    found = autoencoder.config.latent_channels
    if found != spec.channels:
        raise UsageError(f"tokenizer {spec.id!r} has {spec.channels} latent channels, but {source!r} has {found}.")
    return PipelineVAE(spec, autoencoder, weights)
