"""The acme family: rectified flow. What gftzoo asks of a family, and nothing else.

An image x_1 and noise x_0 are joined by the straight line x_t = (1 - t) x_0 + t x_1; the network learns the velocity
x_1 - x_0 along it ("Flow Straight and Fast", arXiv 2209.03003, eq. 1). Suffixes: B batch, C channels, H W sides.

Every hook's duties are in `gftzoo.contract.hookspecs`; `gftzoo check-plugin acme` tests them.
"""

from __future__ import annotations

from torch import Tensor, nn

from gftzoo import hookimpl
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import ClassConditions, NoisedProblem, NoisePrediction, hook
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator
from gftzoo.contract.model import Model
from gftzoo.catalogue.cards import ModelCard
from gftzoo_acme import sampler
from gftzoo_acme.network import Network, NetworkOptions


# CHANGE: what the family is made of. `ClassConditions` takes class indices; the null condition is one class more.
# `NoisePrediction` calls the network with (x_t, t, condition, beta) and has the squared error as its loss.
class AcmeFamily(ClassConditions, NoisePrediction[NoisedProblem]):
    """Velocity prediction along straight lines from noise to images."""

    contract_version = 2
    temperature_sampler = hook(sampler.sample)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions)

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        # Channels, sides and classes come from the data, through the card; hyperparameters from `network:` there.
        options = card.network_options(NetworkOptions)
        return Network(options, card.tokenizer.channels, card.classes, card.temperature)

    # CHANGE: how data is corrupted, and what is to be predicted: it is mixed linearly by GFT, a velocity or noise.
    # Random numbers come from `generator` only, a stream for each sample.
    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B = generator.uniform()
        noise_BCHW = generator.normal(*latents.shape[1:])
        t_B111 = t_B.view(-1, 1, 1, 1)
        return NoisedProblem((1 - t_B111) * noise_BCHW + t_B111 * latents, t_B, latents - noise_BCHW)
