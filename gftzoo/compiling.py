"""What of a model is compiled for its sampler, and how its weights are laid out on a GPU."""

from __future__ import annotations

import torch

from gftzoo.contract.model import Model
from gftzoo.layers.compiling import compile_network


def compile_steps(model: Model, backend: str) -> None:
    """Compiles what the sampler of the model's family calls; nothing where it compiles its steps itself."""
    options = model.family.options()
    if options.compiles != "steps":
        blocks, on_gpu = model.family.blocks(model.network), model.device.type == "cuda"
        compile_network(model.network, blocks, options.compiles == "network", on_gpu, backend)


def channels_last(model: Model) -> None:
    """Lays out convolutions on a GPU channels last: the tokenizer's, and the network's where it is made of them."""
    if model.device.type != "cuda":
        return
    if model.family.options().channels_last:
        model.network.to(memory_format=torch.channels_last)
    if model.tokenizer is not None:
        model.tokenizer.to(memory_format=torch.channels_last)
