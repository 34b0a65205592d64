"""ADM's classifier of noisy images, which guides sampling (arXiv 2105.05233): the U-Net's way down, and a pooling.

Suffixes: B batch, C channels, H W sides, S = H W positions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.weights import load_weights, read_tensors
from gftzoo_diffusion.networks.adm import ADMKind, ADMNetwork
from gftzoo_diffusion.networks.adm_unet import ADM
from gftzoo_diffusion.networks.unet_blocks import encode

POSITIONS, LAST = "out.2.positional_embedding", "out.2.c_proj.weight"  # of the pooling, in official files


class AttentionPool(nn.Module):
    """A vector of a map: what its mean, put before it, attends to; parameters have CLIP's names.

    Args:
        side: of the square map.
        channels: C.
        head_width: channels of a head.
        out: length of the vector.
    """

    def __init__(self, side: int, channels: int, head_width: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCS = x_BCHW.flatten(2)
        x_BCS = torch.cat([x_BCS.mean(-1, keepdim=True), x_BCS], -1) + self.positional_embedding
        q, k, v = self.qkv_proj(x_BCS).unflatten(1, (3, self.heads, -1)).transpose(3, 4).unbind(1)
        pooled_BC1 = F.scaled_dot_product_attention(q[:, :, :1], k, v).transpose(2, 3).flatten(1, 2)
        return self.c_proj(pooled_BC1)[..., 0]


class NoisyClassifier(ADM):
    """Logits of the classes of a noised image.

    Args:
        network: hyperparameters of the way down.
        side: of the square image.
        channels: of the image.
        classes: K.
    """

    def __init__(self, network: ADMNetwork, side: int, channels: int, classes: int) -> None:
        super().__init__(network, side, channels, classes, temperature=False)
        last = network.channels[-1]
        del self.up_blocks, self.conv_out, self.class_embedding
        self.conv_norm_out = nn.GroupNorm(network.norm_groups, last, eps=1e-5)
        self.pool = AttentionPool(side // network.side_multiple, last, network.head_width, classes)

    def forward(self, x_BCHW: Tensor, t_B: Tensor) -> Tensor:  # type: ignore[override]
        """Logits (B, K) at timesteps 0..999."""
        hidden, _ = encode(self, x_BCHW, self.time_embedding(self.time_proj(t_B)))
        return self.pool(self.conv_act(self.conv_norm_out(hidden)))


def build_classifier(card: ModelCard, path: Path) -> nn.Module:
    """The classifier of a bare official state dict, frozen; its sizes follow from its tensors.

    Raises:
        UsageError: the file is no such classifier, or one of other images or classes than the card's.
        GftzooError: the file cannot be read.
    """
    tensors = read_tensors(path).tensors
    if POSITIONS not in tensors or LAST not in tensors:
        raise UsageError(
            f"{str(path)!r} is no classifier of noisy images: it has no {POSITIONS!r}; valid are files like "
            f"{card.resolution}x{card.resolution}_classifier.pt of openai/guided-diffusion."
        )
    classes = len(tensors[LAST])
    if classes != card.classes:
        raise UsageError(f"{str(path)!r} knows {classes} classes, and {card.name} has {card.classes}.")
    network = sizes(card, path, tensors)
    classifier = NoisyClassifier(network, card.grid, card.tokenizer.channels, classes)
    load_weights(classifier, ADMKind().from_official(network, tensors, {"out.2": "pool"}), str(path))
    return classifier.eval().requires_grad_(False)


def sizes(card: ModelCard, path: Path, tensors: Mapping[str, Tensor]) -> ADMNetwork:
    """The hyperparameters of a classifier; the width of heads, which no tensor shows, is the card's."""
    own = card.network_options(ADMNetwork)
    side = round((tensors[POSITIONS].shape[1] - 1) ** 0.5)
    levels = next((n + 1 for n in range(16) if side << n == card.grid), 0)
    places = {int(key.split(".")[1]) for key in tensors if key.startswith("input_blocks.")}
    layers = len(places) // levels - 1 if levels else 0
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(levels)]
    if layers < 1 or not all(f"{first}.0.out_layers.3.weight" in tensors for first in firsts):
        raise UsageError(
            f"{str(path)!r} is no classifier of images of {card.grid}x{card.grid} pixels, which {card.name} draws."
        )
    width = tensors["time_embed.0.weight"].shape[1]
    return ADMNetwork(
        width=width,
        multipliers=tuple(len(tensors[f"{first}.0.out_layers.3.weight"]) / width for first in firsts),
        attention=tuple(f"{first}.1.norm.weight" in tensors for first in firsts),
        layers=layers,
        head_width=own.head_width,
        norm_groups=own.norm_groups,
        learn_sigma=False,
    )
