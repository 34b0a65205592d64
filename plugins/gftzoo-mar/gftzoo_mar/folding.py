"""A fixed temperature in the weights of a plain MAR."""

from __future__ import annotations

from typing import Any

import torch

from gftzoo.layers.folding import Tensors, add, constant, fold_slope, settle_rows, without_temperature
from gftzoo_mar.network import MAR
from gftzoo_mar.sampler import SamplerOptions, learned_variance

HEAD = "diffloss.net."
READOUT = f"{HEAD}final_layer.linear"


def fold(model: Any, beta: float) -> Tensors:
    """The plain network's state dict.

    What is embedded in the buffer goes into the class table and the null condition, what is embedded in the head into
    the bias of its condition. A variance that was not trained becomes the one that the sampler takes in its place.
    """
    network: MAR = model.network
    net, beta_1 = network.diffloss.net, torch.tensor([beta])
    tensors = without_temperature(network, lambda key: "beta_embed" in key.split("."))
    if network.beta_embed is not None:
        for key in ("class_emb.weight", "fake_latent"):
            add(tensors, key, constant(network.beta_embed, beta_1))
    if net.beta_embed is not None:
        add(tensors, f"{HEAD}cond_embed.bias", constant(net.beta_embed, beta_1))
    variances = torch.arange(2 * network.channels) >= network.channels
    fold_slope(tensors, net.slope, beta, READOUT, ~variances)
    if not learned_variance(model):
        settings: SamplerOptions = model.family.sampler_settings(model.card)
        settle_rows(tensors, READOUT, variances, settings.variance_share)
    return tensors
