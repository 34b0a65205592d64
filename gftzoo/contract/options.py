"""What a family declares of itself: its options, its export formats, its optimizer groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from torch import nn


class FreeForm(BaseModel):
    """Options of a family that declares none: anything goes, nothing is documented."""

    model_config = ConfigDict(extra="allow", frozen=True)


@dataclass(frozen=True)
class FamilyOptions:
    """The pydantic models that validate and document `card.network` and the sampler's settings, and export formats.

    Attributes:
        network: it may have a property `side_multiple`, what the side of a latent must be a multiple of.
        of_codes: fields of `network` that follow from the tokenizer's codes.
        slope_blocks: blocks of d's own that a temperature adapter on noise takes.
        compiles: what is compiled for sampling: `blocks`; the whole `network`, whose inputs must have one shape in all
            steps; or what the sampler compiles itself, its `steps`.
        channels_last: whether the network is made of convolutions, which a GPU computes faster channels last.
        adapter_exports: those of `exports` that write the factors of an adapter, and no merged weights.
    """

    network: type[BaseModel] = FreeForm
    sampler: type[BaseModel] = FreeForm
    reads_tokenizer: bool = False  # training needs the tokenizer even where latents come from a cache
    exports: tuple[str, ...] = ()
    compiles: Literal["blocks", "network", "steps"] = "blocks"
    channels_last: bool = False
    adapter_exports: tuple[str, ...] = ()
    of_codes: tuple[str, ...] = ()
    slope_blocks: int = 1


def decay_groups(
    network: nn.Module, weight_decay: float, decays: Callable[[str, nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Two groups for an optimizer: the trainable parameters with weight decay, those that `decays(name, parameter)`
    chooses, and the others without."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (decayed if decays(name, parameter) else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
