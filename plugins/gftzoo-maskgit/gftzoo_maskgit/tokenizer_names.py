"""The names that tokenizers have in the files of MaskGIT (Flax), 1d-tokenizer, MAGE, MaskBit and Open-MAGVIT2.

Ours are those of CompVis/latent-diffusion, with the blocks of the middle counted and levels counted from the full
resolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from gftzoo_maskgit.autoencoder import ConvOptions

Tensors = dict[str, Tensor]
HALVES = ("encoder.", "decoder.")
BUFFERS = ("codebook.bits_to_indices", "codebook.codebook")  # of MaskBit's lookup-free quantiser: follow from its bits
FLAX_NAME = re.compile(
    r"(encoder|decoder)\.(Conv|GroupNorm|ResBlock)_(\d{1,4})(?:\.(Conv_[012]|GroupNorm_[01]))?\.(kernel|scale|bias)"
)
FLAX_KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
FLAX_INSIDE = {
    "GroupNorm_0": "norm1", "Conv_0": "conv1", "GroupNorm_1": "norm2", "Conv_1": "conv2", "Conv_2": "nin_shortcut",
}  # fmt: skip
NAMES = (
    (r"\.res_blocks\.", ".block."),
    (r"\.mid\.block\.(\d+)", r".mid.\1"),
    (r"\.mid_block\.(\d+)", r".mid.\1"),
    (r"\.mid\.block_(\d+)", lambda found: f".mid.{int(found[1]) - 1}"),
    (r"\.down_conv\.", ".downsample.conv."),
    (r"\.upsample_conv\.", ".upsample.conv."),
    (r"^quantize\.embedding\.", "codebook."),
    (r"^quantize\.", "codebook."),
)


def renamed(tensors: Mapping[str, Tensor], options: ConvOptions) -> Tensors:
    """The tokenizer's tensors in a file, under our names; what else it holds (losses, a transformer) is left out."""
    if any(key.startswith("encoder.ResBlock_") for key in tensors):
        return _from_flax(tensors, options)
    if any(key.startswith("vqgan.") for key in tensors):
        tensors = {key.removeprefix("vqgan."): tensor for key, tensor in tensors.items() if key.startswith("vqgan.")}
    # In the order of execution the first level of the decoder enlarges; counted from the full resolution it does not.
    backwards = "decoder.up.0.upsample_conv.weight" in tensors
    found: Tensors = {}
    for key, tensor in tensors.items():
        if key.startswith((*HALVES, "quantize.")):
            name = key
            for old, new in NAMES:
                name = re.sub(old, new, name)
            found[_turned_around(name, options.lowest) if backwards else name] = tensor
    return {name: tensor for name, tensor in found.items() if name not in BUFFERS}


def _turned_around(name: str, lowest: int) -> str:
    return re.sub(r"^decoder\.up\.(\d+)", lambda found: f"decoder.up.{lowest - int(found[1])}", name)


def _from_flax(tensors: Mapping[str, Tensor], options: ConvOptions) -> Tensors:
    """Flax counts the modules of a half in the order of execution; kernels are (height, width, in, out)."""
    found: Tensors = {}
    for key, tensor in tensors.items():
        parts = FLAX_NAME.fullmatch(key)
        if parts is None:
            found["codebook.weight" if key == "quantizer.codebook" else key] = tensor
            continue
        half, module, count, inside, kind = parts.groups()
        names = [half, _flax_place(half, module, int(count), options), *([FLAX_INSIDE[inside]] if inside else [])]
        kernel = kind == "kernel" and tensor.ndim == 4
        found[".".join([*names, FLAX_KINDS[kind]])] = tensor.permute(3, 2, 0, 1).contiguous() if kernel else tensor
    return found


def _flax_place(half: str, module: str, index: int, options: ConvOptions) -> str:
    """Our name of a module that Flax counts."""
    levels, blocks = len(options.multipliers), options.blocks
    if module == "ResBlock" and half == "encoder":
        level, block = divmod(index, blocks)
        return f"down.{level}.block.{block}" if level < levels else f"mid.{index - levels * blocks}"
    if module == "ResBlock":
        level, block = divmod(index - options.middle, blocks)
        return f"mid.{index}" if index < options.middle else f"up.{options.lowest - level}.block.{block}"
    if module == "GroupNorm":
        return "norm_out"
    if index == 0:
        return "conv_in"
    return "conv_out" if half == "encoder" or index == levels else f"up.{levels - index}.upsample.conv"
