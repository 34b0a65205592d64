"""The diffusion family: one network and one process of two shelves, for each card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import OwnTokenizers, squared_error
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_diffusion import samplers
from gftzoo_diffusion.export import export_pipeline
from gftzoo_diffusion.networks import network_of
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.tokenizers import LatentVQ
from gftzoo_diffusion.training import DiffusionProblem


class DiffusionFamily(OwnTokenizers):
    """Diffusion and flow matching in a latent space."""

    contract_version = 2
    tokenizers = {"latent-vq": LatentVQ.load}

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(
            network=NetworkOptions, sampler=samplers.DiffusionSampler, exports=("diffusers",), compiles="network"
        )

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        return network_of(card).build_network(card)

    @hookimpl
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor | None:
        return network_of(model.card).encode_condition(model, conditions)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return network_of(model.card).condition_drop(model, condition, dropped)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        card, found = model.card, tuple(latents.shape[2:])
        if found != (card.grid, card.grid):
            raise UsageError(
                f"{card.name} reads latents of {card.grid}x{card.grid} and these are {found[0]}x{found[1]}; give it "
                f"square images of {card.resolution} pixels, or train with another -o resolution."
            )
        return network_of(card).pose(card.network_options(NetworkOptions), latents, generator)

    @hookimpl
    def predict(self, model: Model, problem: DiffusionProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        return network_of(model.card).predict(model, problem, condition, beta)

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: DiffusionProblem) -> Tensor:
        return network_of(model.card).score(model.card, prediction, problem)

    @hookimpl
    def prediction_distance(
        self, model: Model, prediction: Tensor, target: Tensor, problem: DiffusionProblem
    ) -> Tensor:
        return squared_error(prediction, target[:, : problem.target.shape[1]])

    @hookimpl
    def temperature_sampler(
        self, model: Model, condition: Tensor, guidance: Guidance, settings: Any, generator: SampleGenerator
    ) -> Tensor:
        given = network_of(model.card).given(model, condition, guidance, settings, generator)
        return samplers.sample(model, condition, guidance, settings, generator, given)

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        if to == "official" and not network_of(model.card).names_are_official:
            raise UsageError(
                f"{model.card.name} has diffusers' names for its tensors, and no way back to the official ones; "
                "export it --to safetensors."
            )
        return export_pipeline(model, folder) if to == "diffusers" else None

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return network_of(card).import_weights(card, tensors)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return network_of(model.card).fold_temperature(model, beta)

    @hookimpl
    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path | None:
        return network_of(card).weights_file(card, folder, entry)

    @hookimpl
    def build_classifier(self, card: ModelCard, path: Path) -> nn.Module:
        return network_of(card).build_classifier(card, path)

    @hookimpl
    def blocks(self, network: Any) -> list[nn.Module]:
        return list(network.repeated)
