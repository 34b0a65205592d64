"""Layers of transformers as the original code has them, of which those of diffusers are parts: names for LoRA files.

These are the names that kohya's scripts and ComfyUI give factors, and that diffusers' converters read
(diffusers/loaders/lora_conversion_utils.py). A star is the number of a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Layers = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Naming:
    """The original layers of a pipeline's denoiser.

    Attributes:
        layers: by name, the layers of diffusers that each is made of, one below the other.
        dotted: whether keys are ComfyUI's, `diffusion_model.NAME.lora_A.weight`, and the converter wants a block's
            layers all; otherwise they are kohya's, `lora_unet_NAME.lora_down.weight` with underscores.
    """

    layers: Mapping[str, tuple[str, ...]]
    dotted: bool = False

    def place(self, layer: str) -> tuple[str, list[str]] | None:
        """The original layer that one of diffusers is in, and all that it is made of; None where it is in none."""
        number = re.search(r"(?<=\.)\d+(?=\.)", layer)
        star = layer if number is None else f"{layer[: number.start()]}*{layer[number.end() :]}"
        for name, members in self.layers.items():
            if star in members:
                block = number[0] if number is not None else ""
                return name.replace("*", block), [member.replace("*", block) for member in members]
        return None


def in_blocks(original: str, diffusers: str, layers: Mapping[str, str]) -> Layers:
    """Layers of numbered blocks; names of several of diffusers' have spaces between them."""
    return {
        f"{original}.*.{name}": tuple(f"{diffusers}.*.{member}" for member in members.split())
        for name, members in layers.items()
    }


def alone(layers: Mapping[str, str]) -> Layers:
    """Layers outside of blocks."""
    return {name: (member,) for name, member in layers.items()}


JOINT = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v", "img_attn.proj": "attn.to_out.0",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "txt_attn.proj": "attn.to_add_out",
}  # fmt: skip
# Layers outside of blocks are read by diffusers' converter, too, but not loaded.
FLUX = {
    **in_blocks("double_blocks", "transformer_blocks", {
        **JOINT, "img_mlp.0": "ff.net.0.proj", "img_mlp.2": "ff.net.2", "img_mod.lin": "norm1.linear",
        "txt_mlp.0": "ff_context.net.0.proj", "txt_mlp.2": "ff_context.net.2", "txt_mod.lin": "norm1_context.linear",
    }),
    **in_blocks("single_blocks", "single_transformer_blocks", {
        "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp", "linear2": "proj_out", "modulation.lin": "norm.linear",
    }),
}  # fmt: skip
FLUX_2 = {
    **in_blocks("double_blocks", "transformer_blocks", {
        **JOINT, "img_mlp.0": "ff.linear_in", "img_mlp.2": "ff.linear_out",
        "txt_mlp.0": "ff_context.linear_in", "txt_mlp.2": "ff_context.linear_out",
    }),
    **in_blocks("single_blocks", "single_transformer_blocks", {
        "linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out",
    }),
    **alone({
        "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
        "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    }),
}  # fmt: skip
QWEN = {
    name: (name,)
    for name in (
        "img_in", "txt_in", "proj_out", "norm_out.linear", "time_text_embed.timestep_embedder.linear_1",
        "time_text_embed.timestep_embedder.linear_2",
        *(f"transformer_blocks.*.attn.{layer}" for layer in (
            "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        )),
        *(f"transformer_blocks.*.{side}_{layer}" for side in ("img", "txt") for layer in (
            "mod.1", "mlp.net.0.proj", "mlp.net.2",
        )),
    )
}  # fmt: skip
STACKS = ("layers", "noise_refiner", "context_refiner")  # of Z-Image and Lumina 2
Z_IMAGE: Layers = {}
LUMINA_2: Layers = {}
for stack in STACKS:
    Z_IMAGE |= in_blocks(stack, stack, {
        "attention.qkv": "attention.to_q attention.to_k attention.to_v", "attention.out": "attention.to_out.0",
        **{f"feed_forward.w{n}": f"feed_forward.w{n}" for n in (1, 2, 3)},
        "adaLN_modulation.0": "adaLN_modulation.0",
    })  # fmt: skip
    LUMINA_2 |= in_blocks(stack, stack, {
        "attention.qkv": "attn.to_q attn.to_k attn.to_v", "attention.out": "attn.to_out.0",
        **{f"feed_forward.w{n}": f"feed_forward.linear_{n}" for n in (1, 2, 3)},
        "adaLN_modulation.1": "norm1.linear",
    })  # fmt: skip

NAMINGS = {
    "FluxPipeline": Naming(FLUX),
    "Flux2Pipeline": Naming(FLUX_2),
    "QwenImagePipeline": Naming(QWEN),
    "ZImagePipeline": Naming(Z_IMAGE),
    "Lumina2Pipeline": Naming(LUMINA_2, dotted=True),
}
