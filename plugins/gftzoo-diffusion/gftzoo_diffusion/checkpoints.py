"""Official DiT and released GFT weights: their keys are ours, what a card changes is filled in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import fit_classes
from gftzoo.layers.sinusoid import SINUSOID
from gftzoo_diffusion.network import DiTNetwork, sincos_positions

LABELS = "y_embedder.embedding_table.weight"


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor], network: DiTNetwork) -> dict[str, Tensor]:
    """The file's tensors for the network of `card`.

    Base weights for a card with a temperature get its fine-tune initialisation (the last layer zero, so that the
    network starts as the base model); another number of classes gets rows that start at the null class, which is kept;
    another resolution its own positions.
    """
    fitted = fit_classes(tensors, card.classes + 1, LABELS, LABELS)
    if card.temperature and network.embeds and not any(key in fitted for key in temperature_keys(network)):
        fitted |= new_temperature_input(network)
    positions = fitted.get("pos_embed")
    side = card.grid // network.patch
    if positions is not None and positions.shape[1] != side * side:
        fitted["pos_embed"] = sincos_positions(network.width, side)
    return fitted


def temperature_keys(network: DiTNetwork) -> list[str]:
    """The weight matrices of the temperature input, in order."""
    if network.beta_embedding == "linear":
        return ["t_embedder.cond_proj.weight"]
    layers = {"mlp": 2, "3-layer": 3}[network.beta_embedding]
    return [f"beta_embedder.mlp.{2 * i}.weight" for i in range(layers)]


def new_temperature_input(network: DiTNetwork) -> dict[str, Tensor]:
    """A temperature input without effect: its last layer is zero."""
    if network.beta_embedding == "linear":
        return {"t_embedder.cond_proj.weight": torch.zeros(SINUSOID, 2 * SINUSOID)}
    tensors: dict[str, Tensor] = {}
    for index, key in enumerate(temperature_keys(network)):
        weight = torch.empty(network.width, SINUSOID if index == 0 else network.width)
        tensors[key] = torch.nn.init.xavier_uniform_(weight)
        tensors[key.replace("weight", "bias")] = torch.zeros(network.width)
    tensors[key].zero_()
    return tensors
