"""What of a model is compiled for its sampler, and how its weights are laid out for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.layers.compiling import compile_network

COMPILERS = ("g++", "clang++")


def compile_steps(model: Model, backend: str) -> None:
    """Compiles what the sampler of the model's family calls; nothing where it compiles its steps itself.

    UsageError where there is no compiler for the code that torch writes.
    """
    if backend == "inductor" and not any(map(shutil.which, (os.environ.get("CXX", COMPILERS[0]), *COMPILERS))):
        raise UsageError(
            f"compilation needs a C++ compiler, and none of {', '.join(COMPILERS)} is here; install one or name it in "
            "the environment variable CXX, or leave out --compile."
        )
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


class Lowered:
    """Weights of linear layers and convolutions in autocast's dtype, as autocast makes them of them anyway.

    A graph would lower every weight again each time it runs, which costs more than reading it where batches are small.
    The lowered ones are kept, since a CUDA graph knows them by their place.
    """

    def __init__(self, network: nn.Module, half: torch.dtype) -> None:
        modules = list(network.modules())
        others = {p for m in modules if not isinstance(m, nn.Linear | nn.Conv2d) for p in m.parameters(recurse=False)}
        found = (p for m in modules if isinstance(m, nn.Linear | nn.Conv2d) for p in m.parameters(recurse=False))
        self.parameters = [p for p in dict.fromkeys(found) if p not in others]
        self.half = half
        self.lowered = [torch.empty_like(p, dtype=half, requires_grad=False) for p in self.parameters]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has them, of its weights as they are now, for the duration."""
        kept: list[Tensor] = [p.data for p in self.parameters]
        for parameter, lowered in zip(self.parameters, self.lowered, strict=True):
            lowered.copy_(parameter.data)
            parameter.data = lowered
        try:
            yield
        finally:
            for parameter, data in zip(self.parameters, kept, strict=True):
                parameter.data = data
