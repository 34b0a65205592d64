"""A trained model as a folder that an unmodified diffusers.StableDiffusionPipeline loads."""

from __future__ import annotations

from pathlib import Path

from diffusers import StableDiffusionPipeline

from gftzoo.contract.model import Model
from gftzoo.contract.pieces import encoder_of
from gftzoo.errors import UsageError
from gftzoo.exporting import pipeline_vae, save_pipeline
from gftzoo_sd.network import SDNetwork
from gftzoo_sd.sampler import build_scheduler


def export_pipeline(model: Model, folder: Path) -> Path:
    """Writes UNet, VAE, text encoder, tokenizer and scheduler; returns the folder.

    GFT weights are sampled there with guidance_scale = 1/beta, one UNet call a step; plain ones with CFG as usual, and
    plain ones with a temperature in them with guidance_scale = 1.
    Raises UsageError for a model that the pipeline cannot run: with an affine temperature, without a VAE, or with
    another text width.
    """
    if model.card.temperature and model.card.network_options(SDNetwork).affine:
        raise UsageError(
            f"{model.card.name} has an affine temperature, whose slope no pipeline knows; fold one value into a plain "
            "UNet with --beta 0.66."
        )
    vae = pipeline_vae(model, "train with -o tokenizer=emoji-vae or sd-vae.")
    text = encoder_of(model)
    width, wanted = text.encoder.config.hidden_size, model.card.network_options(SDNetwork).text_width
    if width != wanted:
        raise UsageError(
            f"{model.card.name} reads text features {wanted} wide, padded from {width}, as no pipeline pads them; "
            f"train with -o network.text_width={width}, or with the text encoder the model is meant for."
        )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.encoder,
        tokenizer=text.tokenizer,
        unet=model.network,
        scheduler=build_scheduler("dpm-solver++"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_pipeline(pipeline, folder)
    return folder
