"""A fixed temperature in the weights of a plain VAR."""

from __future__ import annotations

import torch

from gftzoo.layers.folding import Tensors, add, constant, fold_slope, without_temperature
from gftzoo_var.network import VAR


def fold(network: VAR, beta: float) -> Tensors:
    """The plain network's state dict: an embedded temperature goes into every row of the class table."""
    tensors = without_temperature(network, lambda key: key.startswith("beta_embed."))
    if network.beta_embed is not None:
        add(tensors, "class_emb.weight", constant(network.beta_embed, torch.tensor([beta])))
    fold_slope(tensors, network.slope, beta, "head")
    return tensors
