"""The diffusion family: what DiT is to gftzoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_diffusion import sampler
from gftzoo_diffusion.checkpoints import fit_weights
from gftzoo_diffusion.export import export_pipeline
from gftzoo_diffusion.folding import fold
from gftzoo_diffusion.network import DiT, DiTNetwork
from gftzoo_diffusion.process import STEPS, Process

training_process = cache(Process.full)


@dataclass(frozen=True)
class DiffusionProblem(Problem):
    """Predict the noise of `x_t` at timestep `t`; all (B, C, h, w) but t (B,) int64 in 0..999."""

    x_0: Tensor
    x_t: Tensor
    t: Tensor
    noise: Tensor


class DiffusionFamily:
    """DiT: noise prediction in a latent space."""

    contract_version = 2

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=DiTNetwork, sampler=sampler.DiffusionSampler, exports=("diffusers",))

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        network = card.network_options(DiTNetwork)
        if card.grid % network.patch:
            raise UsageError(
                f"{card.name}: a latent of {card.grid}x{card.grid} does not divide into patches of {network.patch}; "
                "change -o resolution or -o network.patch."
            )
        return DiT(network, card.grid, card.tokenizer.channels, card.classes, card.temperature)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B = generator.integers(STEPS)
        noise = generator.normal(*latents.shape[1:])
        return DiffusionProblem(latents, training_process().noised(latents, t_B, noise), t_B, noise)

    @hookimpl
    def predict(self, model: Model, problem: DiffusionProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        output: Prediction = model.network(problem.x_t, problem.t, condition, beta)
        return output

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: DiffusionProblem) -> Tensor:
        channels = problem.noise.shape[1]
        eps, values = prediction[:, :channels], prediction[:, channels:]
        loss_B = (eps - problem.noise).square().flatten(1).mean(1)
        # GFT trains the noise alone, as the released code does, unless `gft_variance` says otherwise.
        if values.shape[1] and sampler.learned_variance(model.card):
            loss_B = loss_B + training_process().variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)
        return loss_B

    @hookimpl
    def prediction_distance(
        self, model: Model, prediction: Tensor, target: Tensor, problem: DiffusionProblem
    ) -> Tensor:
        channels = problem.noise.shape[1]
        return (prediction - target)[:, :channels].square().flatten(1).mean(1)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped, model.card.classes, condition)

    @hookimpl
    def temperature_sampler(
        self,
        model: Model,
        condition: Tensor,
        guidance: Guidance,
        settings: sampler.DiffusionSampler,
        generator: SampleGenerator,
    ) -> Tensor:
        return sampler.sample(model, condition, guidance, settings, generator)

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        return export_pipeline(model, folder) if to == "diffusers" else None

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return fold(model, beta)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return fit_weights(card, tensors, card.network_options(DiTNetwork))
