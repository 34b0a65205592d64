"""Latent diffusion's text-to-image model of 1.45 billion parameters (arXiv 2112.10752): a UNet on BERT's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gftzoo_text2image.pipelines.stable_diffusion import StableDiffusion


class LatentDiffusion(StableDiffusion):
    """`LDMTextToImagePipeline`: padding is attended like any token."""

    autoencoder = "vqvae"
    temperature = None  # the stock pipeline has no such argument
    adapters = False

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        given = pipeline.tokenizer(
            list(prompts), padding="max_length", max_length=tokens, truncation=True, return_tensors="pt"
        )
        return {"text": pipeline.bert(given.input_ids.to(pipeline.device))[0]}
