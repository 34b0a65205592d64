"""What a cache holds of a picture: its views, encoded by a model's tokenizer.

Suffixes: B images, V views of each, C channels, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.data.sources import Source
from gftzoo.families.family import Family
from gftzoo.model import Model
from gftzoo.precision import Precision, choose_dtype, computing_in, of_tokenizer

TEN_CROP_SCALE = 1.1  # LlamaGen's: five crops of a picture that is this much larger
Content = Literal["latents", "moments", "codes"]


class EncodingModel(Model):
    """A model for its tokenizer and conditions; its network has no weights."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokenizer,
        family: Family,
        device: torch.device,
        precision: Precision = "fp32",
    ) -> None:
        with torch.device("meta"):
            network = family.build_network(card)
        super().__init__(card, network, tokenizer.to(device).eval(), family)
        self._device, self.half = device, of_tokenizer(choose_dtype(precision, device))

    @property
    def device(self) -> torch.device:
        return self._device


def views_of(source: Source, rows: Sequence[int], card: ModelCard, ten_crop: bool, flip: bool) -> Tensor:
    """All views of images (B, V, C, R, R), uint8; the second half is mirrored."""
    side, channels = card.resolution, card.tokenizer.image_channels
    if ten_crop:
        views_BVCRR = five_crops(source.images(rows, int(side * TEN_CROP_SCALE), channels), side)
    else:
        views_BVCRR = source.images(rows, side, channels)[:, None]
    return torch.cat([views_BVCRR, views_BVCRR.flip(-1)], 1) if flip else views_BVCRR


def five_crops(images_BCHW: Tensor, side: int) -> Tensor:
    """The four corners and the centre (B, 5, C, side, side)."""
    end = images_BCHW.shape[-1] - side
    middle = round(end / 2)
    corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    return torch.stack([images_BCHW[..., top : top + side, left : left + side] for top, left in corners], 1)


@torch.no_grad()
def encode(model: Model, views_BVCRR: Tensor) -> tuple[Content, Tensor]:
    """What is stored of images, (B, V, ...): codes; latents; or, of a tokenizer that draws, what it draws from."""
    tokenizer = model.require_tokenizer()
    images = views_BVCRR.flatten(0, 1).to(model.device).float() / 127.5 - 1
    content: Content = "moments"
    with computing_in(of_tokenizer(model.half), model.device):
        encoded = tokenizer.moments(images)
        if encoded is None:
            encoded = tokenizer.encode(images)
            content = "latents" if encoded.is_floating_point() else "codes"
    encoded = encoded.float() if encoded.is_floating_point() else encoded
    return content, encoded.unflatten(0, views_BVCRR.shape[:2]).cpu()
