"""The tokenizers that come with the core, and what those of families share: options and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.catalogue.cards import Options, TokenizerSpec, validation_sentence
from gftzoo.contract.tokenizer import Tokenizer, draw_latents
from gftzoo.errors import GftzooError, UsageError
from gftzoo.foreign_folders import refuse_code
from gftzoo.generator import SampleGenerator

LOCALLY = "-o tokenizer_path=PATH (train, cache) or --tokenizer-path PATH (sample, evaluate)"


class Pixels(Tokenizer):
    """No tokenizer at all: the network sees the pixels."""

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return (images - self.spec.shift) * self.spec.scale

    def decode(self, latents: Tensor) -> Tensor:
        return latents / self.spec.scale + self.spec.shift


class DiffusersVAE(Tokenizer):
    """A diffusers `AutoencoderKL` (Stable Diffusion's VAE), latents sampled, shifted and scaled."""

    def __init__(self, spec: TokenizerSpec, autoencoder: Any) -> None:
        super().__init__(spec)
        self.autoencoder = autoencoder.eval().requires_grad_(False)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return draw_latents(self.moments(images), self.spec, generator)

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        posterior = self.autoencoder.encode(images).latent_dist
        return torch.cat([posterior.mean, posterior.std], 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(latents / self.spec.scale + self.spec.shift).sample
        return images


def build_core_tokenizer(spec: TokenizerSpec, weights: str | None = None) -> Tokenizer:
    """The tokenizers that come with the core: kinds `pixels` and `autoencoder-kl`."""
    if spec.kind == "pixels":
        return Pixels(spec)
    if spec.kind == "autoencoder-kl":
        return DiffusersVAE(spec, _load_autoencoder(spec, weights))
    raise UsageError(
        f"tokenizer {spec.id!r} is of kind {spec.kind!r}, which its family does not build; "
        "the core has 'pixels' and 'autoencoder-kl'."
    )


def weights_file(spec: TokenizerSpec, weights: str | None) -> Path:
    """The file with a tokenizer's weights: the local one that the user names, or the hub file of the spec.

    Raises:
        UsageError: no file is named.
        GftzooError: the file cannot be fetched.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and most files are there

    if weights is not None:
        return Path(weights)
    advice = f"give a local file with {LOCALLY}"
    if spec.repo is None or spec.file is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; {advice}.")
    try:
        return Path(hf_hub_download(spec.repo, spec.file))
    except Exception as error:  # the hub client raises many types
        raise GftzooError(
            f"{spec.file!r} could not be fetched from the hub repository {spec.repo!r} "
            f"({type(error).__name__}); {advice}."
        ) from error


def read_tokenizer_options(spec: TokenizerSpec, schema: type[Options]) -> Options:
    """The spec's options, validated; UsageError with the nearest name for an unknown one."""
    try:
        return schema.model_validate(spec.options)
    except ValueError as error:
        raise UsageError(validation_sentence(f"tokenizer {spec.id}", error, schema)) from error


def _load_autoencoder(spec: TokenizerSpec, weights: str | None) -> Any:
    from diffusers import AutoencoderKL  # slow to import, and most models need none of it

    source = weights or spec.repo
    if source is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; give a local diffusers folder with {LOCALLY}.")
    refuse_code(source)
    try:
        autoencoder = AutoencoderKL.from_pretrained(
            source, local_files_only=Path(source).exists(), trust_remote_code=False
        )
    except Exception as error:
        raise GftzooError(
            f"the weights of tokenizer {spec.id!r} could not be loaded from {source!r} "
            f"({type(error).__name__}); give a local diffusers folder with {LOCALLY}, "
            "or train in pixels with -o tokenizer=pixels."
        ) from error
    found = autoencoder.config.latent_channels
    if found != spec.channels:
        raise UsageError(f"tokenizer {spec.id!r} has {spec.channels} latent channels, but {source!r} has {found}.")
    return autoencoder
