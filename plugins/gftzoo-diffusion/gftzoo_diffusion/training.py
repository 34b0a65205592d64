"""What is asked of a network in training and how it is scored, once for all networks and processes.

Suffixes: B batch, C channels, h w sides of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.pieces import NoisedProblem, squared_error
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import Diffusion
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.processes.process import Process


@dataclass(frozen=True)
class DiffusionProblem(NoisedProblem):
    """Predict the target of `x_t` at the process's time `t`; a variance is learned from `x_0` (B, C, h, w)."""

    x_0: Tensor


def pose(process: Process, latents: Tensor, generator: SampleGenerator) -> DiffusionProblem:
    """Latents noised at a time of their own."""
    t_B = process.draw(generator)
    noise = generator.normal(*latents.shape[1:])
    return DiffusionProblem(process.noised(latents, t_B, noise), t_B, process.target(latents, noise, t_B), latents)


def learned_variance(card: ModelCard) -> bool:
    """Whether there are variance channels that were trained: under GFT only where `gft_variance` says so."""
    network = card.network_options(NetworkOptions)
    return network.has_variance and (not card.temperature or network.gft_trains_variance)


def score(card: ModelCard, prediction: Tensor, problem: DiffusionProblem) -> Tensor:
    """The loss (B,): the weighted squared error and, where a variance is learned, its variational bound."""
    options = card.network_options(NetworkOptions)
    loss_B = squared_error(prediction, problem.target)
    weight_B = options.way.weight(options.loss_weight, problem.t)
    if weight_B is not None:
        loss_B = loss_B * weight_B
    eps, values = prediction.tensor_split([problem.target.shape[1]], dim=1)
    # GFT trains the noise alone, as the released code does, unless `gft_variance` says otherwise.
    if values.shape[1] and learned_variance(card):
        process = reverse_tables(options.way, prediction.device)
        loss_B = loss_B + process.variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)
    return loss_B


@cache
def reverse_tables(process: Process, device: torch.device) -> Diffusion:
    """A process's tables in float32 on a device."""
    tables = process.variances()
    assert tables is not None
    return tables.to(device)
