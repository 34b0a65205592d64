"""The tokenizers that come with the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer, draw_latents
from gftzoo.errors import UsageError
from gftzoo.foreign_folders import PIPELINES, load_foreign
from gftzoo.generator import SampleGenerator
from gftzoo.tokenizers.convolutional import square_side
from gftzoo.tokenizers.options import LOCALLY
from gftzoo.tokenizers.quantised import load_tokenizer as load_quantised
from gftzoo.weights import load_weights, read_tensors

FIRST_STAGE = "first_stage_model."  # prefix in a checkpoint of latent diffusion
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")  # of an autoencoder, without its loss
# Sizes of the KL-f8 autoencoder, for files that do not say them.
STABLE_DIFFUSION: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


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


class PixelCode(Tokenizer):
    """Grey pixels as codes 0 (black) to V - 1 (white): exact for images that have no more than V even levels."""

    def __init__(self, spec: TokenizerSpec) -> None:
        super().__init__(spec)
        if spec.codebook is None or spec.codebook < 2 or spec.image_channels != 1:
            raise UsageError(
                f"tokenizer {spec.id!r} of kind 'pixel-code' needs image_channels=1 and a codebook of at least 2 "
                f"levels and has image_channels={spec.image_channels}, codebook={spec.codebook}."
            )
        self.top = spec.codebook - 1

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        return ((images.clamp(-1, 1) + 1) * (self.top / 2)).round().long().flatten(1)

    def decode(self, latents: Tensor) -> Tensor:
        side = square_side(latents)
        return (latents.float() * (2 / self.top) - 1).view(-1, 1, side, side)


def build_core_tokenizer(spec: TokenizerSpec, weights: str | None = None) -> Tokenizer:
    """The tokenizers that come with the core: kinds `pixels`, `pixel-code`, `conv-vq`, `conv-lfq` and
    `autoencoder-kl`.
    """
    if spec.kind == "pixels":
        return Pixels(spec)
    if spec.kind == "pixel-code":
        return PixelCode(spec)
    if spec.kind in ("conv-vq", "conv-lfq"):
        return load_quantised(spec, weights)
    if spec.kind == "autoencoder-kl":
        return DiffusersVAE(spec, _load_autoencoder(spec, weights))
    raise UsageError(
        f"tokenizer {spec.id!r} is of kind {spec.kind!r}, which its family does not build; "
        "the core has 'pixels', 'pixel-code', 'conv-vq', 'conv-lfq' and 'autoencoder-kl'."
    )


def _from_file(spec: TokenizerSpec, autoencoder: Any, path: Path) -> Any:
    """The autoencoder with the weights of one file, under diffusers' names or latent-diffusion's.

    That is one of its own (`autoencoder_kl_ema.pth`), or a checkpoint of the diffusion model with it inside.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint  # likewise

    tensors = read_tensors(path).tensors
    if any(key.startswith(FIRST_STAGE) for key in tensors):
        tensors = {k.removeprefix(FIRST_STAGE): v for k, v in tensors.items() if k.startswith(FIRST_STAGE)}
    tensors = {key: value for key, value in tensors.items() if key.startswith(PARTS)}
    if not any(".down_blocks." in key for key in tensors):
        tensors = convert_ldm_vae_checkpoint(tensors, autoencoder.config)
    load_weights(autoencoder, tensors, f"tokenizer {spec.id!r} from {str(path)!r}")
    return autoencoder


def embedded_folder(spec: TokenizerSpec) -> str | None:
    """The folder of an autoencoder in a pipeline that comes with gftzoo: a `file` of no repository."""
    folder = PIPELINES / (spec.file or "") / "vae"
    return str(folder) if spec.file and spec.repo is None and folder.is_dir() else None


def _load_autoencoder(spec: TokenizerSpec, weights: str | None) -> Any:
    from diffusers import AutoencoderKL  # slow to import, and most models need none of it

    source = weights or embedded_folder(spec) or spec.repo
    if source is None:
        raise UsageError(f"tokenizer {spec.id!r} names no weights; give a local diffusers folder with {LOCALLY}.")
    if Path(source).is_file():
        return _from_file(spec, AutoencoderKL(**STABLE_DIFFUSION, latent_channels=spec.channels), Path(source))
    autoencoder = load_foreign(
        AutoencoderKL,
        source,
        f"tokenizer {spec.id!r} from {source!r}",
        f"give a local diffusers folder with {LOCALLY}, or train in pixels with -o tokenizer=pixels.",
        local_files_only=Path(source).exists(),
    )
    found = autoencoder.config.latent_channels
    if found != spec.channels:
        raise UsageError(f"tokenizer {spec.id!r} has {spec.channels} latent channels, but {source!r} has {found}.")
    return autoencoder
