"""A fixed temperature in the weights of a plain UNet."""

from __future__ import annotations

import torch
from torch import nn

from gftzoo.layers.folding import Tensors, add, constant, fold_slope, without_temperature
from gftzoo_sd.checkpoints import TEMPERATURE
from gftzoo_sd.network import SlopedConv, embed_temperature


def fold(network: nn.Module, beta: float) -> Tensors:
    """The plain network's state dict; the projection is added to the timestep's sinusoid."""
    tensors = without_temperature(network, lambda key: key == TEMPERATURE)
    projection = network.time_embedding.cond_proj
    if projection is not None:
        embedded = embed_temperature(torch.tensor([beta]), projection.in_features).double()
        added = tensors["time_embedding.linear_1.weight"].double() @ constant(projection, embedded)
        add(tensors, "time_embedding.linear_1.bias", added)
    if isinstance(network.conv_out, SlopedConv):
        fold_slope(tensors, network.conv_out.slope, beta, "conv_out")
    return tensors
