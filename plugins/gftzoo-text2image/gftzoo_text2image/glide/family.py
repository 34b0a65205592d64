"""The family of GLIDE: noise prediction in pixels on prompts that a transformer of its own reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import NoisedProblem, NoisePrediction, hook
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator
from gftzoo_text2image.glide import conditions, folding, network, sampling
from gftzoo_text2image.glide.options import STEPS, GlideNetwork, GlideSampler, UNetOptions


@dataclass(frozen=True)
class GlideProblem(NoisedProblem):
    """Noise in a picture `x_0` (B, C, H, W), of which the variance is learned; an upsampler sees it `small`, too."""

    x_0: Tensor
    small: Tensor | None = None


def small(pictures: Tensor) -> Tensor:
    """Pictures of a quarter of the side, enlarged again, as the upsampler sees what the base model has drawn."""
    quarter = F.interpolate(pictures, scale_factor=0.25, mode="area")
    return F.interpolate(quarter, pictures.shape[-2:], mode="bilinear", align_corners=False)


Posed = TypeVar("Posed", bound=GlideProblem)


class VariancePrediction(NoisePrediction[Posed]):
    """Noise and, behind its channels, a variance, which trains with plain weights and stays as it is under GFT.

    Attributes:
        network_options: the schema of the network's options.
    """

    network_options: ClassVar[type[UNetOptions]]

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: Posed) -> Tensor:
        loss_B = super().loss_term(model, prediction, problem)
        options = model.card.network_options(self.network_options)
        if model.card.temperature or not options.learn_variance:
            return loss_B
        eps, values = prediction.chunk(2, dim=1)
        tables = sampling.process_on(options.schedule, prediction.device)
        # The weight of a thousandth is that of a loss over all steps (iDDPM's L_hybrid).
        return loss_B + tables.variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)


class GlideFamily(VariancePrediction[GlideProblem]):
    """GLIDE base models, whose text transformer trains with the U-Net; the null condition is the empty prompt."""

    contract_version = 2
    network_options = GlideNetwork
    build_network = hook(network.build_glide)
    import_weights = hook(network.from_official)
    encode_condition = hook(conditions.encode_prompts)
    temperature_sampler = hook(sampling.sample)
    fold_temperature = hook(folding.fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=GlideNetwork, sampler=GlideSampler)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        options = model.card.network_options(GlideNetwork)
        t_B, noise = generator.integers(STEPS), generator.normal(*latents.shape[1:])
        x_t = sampling.process_on(options.schedule, latents.device).noised(latents, t_B, noise)
        return GlideProblem(x_t, t_B, noise, latents, small(latents) if options.enlarges else None)

    @hookimpl
    def predict(self, model: Model, problem: GlideProblem, condition: Tensor, beta: Tensor | None) -> Tensor:
        x = problem.x_t if problem.small is None else torch.cat([problem.x_t, problem.small], 1)
        return model.network(x, problem.t, *conditions.tokens_of(condition), beta)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped.view(-1, 1, 1), conditions.null_condition(model, condition), condition)

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        from diffusers.models.resnet import ResnetBlock2D  # slow to import

        from gftzoo_text2image.glide.text import Block

        return [module for module in network.modules() if isinstance(module, ResnetBlock2D | Block)]
