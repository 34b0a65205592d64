"""How many images are drawn at once where nobody says: as many as the free memory holds, up to a number."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn
from torch.func import functional_call

from gftzoo.engine.run.estimate import available_bytes
from gftzoo.engine.run.trace import Held, example_latents, trace_sampling
from gftzoo.layers.initialisation import Empty
from gftzoo.model import Model

USUAL = 64
MOST = {"cuda": 256}  # by device; a larger batch is no faster
SHARE = 0.4  # of the free memory; a decoder's cached keys and values are beside what is counted
SMALL = 64, 10_000_000  # pixels of a side, parameters: below both, the usual number fits everywhere


def images_at_once(model: Model, passes: int = 2) -> int:
    """Images of a batch, a power of two: 64, or up to 256 on a GPU, and fewer where the memory does not hold them.

    Args:
        model: on its device.
        passes: of the network for an image and step.
    """
    most = MOST.get(model.device.type, USUAL)
    parameters = sum(p.numel() for p in model.network.parameters())
    if model.card.resolution <= SMALL[0] and parameters <= SMALL[1]:
        return most
    needed = max(passes * network_bytes(model), decoder_bytes(model))
    room = SHARE * available_bytes(model.device)
    while most > 1 and most * needed > room:
        most //= 2
    return most


def network_bytes(model: Model) -> float:
    """What an image needs while the network computes; 0 where that cannot be traced."""
    with Empty():
        empty = Model(model.card, model.family.build_network(model.card), None, model.family)
    return trace_sampling(empty, model.half) or 0.0


def decoder_bytes(model: Model) -> float:
    """What an image needs while the tokenizer decodes it; 0 where that cannot be traced, or there is none."""
    if model.tokenizer is None:
        return 0.0
    weights = {name: t.to("meta") for name, t in Decoding(model).state_dict().items()}
    held = Held()
    with suppress(Exception), torch.no_grad(), held:  # shapes that follow from values fail in many ways
        functional_call(Decoding(model), weights, (torch.zeros_like(example_latents(model.card, 1)),))
    return held.peak


class Decoding(nn.Module):
    """A tokenizer's decoder as a module's call."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.tokenizer = model.require_tokenizer()

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.tokenizer.decode(latents)
