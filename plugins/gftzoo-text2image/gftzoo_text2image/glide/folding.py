"""A fixed temperature in the weights of U-Nets that learn a variance, GLIDE's and unCLIP's decoder."""

from __future__ import annotations

import torch

from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, settle_rows
from gftzoo_text2image.glide.network import BETA

READOUT = "unet.conv_out"


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict: the embedding of the temperature becomes part of the timestep's.

    The variance, which GFT leaves untrained, becomes the larger fixed one that the sampler takes in its place.
    """
    return settled(fold(model.network, beta, {BETA: ("unet.time_embedding.linear_2.bias",)}, READOUT))


def settled(tensors: Tensors) -> Tensors:
    """The tensors with a constant for the channels of the variance: 1, its upper bound."""
    channels = len(tensors[f"{READOUT}.bias"])
    settle_rows(tensors, READOUT, torch.arange(channels) >= channels // 2, 1.0)
    return tensors
