"""A frozen base in 8 or 4 bits by bitsandbytes (arXiv 2208.07339, 2305.14314), on which factors train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from gftzoo.errors import UsageError
from gftzoo.layers.lora_options import BasePrecision
from gftzoo.printing import words

BYTES = {"8bit": 1.0, "4bit": 0.52}  # of a number, with its share of the scales
BLOCK = 64  # of bitsandbytes


def refuse_without_package(base: BasePrecision) -> None:
    """UsageError for a base in so few bits where what makes it is missing."""
    if base in BYTES and find_spec("bitsandbytes") is None:
        raise UsageError(
            f"lora.base={base} is done by bitsandbytes, which is not installed; run `pip install "
            "'gftzoo[optimizers]'`, or keep the base in bf16 with -o lora.base=half."
        )


def quantised_layers(blocks: Iterable[nn.Module], base: BasePrecision) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The frozen linear layers in a network's blocks, each with its parent and its name there.

    In 4 bits `BLOCK` numbers of a row share a scale, and layers whose rows are no multiple of it are left out.
    """
    for parent in dict.fromkeys(module for block in blocks for module in block.modules()):
        for name, layer in parent.named_children():
            if type(layer) is not nn.Linear or any(p.requires_grad for p in layer.parameters()):
                continue
            if base == "8bit" or layer.in_features % BLOCK == 0:
                yield parent, name, layer


def quantise_frozen(
    blocks: Iterable[nn.Module], base: BasePrecision, half: torch.dtype | None, device: torch.device
) -> None:
    """Puts these layers in 8 or 4 bits and on a device, in place; they compute in `half`, or in fp32.

    First and last layers, which lie in no block, stay as they are.

    Raises UsageError where bitsandbytes cannot be imported, or has no kernels for the device.
    """
    refuse_without_kernels(base, half, device)
    for parent, name, layer in list(quantised_layers(blocks, base)):
        setattr(parent, name, quantised(layer, base, half, device))


def quantised(layer: nn.Linear, base: BasePrecision, half: torch.dtype | None, device: torch.device) -> nn.Module:
    """A layer in 8 or 4 bits on a device, where the numbers are made; it does not train."""
    library = import_module("bitsandbytes.nn")
    shape: Any = layer.in_features, layer.out_features, layer.bias is not None
    if base == "8bit":
        new = library.Linear8bitLt(*shape, has_fp16_weights=False, threshold=0.0)
    else:
        new = library.Linear4bit(*shape, compute_dtype=half or torch.float32, quant_type="nf4")
        # A CPU would pack the weights anew in a pass without gradients, and those of the next one would be lost.
        new.support_avx512bf16_for_cpu = False
    new.load_state_dict(layer.state_dict())
    found: nn.Module = new.requires_grad_(False).to(device)
    return found


def refuse_without_kernels(base: BasePrecision, half: torch.dtype | None, device: torch.device) -> None:
    """UsageError unless a small layer takes a step there and back."""
    x = torch.ones(BLOCK, BLOCK, dtype=half or torch.float32, device=device, requires_grad=True)
    try:
        quantised(nn.Linear(BLOCK, BLOCK), base, half, device)(x).sum().backward()
    except Exception as error:  # of a build without kernels for the device, in many types
        raise UsageError(
            f"lora.base={base} cannot be on {device}: bitsandbytes fails there ({words(error)}); take a GPU with CUDA, "
            "or keep the base in bf16 with -o lora.base=half."
        ) from error
