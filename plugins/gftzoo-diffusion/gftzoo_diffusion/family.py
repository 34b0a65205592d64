"""The diffusion family: what DiT is to gftzoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import ClassConditions, NoisedProblem, NoisePrediction, OfficialWeights, hook, squared_error
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo_diffusion import folding, sampler
from gftzoo_diffusion.checkpoints import fit_positions, idle_temperature
from gftzoo_diffusion.export import export_pipeline
from gftzoo_diffusion.network import DiT, DiTNetwork
from gftzoo_diffusion.process import STEPS, training_process


@dataclass(frozen=True)
class DiffusionProblem(NoisedProblem):
    """Predict the noise of `x_t` at timestep `t`, int64 in 0..999; the variance is learned from `x_0` (B, C, h, w)."""

    x_0: Tensor


class DiffusionFamily(ClassConditions, NoisePrediction[DiffusionProblem], OfficialWeights):
    """DiT: noise prediction in a latent space."""

    contract_version = 2
    class_table = "y_embedder.embedding_table.weight"
    embeddings = folding.EMBEDDINGS
    readout = folding.READOUT
    temperature_sampler = hook(sampler.sample)
    fold_temperature = hook(folding.fold_temperature)

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
        x_t = training_process(latents.device).noised(latents, t_B, noise)
        return DiffusionProblem(x_t, t_B, noise, latents)

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: DiffusionProblem) -> Tensor:
        loss_B = squared_error(prediction, problem.target)
        eps, values = prediction.tensor_split([problem.target.shape[1]], dim=1)
        # GFT trains the noise alone, as the released code does, unless `gft_variance` says otherwise.
        if values.shape[1] and sampler.learned_variance(model.card):
            process = training_process(prediction.device)
            loss_B = loss_B + process.variational_bound(problem.x_0, problem.x_t, problem.t, eps, values)
        return loss_B

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        return export_pipeline(model, folder) if to == "diffusers" else None

    def idle(self, name: str, embedding: nn.Module) -> dict[str, Tensor]:
        return idle_temperature(name, embedding)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return fit_positions(card, super().import_weights(card, tensors))
