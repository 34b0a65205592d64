"""The autoencoder of a pipeline, whichever class it is of. Suffixes: B batch, C channels, h w sides of the latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import draw_latents
from gftzoo.errors import UsageError
from gftzoo.foreign_folders import load_foreign
from gftzoo.generator import SampleGenerator
from gftzoo.tokenizers import DiffusersVAE
from gftzoo_text2image.folders import ADVICE

CLASSES = ("AutoencoderKL", "AutoencoderDC", "AutoencoderKLQwenImage", "AutoencoderKLFlux2")


class PipelineVAE(DiffusersVAE):
    """Latents are (z - mean) / deviation by channel, where the autoencoder knows these, and then shifted and scaled.

    Args:
        spec: of the tokenizer, with shift and scale.
        autoencoder: one of `CLASSES`.
        pipeline: the local folder it was loaded from, where the user named one; the text encoders lie beside it.
    """

    def __init__(self, spec: TokenizerSpec, autoencoder: Any, pipeline: str | None) -> None:
        super().__init__(spec, autoencoder)
        self.pipeline = pipeline
        self.draws = hasattr(autoencoder, "quant_conv") or type(autoencoder).__name__ != "AutoencoderDC"
        self.frames = type(autoencoder).__name__ == "AutoencoderKLQwenImage"  # made for films, of which this is one
        self.patches = type(autoencoder).__name__ == "AutoencoderKLFlux2"

    def channels(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every channel, (C, 1, 1) each, or numbers for all."""
        config, device = self.autoencoder.config, self.autoencoder.device
        if self.patches:
            norm = self.autoencoder.bn
            mean, deviation = norm.running_mean, torch.sqrt(norm.running_var + config.batch_norm_eps)
        elif config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean, deviation = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        else:
            mean, deviation = torch.zeros(1), torch.ones(1)
        return mean.to(device).view(-1, 1, 1), deviation.to(device).view(-1, 1, 1)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        if self.draws:
            return draw_latents(self.moments(images), self.spec, generator)
        with torch.no_grad():
            return (self.autoencoder.encode(images).latent - self.spec.shift) * self.spec.scale

    @torch.no_grad()
    def moments(self, images: Tensor) -> Tensor:
        if not self.draws:
            return None  # type: ignore[return-value]  # as the contract says of what never draws
        posterior = self.autoencoder.encode(images.unsqueeze(2) if self.frames else images).latent_dist
        z, spread = posterior.mean, posterior.std
        if self.frames:
            z, spread = z.squeeze(2), spread.squeeze(2)
        if self.patches:
            z, spread = F.pixel_unshuffle(z, 2), F.pixel_unshuffle(spread, 2)
        mean, deviation = self.channels()
        return torch.cat([(z - mean) / deviation, spread / deviation], 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        mean, deviation = self.channels()
        z = (latents / self.spec.scale + self.spec.shift) * deviation + mean
        z = F.pixel_shuffle(z, 2) if self.patches else z
        images: Tensor = self.autoencoder.decode(z.unsqueeze(2) if self.frames else z, return_dict=False)[0]
        return images.squeeze(2) if self.frames else images


def build_autoencoder(spec: TokenizerSpec, weights: str | None) -> PipelineVAE:
    """The autoencoder of a pipeline: of the local folder `weights`, of `spec.file`, or on the hub."""
    import diffusers  # slow to import

    source, kind = weights or spec.file or spec.repo, str(spec.options.get("class", "AutoencoderKL"))
    if source is None or kind not in CLASSES:
        raise UsageError(
            f"tokenizer {spec.id!r} is of class {kind!r} and from {source!r}; known classes are "
            f"{', '.join(CLASSES)}, and {ADVICE}"
        )
    place, local, part = Path(source), Path(source).is_dir(), str(spec.options.get("part", "vae"))
    where = {"subfolder": part} if not local else {}
    inside = place / part if local and (place / part).is_dir() else source
    autoencoder = load_foreign(
        getattr(diffusers, kind), inside, f"the autoencoder of {source!r}", ADVICE, local_files_only=local,
        torch_dtype=torch.float32, **where,
    )  # fmt: skip
    return PipelineVAE(spec, autoencoder, str(place) if local else None)
