"""One checkpoint under the names of the original code, of Stable Diffusion and SDXL: which most programs load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.unet_names import RESIDUAL, original_names, places, renamed
from gftzoo.weights import read_tensors, weights_in
from gftzoo_text2image.exports.original_names import clip_names, open_clip_tensors, vae_tensors
from gftzoo_text2image.exports.pipeline import source_folder
from gftzoo_text2image.network import options_of

UNET, VAE, CLIP = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."  # of Stable Diffusion 2.x
XL_CLIP, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
ORIGINAL = ("time_embed.", "label_emb.", "input_blocks.", "middle_block.", "output_blocks.", "out.")  # of a UNet


def write_single_file(model: Model, folder: Path) -> Path:
    """Writes `model.safetensors`, UNet, autoencoder and text encoders in fp32; returns the folder.

    Raises UsageError for another pipeline, and for a temperature input, which the original code has not.
    """
    from safetensors.torch import save_file

    name = options_of(model.card).pipeline
    if name not in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        raise UsageError(
            f"a single file is made of Stable Diffusion and SDXL, and {model.card.name} is a {name}; export it "
            "--to diffusers or --to lora."
        )
    if model.card.temperature:
        raise UsageError(
            f"{model.card.name} has a temperature input, which the original code has not; train at one temperature "
            "with -o network.temperature_input=none, or export it --to diffusers."
        )
    source = source_folder(model)
    tensors = unet_tensors(model) | {f"{VAE}{key}": value for key, value in vae_tensors(part(source, "vae")).items()}
    if name == "StableDiffusionPipeline" and model.network.config.use_linear_projection:  # version 2.x
        tensors |= prefixed(OPEN_CLIP, open_clip_tensors(part(source, "text_encoder")))
    elif name == "StableDiffusionPipeline":
        tensors |= prefixed(CLIP, clip_names(part(source, "text_encoder")))
    else:
        tensors |= prefixed(XL_CLIP, clip_names(part(source, "text_encoder")))
        tensors |= prefixed(XL_OPEN_CLIP, open_clip_tensors(part(source, "text_encoder_2")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.float().contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
    except OSError as error:
        raise GftzooError(f"{str(folder)!r} could not be written ({error.strerror or error}).") from error
    return folder


def part(source: Path, name: str) -> Mapping[str, Tensor]:
    """The tensors of a part of a pipeline's folder; GftzooError where it has none."""
    file = weights_in(source / name)
    if file is None:
        raise GftzooError(f"{str(source / name)!r} holds no weights; fetch the pipeline again.")
    return read_tensors(file).tensors


def unet_tensors(model: Model) -> dict[str, Tensor]:
    """The UNet's tensors under the original names; UsageError for a UNet with other parts than the original has."""
    config = model.network.config
    attention = ["CrossAttn" in block for block in config.down_block_types]
    modules = original_names(places(attention, int(config.layers_per_block), residual=False))
    inside = original_names(RESIDUAL)
    tensors = renamed(model.network.state_dict(), modules, inside)
    strange = next((key for key in tensors if not key.startswith(ORIGINAL)), None)
    if strange is not None:
        raise UsageError(f"the original code has no tensor such as {strange!r}; export it --to diffusers.")
    return {f"{UNET}{key}": value.detach().cpu() for key, value in tensors.items()}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with longer names."""
    return {f"{prefix}{key}": value for key, value in tensors.items()}
