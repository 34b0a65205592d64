"""Names of a U-Net's modules in the files of guided-diffusion, latent-diffusion and Stable Diffusion, and in diffusers.

Files count blocks through, from the input to the middle and from there to the output; diffusers counts levels, and the
blocks of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def places(attention: Sequence[bool], layers: int, residual: bool) -> dict[str, str]:
    """diffusers' name of every official module that has tensors, down to residual blocks and attentions.

    Args:
        attention: whether a level attends, finest first.
        layers: residual blocks of a level on the way down.
        residual: whether sides change in residual blocks, and not in convolutions.
    """
    found, last = dict(ENDS), len(attention) - 1
    for level, attends in enumerate(attention):
        first = 1 + level * (layers + 1)
        found |= dict(level_places("input_blocks", range(first, first + layers), f"down_blocks.{level}", attends))
        if level < last:
            step = ("", "") if residual else (".op", ".conv")
            found[f"input_blocks.{first + layers}.0{step[0]}"] = f"down_blocks.{level}.downsamplers.0{step[1]}"
    for level, attends in enumerate(reversed(attention)):
        numbers = range(level * (layers + 1), (level + 1) * (layers + 1))
        found |= dict(level_places("output_blocks", numbers, f"up_blocks.{level}", attends))
        if level < last:
            found[f"output_blocks.{numbers[-1]}.{1 + attends}"] = f"up_blocks.{level}.upsamplers.0"
    return found


def level_places(side: str, numbers: Iterable[int], level: str, attends: bool) -> Iterator[tuple[str, str]]:
    """Both names of the blocks of a level, and of their attentions."""
    for index, number in enumerate(numbers):
        yield f"{side}.{number}.0", f"{level}.resnets.{index}"
        if attends:
            yield f"{side}.{number}.1", f"{level}.attentions.{index}"


def renamed(tensors: Mapping[str, Tensor], modules: Mapping[str, str], inside: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with the names of modules, and of the layers inside them, replaced; others stay as they are."""
    return {renamed_key(key, modules, inside): value for key, value in tensors.items()}


def renamed_key(key: str, modules: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """The new name of a tensor: of the longest module that it is in, of its layer there, and its own."""
    parts = key.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in modules:
            layer = ".".join(parts[length:-1])
            return ".".join(part for part in (modules[module], inside.get(layer, layer), parts[-1]) if part)
    return key


def original_names(modules: Mapping[str, str]) -> dict[str, str]:
    """The way back: the official name of every module of diffusers."""
    return {own: official for official, own in modules.items()}
