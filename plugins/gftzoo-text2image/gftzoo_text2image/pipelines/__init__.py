"""The shelf of pipelines, by the name of their class in diffusers. A new one is a short file here, and a line below."""

from __future__ import annotations

from collections.abc import Mapping

from gftzoo.errors import UsageError, nearest
from gftzoo_text2image.pipelines.flux import Flux, Flux2
from gftzoo_text2image.pipelines.language import Lumina2, QwenImage, ZImage
from gftzoo_text2image.pipelines.latent_diffusion import LatentDiffusion
from gftzoo_text2image.pipelines.pipeline import Pipeline as Pipeline
from gftzoo_text2image.pipelines.pixart import PixArtSigma, Sana
from gftzoo_text2image.pipelines.sd3 import StableDiffusion3
from gftzoo_text2image.pipelines.stable_diffusion import StableDiffusion, StableDiffusionXL

PIPELINES: Mapping[str, Pipeline] = {
    "LDMTextToImagePipeline": LatentDiffusion(),
    "StableDiffusionPipeline": StableDiffusion(),
    "StableDiffusionXLPipeline": StableDiffusionXL(),
    "StableDiffusion3Pipeline": StableDiffusion3(),
    "PixArtSigmaPipeline": PixArtSigma(),
    "SanaPipeline": Sana(),
    "FluxPipeline": Flux(),
    "Flux2Pipeline": Flux2(),
    "QwenImagePipeline": QwenImage(),
    "ZImagePipeline": ZImage(),
    "Lumina2Pipeline": Lumina2(),
}


def known_pipeline(name: str, where: str) -> Pipeline:
    """The pipeline of that class; UsageError with all that are known for another."""
    if name not in PIPELINES:
        known = ", ".join(PIPELINES)
        raise UsageError(f"{where} is of class {name!r}{nearest(name, PIPELINES)}; known pipelines are {known}.")
    return PIPELINES[name]
