"""What the stock pipelines of diffusers draw with guidance off, from the noise that gftzoo starts at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
from gftzoo_text2image.network import options_of, pipeline_of
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.generator import SampleGenerator
from gftzoo.sampling import image_seeds

PROMPTS = ["a red apple", "the tiger face on grass", "moon"]
STEPS = 4


def stock_pipeline(folder: Path) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_images(pipeline: Any, card: ModelCard, **arguments: Any) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of the stock pipeline, guidance off."""
    latents = SampleGenerator(image_seeds(0, range(len(PROMPTS)))).normal(card.tokenizer.channels, card.grid, card.grid)
    name = type(pipeline).__name__
    if name in ("FluxPipeline", "QwenImagePipeline"):
        latents = pipeline._pack_latents(latents, *latents.shape)
    extra: dict[str, Any] = {**pipeline_of(card).off, **arguments}
    if name not in ("LDMTextToImagePipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        extra["max_sequence_length"] = options_of(card).tokens
    if name in ("SanaPipeline", "PixArtSigmaPipeline"):
        extra["use_resolution_binning"] = False
    if name == "Flux2Pipeline":
        extra["text_encoder_out_layers"] = (1, 2, 3)
    side = card.resolution
    found = pipeline(
        prompt=list(PROMPTS),
        latents=latents,
        num_inference_steps=STEPS,
        output_type="pt",
        height=side,
        width=side,
        **extra,
    )
    return found.images
