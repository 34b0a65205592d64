"""The factors of an adapter as a LoRA file in diffusers' layout, or in peft's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gftzoo.adapters import adapter_of, adapter_tensors
from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.lora import ADAPTER, is_factor
from gftzoo_text2image.network import options_of, pipeline_of

FILE = "pytorch_lora_weights.safetensors"  # as diffusers calls it
PEFT = "adapter_model.safetensors"


def write_lora(model: Model, folder: Path) -> Path:
    """Writes `pytorch_lora_weights.safetensors` as the pipeline's own `save_lora_weights` does; returns the folder.

    A pipeline that loads no LoRA itself gets peft's layout.

    Raises UsageError for a model that is no LoRA, or has more than factors.
    """
    import diffusers  # slow to import

    tensors, pipeline = factors(model), pipeline_of(model.card)
    try:
        if not pipeline.adapters:
            return write_peft(tensors, folder)
        kind = getattr(diffusers, options_of(model.card).pipeline)
        kind.save_lora_weights(folder, **{f"{pipeline.component}_lora_layers": tensors}, weight_name=FILE)
    except OSError as error:
        raise GftzooError(f"{str(folder)!r} could not be written ({error.strerror or error}).") from error
    return folder


def write_peft(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """Writes the factors as peft's `PeftModel.from_pretrained` reads them, for pipelines that load none themselves."""
    from peft import LoraConfig  # slow to import
    from safetensors.torch import save_file

    layers = sorted({key.partition(".lora_")[0] for key in tensors})
    rank = next(len(value) for key, value in tensors.items() if ".lora_A." in key)
    LoraConfig(r=rank, lora_alpha=rank, target_modules=layers).save_pretrained(str(folder))
    save_file({f"base_model.model.{key}": value for key, value in tensors.items()}, folder / PEFT)
    return folder


@torch.no_grad()
def factors(model: Model) -> dict[str, Tensor]:
    """The factors A and B by layer, B times alpha / rank, so that every reader takes alpha for the rank."""
    adapter = adapter_of(model)
    if adapter is None or adapter.lora is None:
        raise UsageError(
            f"{model.card.name} here is no LoRA but stands alone; export it --to diffusers, or train it with "
            "-o train=lora."
        )
    trained = adapter_tensors(model.network)
    others = sorted(name for name in trained if not is_factor(name))
    if others:
        raise UsageError(
            f"{model.card.name} trained {others[0]!r} beside its factors, for which a LoRA file has no place; export "
            "it --to diffusers, or train at one temperature with -o network.temperature_input=none."
        )
    scale = (adapter.lora.alpha or adapter.lora.rank) / adapter.lora.rank
    found = {}
    for name, value in trained.items():
        plain = name.replace(f".{ADAPTER}.", ".")
        found[plain] = (value * scale if ".lora_B." in name else value).detach().cpu().contiguous()
    return found
