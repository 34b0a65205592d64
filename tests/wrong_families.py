"""Families that look right and are wrong, each in one way; the right one is what `gftzoo new-plugin` writes."""

from __future__ import annotations

import torch
from gftzoo_acme.family import AcmeFamily
from gftzoo_acme.network import Network
from torch import nn

from gftzoo.contract.guidance import ClassifierFree, Temperature, Unguided
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.pieces import NoisedProblem
from gftzoo.layers.temperature import Affine


class LeaksGradient(AcmeFamily):
    """Gradients reach the network through the unconditional pass."""

    @hookimpl
    def predict(self, model, problem, condition, beta):
        with torch.enable_grad():
            return model.network(problem.x_t, problem.t, condition, beta)


class NullIsAClass(AcmeFamily):
    @hookimpl
    def condition_drop(self, model, condition, dropped):
        return torch.where(dropped, 0, condition)


class IgnoresBeta(AcmeFamily):
    @hookimpl
    def predict(self, model, problem, condition, beta):
        fed = None if beta is None else torch.ones_like(beta)
        return model.network(problem.x_t, problem.t, condition, fed)


class BendsTheLine(AcmeFamily):
    """The slope depends on the temperature."""

    @hookimpl
    def predict(self, model, problem, condition, beta):
        c, d = model.network(problem.x_t, problem.t, condition, beta)
        return Affine(c, d if beta is None else d * beta.view(-1, 1, 1, 1))


class FoldsNothing(AcmeFamily):
    """The temperature is left out and not folded in."""

    @hookimpl
    def fold_temperature(self, model, beta):
        embeds = ("temperature.", "slope.")
        return {key: value for key, value in model.network.state_dict().items() if not key.startswith(embeds)}


class NormalisesAcrossTheBatch(AcmeFamily):
    @hookimpl
    def build_network(self, card):
        network = super().build_network(card)
        network.norm = nn.BatchNorm2d(network.norm.num_channels)
        return network


class PredictsInfinity(AcmeFamily):
    """As logits of impossible codes are: 0 * inf is not a number once predictions are mixed."""

    @hookimpl
    def predict(self, model, problem, condition, beta):
        velocity = model.network(problem.x_t, problem.t, condition, beta)
        return velocity.index_fill(3, torch.tensor([0]), -torch.inf)


class GlobalRandomness(AcmeFamily):
    @hookimpl
    def draw_problem(self, model, latents, generator):
        noise, t = torch.randn_like(latents), generator.uniform()
        return NoisedProblem(torch.lerp(noise, latents, t.view(-1, 1, 1, 1)), t, latents - noise)


class OneStreamForAll(AcmeFamily):
    @hookimpl
    def draw_problem(self, model, latents, generator):
        noise, t = torch.randn(latents.shape, generator=generator.streams[0]), generator.uniform()
        return NoisedProblem(torch.lerp(noise, latents, t.view(-1, 1, 1, 1)), t, latents - noise)


class SharedLoss(AcmeFamily):
    """The right shape, but every sample has the mean of all."""

    @hookimpl
    def loss_term(self, model, prediction, problem):
        return (prediction - problem.target).square().mean().expand(len(prediction))


class HalfPrecisionLoss(AcmeFamily):
    @hookimpl
    def loss_term(self, model, prediction, problem):
        return (prediction - problem.target).bfloat16().square().flatten(1).mean(1)


class DropsInPlace(AcmeFamily):
    @hookimpl
    def condition_drop(self, model, condition, dropped):
        condition[dropped] = model.card.classes
        return condition


class DropsWrongRows(AcmeFamily):
    @hookimpl
    def condition_drop(self, model, condition, dropped):
        return torch.where(dropped | ~dropped.any(), model.card.classes, condition).roll(int(not dropped.all()))


class NullFollowsTheCondition(AcmeFamily):
    """The null condition of an odd class is another one than that of an even class."""

    @hookimpl
    def condition_drop(self, model, condition, dropped):
        return torch.where(dropped, model.card.classes - condition % 2, condition)


class SamplerSharesNoise(AcmeFamily):
    @hookimpl
    def temperature_sampler(self, model, condition, guidance, settings, generator):
        generator.streams = generator.streams[:1] * len(generator)
        return super().temperature_sampler(model, condition, guidance, settings, generator)


class SamplerIgnoresBeta(AcmeFamily):
    @hookimpl
    def temperature_sampler(self, model, condition, guidance, settings, generator):
        fixed = Temperature(1.0) if isinstance(guidance, Temperature) else guidance
        return super().temperature_sampler(model, condition, fixed, settings, generator)


class SwapsThePasses(AcmeFamily):
    """The null pass is taken for the conditional one."""

    @hookimpl
    def temperature_sampler(self, model, condition, guidance, settings, generator):
        if isinstance(guidance, (Temperature, Unguided)):
            return super().temperature_sampler(model, condition, guidance, settings, generator)
        mirrored = ClassifierFree(abs(1 - guidance.scale))
        return super().temperature_sampler(model, condition, mirrored, settings, generator)


class Scaled(Network):
    """A network with a number that its state dict does not hold."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.scale = 1 + torch.rand(1)

    def forward(self, *arguments):
        return self.scale * super().forward(*arguments)


class ForgetsState(AcmeFamily):
    @hookimpl
    def build_network(self, card):
        options = self.options().network.model_validate(card.network)
        return Scaled(options, card.tokenizer.channels, card.classes, card.temperature)


class FreezesSilently(AcmeFamily):
    """The last layer is in no group, and so never trains."""

    @hookimpl
    def parameter_groups(self, network, weight_decay):
        kept = [p for name, p in network.named_parameters() if not name.startswith("leave")]
        return [{"params": kept, "weight_decay": weight_decay}]
