"""The acme family: rectified flow. What gftzoo asks of a family, and nothing else.

An image x_1 and noise x_0 are joined by the straight line x_t = (1 - t) x_0 + t x_1; the network learns the velocity
x_1 - x_0 along it ("Flow Straight and Fast", arXiv 2209.03003, eq. 1). Suffixes: B batch, C channels, H W sides.

Every hook's duties are in `gftzoo.contract.hookspecs`; `gftzoo check-plugin acme` tests them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gftzoo import hookimpl
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator
from gftzoo.contract.guidance import Guidance
from gftzoo.layers.temperature import Prediction
from gftzoo.contract.model import Model
from gftzoo.catalogue.cards import ModelCard
from gftzoo_acme import sampler
from gftzoo_acme.network import Network, NetworkOptions


# CHANGE: what one training step needs besides the network. Every tensor has the batch first.
@dataclass(frozen=True)
class AcmeProblem(Problem):
    """Predict the velocity (B, C, H, W) at the point `x_t` (B, C, H, W) of the line at time `t` (B,) in [0, 1)."""

    x_t: Tensor
    t: Tensor
    velocity: Tensor


class AcmeFamily:
    """Velocity prediction along straight lines from noise to images."""

    contract_version = 2

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions)

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        # Channels, sides and classes come from the data, through the card; hyperparameters from `network:` there.
        options = card.network_options(NetworkOptions)
        return Network(options, card.tokenizer.channels, card.classes, card.temperature)

    # CHANGE: how data is corrupted. Random numbers come from `generator` only, a stream for each sample.
    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B = generator.uniform()
        noise_BCHW = generator.normal(*latents.shape[1:])
        t_B111 = t_B.view(-1, 1, 1, 1)
        return AcmeProblem((1 - t_B111) * noise_BCHW + t_B111 * latents, t_B, latents - noise_BCHW)

    # CHANGE: how the network is called. What is returned is mixed linearly by GFT: a velocity, noise or logits.
    @hookimpl
    def predict(self, model: Model, problem: AcmeProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        velocity_BCHW: Prediction = model.network(problem.x_t, problem.t, condition, beta)
        return velocity_BCHW

    # CHANGE: the loss, one number for each sample.
    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: AcmeProblem) -> Tensor:
        return (prediction - problem.velocity).square().flatten(1).mean(1)

    # Optional: lets `--objective distill` train this family too.
    @hookimpl
    def prediction_distance(self, model: Model, prediction: Tensor, target: Tensor, problem: AcmeProblem) -> Tensor:
        return (prediction - target).square().flatten(1).mean(1)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped, model.card.classes, condition)  # the null condition is one class more

    @hookimpl
    def temperature_sampler(
        self,
        model: Model,
        condition: Tensor,
        guidance: Guidance,
        settings: sampler.SamplerOptions,
        generator: SampleGenerator,
    ) -> Tensor:
        return sampler.sample(model, condition, guidance, settings, generator)
