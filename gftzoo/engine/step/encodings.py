"""What a tokenizer makes of a few pictures that are trained on again and again: each is encoded once."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.data import Source
from gftzoo.generator import to_device

MOST = 4096  # pictures that are remembered; each may come mirrored, too


class Encodings:
    """The moments of pictures, by their pixels.

    A picture is encoded by itself, so that its moments do not depend on which others were in the batch, or on what was
    encoded before: a resumed run goes on to the bit.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[bytes, Tensor] = {}

    def moments(self, images_BCHW: Tensor, device: torch.device) -> Tensor:
        """Moments (B, 2C, h, w) of uint8 images."""
        return torch.cat([self._of(image_CHW, device) for image_CHW in images_BCHW])

    def _of(self, image_CHW: Tensor, device: torch.device) -> Tensor:
        key = hashlib.blake2b(image_CHW.numpy().tobytes(), digest_size=16).digest()
        if key not in self._known:
            x_1CHW = to_device(image_CHW[None], device).float() / 127.5 - 1
            moments = self.tokenizer.moments(x_1CHW)
            assert moments is not None, "only of tokenizers that draw"
            self._known[key] = moments
        return self._known[key]


def encodings_of(source: Source, tokenizer: Tokenizer | None, side: int, device: torch.device) -> Encodings | None:
    """Where it is worth it: few pictures that lie in memory, and a tokenizer that draws from what it computes."""
    if tokenizer is None or source.is_encoded or source.decodes or source.streamed or len(source) > MOST:
        return None
    blank = torch.zeros(1, tokenizer.spec.image_channels, side, side, device=device)
    return None if tokenizer.moments(blank) is None else Encodings(tokenizer)
