"""The factors of an adapter under the keys of kohya's scripts and ComfyUI.

Where the original code has one matrix for several layers of diffusers, their factors become one pair: the A below each
other, the B along the diagonal, of the sum of the ranks, as kohya's scripts do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gftzoo.contract.model import Model
from gftzoo.errors import GftzooError, UsageError
from gftzoo.layers.lora import is_factor, plain_name
from gftzoo_text2image.exports.kohya_names import NAMINGS, Naming
from gftzoo_text2image.exports.lora import factors
from gftzoo_text2image.network import options_of

UNETS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def write_kohya(model: Model, folder: Path) -> Path:
    """Writes `lora.safetensors` under these keys, alpha the rank; returns the folder.

    Raises UsageError for a pipeline whose factors have no such names that diffusers reads, and for a layer without one.
    """
    from diffusers.utils import convert_state_dict_to_kohya  # slow to import
    from safetensors.torch import save_file

    name = options_of(model.card).pipeline
    if name not in (*UNETS, *NAMINGS):
        raise UsageError(
            f"diffusers reads no kohya names of a {name}, which {model.card.name} is, but of "
            f"{', '.join((*UNETS, *NAMINGS))}; export it --to lora."
        )
    found = factors(model)
    if name in UNETS:
        found = convert_state_dict_to_kohya({f"unet.{key}": value for key, value in found.items()})
    else:
        found = original_factors(found, model.network, NAMINGS[name])
    tensors = {key: value.float().contiguous() for key, value in found.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "lora.safetensors")
    except OSError as error:
        raise GftzooError(f"{str(folder)!r} could not be written ({error.strerror or error}).") from error
    return folder


def original_factors(found: Mapping[str, Tensor], network: nn.Module, naming: Naming) -> dict[str, Tensor]:
    """The factors of the original layers, from those of diffusers' by `LAYER.lora_A.weight` and `LAYER.lora_B.weight`.

    Raises UsageError for a layer that has no original one.
    """
    layers = [key.partition(".lora_")[0] for key in found if ".lora_A." in key]
    if naming.dotted:  # the converter reads a block as a whole
        names = (plain_name(f"{name}.").strip(".") for name, _ in network.named_modules() if not is_factor(name))
        layers += [name for name in names if naming.place(name) is not None]
    tensors: dict[str, Tensor] = {}
    for layer in dict.fromkeys(layers):
        place = naming.place(layer)
        if place is None:
            named = [member for members in naming.layers.values() for member in members]
            raise UsageError(
                f"{layer!r} was adapted, for which diffusers reads no kohya name; export it --to lora, or adapt layers "
                f"such as {', '.join(named[:3])} alone with -o lora.targets=REGEX."
            )
        original, members = place
        tensors |= keyed(original, fused(found, network, members), naming.dotted)
    return tensors


def fused(found: Mapping[str, Tensor], network: nn.Module, members: Sequence[str]) -> tuple[Tensor, Tensor]:
    """A and B of layers below each other; one that was not adapted has factors of zeros, of the others' rank.

    Of pairs so complete diffusers makes factors of the rank they had, in FLUX; versions before 0.42 scale mixed ranks.
    """
    rank = next((len(found[f"{name}.lora_A.weight"]) for name in members if f"{name}.lora_A.weight" in found), 1)
    above, aside = [], []
    for name in members:
        layer: nn.Linear = network.get_submodule(name)  # type: ignore[assignment]  # or peft's, which tells the same
        zeros = torch.zeros(rank, layer.in_features), torch.zeros(layer.out_features, rank)
        above.append(found.get(f"{name}.lora_A.weight", zeros[0]))
        aside.append(found.get(f"{name}.lora_B.weight", zeros[1]))
    return torch.cat(above), torch.block_diag(*aside)


def keyed(original: str, pair: tuple[Tensor, Tensor], dotted: bool) -> dict[str, Tensor]:
    """The two of a layer under their keys."""
    if dotted:
        stem = f"diffusion_model.{original}"
        return {f"{stem}.lora_A.weight": pair[0], f"{stem}.lora_B.weight": pair[1]}
    stem = f"lora_unet_{original.replace('.', '_')}"
    alpha = torch.tensor(float(len(pair[0])))
    return {f"{stem}.lora_down.weight": pair[0], f"{stem}.lora_up.weight": pair[1], f"{stem}.alpha": alpha}
