"""A fixed temperature in the weights of a plain MAR."""

from __future__ import annotations

import torch

from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold, settle_rows
from gftzoo_mar.network import MAR
from gftzoo_mar.sampler import SamplerOptions, learned_variance

HEAD = "diffloss.net."
READOUT = f"{HEAD}final_layer.linear"
# What is embedded in the buffer goes into the class table and the null condition, what is embedded in the head into the
# bias of its condition.
EMBEDDINGS = {
    "beta_embed": ("class_emb.weight", "fake_latent"),
    f"{HEAD}beta_embed": (f"{HEAD}cond_embed.bias",),
}


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict; a variance that was not trained becomes the one that the sampler takes."""
    network: MAR = model.network
    variances = torch.arange(2 * network.channels) >= network.channels
    tensors = fold(network, beta, EMBEDDINGS, READOUT, ~variances)
    if not learned_variance(model):
        settings: SamplerOptions = model.family.sampler_settings(model.card)
        settle_rows(tensors, READOUT, variances, settings.variance_share)
    return tensors
