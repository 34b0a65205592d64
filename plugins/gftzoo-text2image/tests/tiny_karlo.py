"""Karlo's pipeline in miniature, with CLIP's image encoder beside it, and the cards of its prior and its decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.deprecated.unclip import UnCLIPPipeline
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers.scheduling_unclip import UnCLIPScheduler
from gftzoo_text2image.glide.network import arguments
from gftzoo_text2image.unclip.enlarger import build_unet
from gftzoo_text2image.unclip.options import DecoderNetwork, EnlargerOptions
from tiny_pipelines import TOKENS, WIDTH, clip, tokenizer

from gftzoo.catalogue.cards import ModelCard
from gftzoo.model import Model
from gftzoo.zoo import get_card

PRIOR: dict[str, Any] = {"clip_width": WIDTH, "layers": 1, "heads": 2, "head_width": 8, "tokens": TOKENS}
DECODER: dict[str, Any] = {
    "width": 8, "multipliers": [1, 2], "attention": [False, True], "layers": 1, "head_width": 8, "norm_groups": 4,
    "text_width": 8, "clip_width": WIDTH, "clip_tokens": 2, "tokens": TOKENS,
}  # fmt: skip


def pipeline() -> Any:
    """`UnCLIPPipeline`, random in every weight."""
    options = DecoderNetwork(**DECODER)
    scheduler = UnCLIPScheduler(prediction_type="sample", clip_sample_range=10)
    enlargers = [build_unet(EnlargerOptions(width=32, multipliers=(1,), layers=1)) for _ in range(2)]
    for enlarger in enlargers:
        enlarger.register_to_config(sample_size=16)  # type: ignore[operator]
    return UnCLIPPipeline(
        prior=diffusers.PriorTransformer(2, 8, 1, WIDTH, TOKENS, 4),
        decoder=diffusers.UNet2DConditionModel(**arguments(options, 3, 3), sample_size=8),
        text_proj=UnCLIPTextProjModel(
            clip_extra_context_tokens=2, clip_embeddings_dim=WIDTH, time_embed_dim=32, cross_attention_dim=8
        ),
        text_encoder=clip(transformers.CLIPTextModelWithProjection), tokenizer=tokenizer(TOKENS),
        super_res_first=enlargers[0], super_res_last=enlargers[1], prior_scheduler=scheduler,
        decoder_scheduler=UnCLIPScheduler(variance_type="learned_range"), super_res_scheduler=UnCLIPScheduler(),
    )  # fmt: skip


def write_karlo(folder: Path) -> Path:
    """The folder of such a pipeline."""
    torch.manual_seed(0)
    made = pipeline()
    with torch.no_grad():
        for part in (made.prior, made.decoder, made.text_proj):
            for parameter in part.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        made.prior.clip_std.fill_(0.5)
    made.save_pretrained(folder)
    config = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4,
        projection_dim=WIDTH,
    )  # fmt: skip
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


def card_of(name: str, folder: Path, **changes: Any) -> ModelCard:
    """The card of the pipeline's `karlo-prior`, or of its `karlo-decoder` at 8 pixels of pictures of 16."""
    card, prior = get_card(name), name == "karlo-prior"
    options = {"clip_width": WIDTH, "image_encoder": str(folder / "image_encoder"), "decoder": str(folder / "ours")}
    tokenizer = {
        **card.tokenizer.model_dump(), "options": options, "repo": str(folder),
        "channels": WIDTH if prior else 4, "downsample": 16 if prior else 2,
    }  # fmt: skip
    network = (PRIOR if prior else DECODER) | changes.pop("network", {})
    return card.change(
        resolution=16, text_encoder=str(folder), tokenizer={**tokenizer, "file": None}, network=network,
        checkpoints={}, parameters=5280 if prior else 56_174, **changes,
    )  # fmt: skip


def model_of(card: ModelCard, folder: Path) -> Model:
    """The card with random weights, its tokenizer of the pipeline."""
    torch.manual_seed(0)
    model = Model.fresh(card)
    model.tokenizer = model.family.build_tokenizer(card.tokenizer, str(folder))
    return model
