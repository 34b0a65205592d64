"""A fixed temperature in the weights of a plain UNet."""

from __future__ import annotations

import torch

from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, fold_projection
from gftzoo_sd.network import embed_temperature

PROJECTION = "time_embedding.cond_proj"


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict; the projection is added to the timestep's sinusoid."""
    tensors = fold(model.network, beta, {PROJECTION: ()}, "conv_out")
    projection = model.network.time_embedding.cond_proj
    if projection is not None:
        embedded = embed_temperature(torch.tensor([beta]), projection.in_features)
        fold_projection(tensors, projection, embedded, "time_embedding.linear_1")
    return tensors
