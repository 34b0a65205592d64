"""Pipelines of diffusers in miniature: every part of the real class with random weights, written as a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["a", "the", "red", "blue", "apple", "tiger", "face", "cat", "dog", "tree", "moon", "on", "grass", "small"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "[IMG]"]
VOCABULARY = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
TOKENS = 16  # of a prompt
WIDTH = 16
CHAT = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %} {% endfor %}"
)


def tokenizer(longest: int = TOKENS, side: str = "right") -> PreTrainedTokenizerFast:
    """Words by their number, between a start and an end."""
    plain = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=longest, padding_side=side, chat_template=CHAT,
    )  # fmt: skip


SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
LANGUAGE = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "pad_token_id": 0}


def clip(kind: Any = transformers.CLIPTextModel, width: int = WIDTH) -> Any:
    sizes = {**SIZES, "hidden_size": width, "projection_dim": width, "max_position_embeddings": 77}
    return kind(transformers.CLIPTextConfig(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0))


def t5(width: int = WIDTH) -> Any:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=len(VOCABULARY), d_model=width, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
    )


def vae(channels: int = 4, levels: int = 2, **options: Any) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(4,) * levels, layers_per_block=1, norm_num_groups=2, latent_channels=channels, **options,
    )  # fmt: skip


def unet(**options: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **options,
    )  # fmt: skip


def flow(**options: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**options)


SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable_diffusion(**options: Any) -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip(), tokenizer=tokenizer(77), unet=unet(cross_attention_dim=WIDTH, **options),
        scheduler=diffusers.DDIMScheduler(
            **SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(levels=4), text_encoder=clip(),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection, 2 * WIDTH),  # files tell it by its width
        tokenizer=tokenizer(77), tokenizer_2=tokenizer(77),
        unet=unet(
            cross_attention_dim=3 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=2 * WIDTH + 6 * 8,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )  # fmt: skip


def latent_diffusion() -> Any:
    config = LDMBertConfig(
        vocab_size=len(VOCABULARY), max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=64,
        encoder_attention_heads=2, head_dim=8, d_model=WIDTH,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return diffusers.LDMTextToImagePipeline(
        vqvae=vae(levels=4), bert=LDMBertModel(config), tokenizer=tokenizer(77),
        unet=unet(cross_attention_dim=WIDTH), scheduler=scheduler,
    )  # fmt: skip


def stable_diffusion_3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=16,
            pooled_projection_dim=2 * WIDTH, pos_embed_max_size=8,
        ),
        scheduler=flow(shift=3.0), vae=vae(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip(transformers.CLIPTextModelWithProjection), tokenizer=tokenizer(77),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection), tokenizer_2=tokenizer(77),
        text_encoder_3=t5(2 * WIDTH), tokenizer_3=tokenizer(),
    )  # fmt: skip


def pixart_sigma() -> Any:
    return diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
            out_channels=8, cross_attention_dim=16, caption_channels=WIDTH, use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(), vae=vae(), text_encoder=t5(), tokenizer=tokenizer(),
    )  # fmt: skip


def sana() -> Any:
    layers = {"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}
    blocks = {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"}
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            sample_size=8, in_channels=4, out_channels=4, num_layers=1, patch_size=1, attention_head_dim=8,
            num_attention_heads=2, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
            caption_channels=WIDTH,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4, attention_head_dim=2, **layers, **blocks, encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()),
            downsample_block_type="conv", upsample_block_type="interpolate", scaling_factor=0.41407,
        ),
        text_encoder=transformers.Gemma2Model(transformers.Gemma2Config(**LANGUAGE)), tokenizer=tokenizer(512),
    )  # fmt: skip


def flux(guidance: bool = False) -> Any:
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
        ),
        scheduler=flow(use_dynamic_shifting=True, shift=3.0), vae=vae(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=clip(), tokenizer=tokenizer(77), text_encoder_2=t5(), tokenizer_2=tokenizer(),
    )  # fmt: skip


def flux_2() -> Any:
    text = {**LANGUAGE, "num_hidden_layers": 4}
    vision = {k: v for k, v in SIZES.items() if k != "vocab_size"} | {"image_size": 8, "patch_size": 4, "head_dim": 8}
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", **text}, vision_config={"model_type": "pixtral", **vision}
    )
    return diffusers.Flux2Pipeline(
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        ),
        scheduler=flow(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLFlux2(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2, latent_channels=4,
        ),
        text_encoder=transformers.Mistral3ForConditionalGeneration(config), tokenizer=tokenizer(512),
    )  # fmt: skip


def qwen_image() -> Any:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "type": "default"}
    text = {k: v for k, v in LANGUAGE.items() if k != "head_dim"}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen2_5_VLConfig(text_config={**text, "rope_scaling": rope}, vision_config=vision)
    return diffusers.QwenImagePipeline(
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8),
        ),
        scheduler=flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
            latents_mean=[0.1, 0.0, -0.1, 0.2], latents_std=[1.0, 2.0, 1.5, 0.5],
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config), tokenizer=tokenizer(512),
    )  # fmt: skip


def z_image() -> Any:
    return diffusers.ZImagePipeline(
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
            axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
        ),
        scheduler=flow(shift=3.0), vae=vae(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=transformers.Qwen3Model(transformers.Qwen3Config(**LANGUAGE)), tokenizer=tokenizer(512),
    )  # fmt: skip


def lumina_2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=8, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=3,
            num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(256, 32, 32), cap_feat_dim=WIDTH,
        ),
        scheduler=flow(shift=6.0), vae=vae(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=transformers.Gemma2Model(transformers.Gemma2Config(**LANGUAGE)), tokenizer=tokenizer(512),
    )  # fmt: skip


TINY: dict[str, Callable[[], Any]] = {
    "ldm": latent_diffusion,
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "pixart": pixart_sigma,
    "sana": sana,
    "flux-schnell": flux,
    "flux-dev": lambda: flux(guidance=True),
    "flux2": flux_2,
    "qwen": qwen_image,
    "z-image": z_image,
    "lumina2": lumina_2,
}


# Of the same class as one above.
VARIANTS = {"sd2": lambda: stable_diffusion(use_linear_projection=True)}


def tokens_of(name: str) -> int | None:
    """The length of prompts; those of UNets are fixed, and some stand behind a system's message."""
    return None if name in ("ldm", "sd", "sd2", "sdxl") else 40 if name == "lumina2" else TOKENS


def write(name: str, folder: Path) -> Path:
    """The folder of a tiny pipeline whose every weight is random, those that start at zero too."""
    torch.manual_seed(0)
    pipeline = {**TINY, **VARIANTS}[name]()
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pipeline.save_pretrained(folder)
    return folder
