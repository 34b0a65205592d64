"""A model written in a format: gftzoo's own, an adapter, the family's official names, or one of the family's.

The last two functions are for families that export a diffusers pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gftzoo.adapters import merged, write_adapter
from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.tokenizers import DiffusersVAE
from gftzoo.weights.saving import save_model

OWN = ("safetensors", "official", "adapter")


def export(model: Model, to: str, folder: Path) -> Path:
    """Writes the model into `folder` in the format `to` and returns what was written.

    An adapter, but for its own format and those of its family for adapters, is written as merged into its base.
    `official` is the plain network under the names of the official files, which gftzoo's own folder holds for a network
    without a temperature input.

    Raises UsageError for a format that the family has not, or a temperature input where there is no place for it.
    """
    if to == "adapter":
        return write_adapter(model, folder)
    if to not in model.family.options().adapter_exports:
        model = merged(model)
    written: Path | None = model.family.export(model, to, folder)
    if written is not None:
        return written
    card = model.card
    if to not in OWN:
        formats = ", ".join((*OWN, *model.family.options().exports))
        raise UsageError(f"{card.name} cannot be exported to {to!r}; formats of family {card.family}: {formats}.")
    if to == "official" and card.temperature:
        raise UsageError(
            f"{card.name} has a temperature input, which the official network has not; fold one value into the "
            "weights with --beta 0.66, or keep the input with --to safetensors."
        )
    save_model(model, folder)
    return folder


def pipeline_vae(model: Model, advice: str) -> Any:
    """The VAE of a diffusers pipeline, with the scale of its latents in its configuration.

    Raises UsageError, ending with `advice`, for a tokenizer that is no VAE, or shifts latents, as no pipeline does.
    """
    tokenizer = model.require_tokenizer()
    if not isinstance(tokenizer, DiffusersVAE) or tokenizer.spec.shift:
        raise UsageError(
            f"{model.card.name} uses tokenizer {tokenizer.spec.id!r}, and a diffusers pipeline needs a VAE whose "
            f"latents are scaled and not shifted; {advice}"
        )
    tokenizer.autoencoder.register_to_config(scaling_factor=tokenizer.spec.scale)
    return tokenizer.autoencoder


def save_pipeline(pipeline: Any, folder: Path, readme: str | None = None) -> None:
    """A diffusers pipeline written into a folder, with a README.md where one is given; GftzooError if it cannot be."""
    try:
        pipeline.save_pretrained(folder)
        if readme is not None:
            (folder / "README.md").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise GftzooError(f"{str(folder)!r} could not be written ({error.strerror or error}).") from error
