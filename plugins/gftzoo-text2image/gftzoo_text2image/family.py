"""The family of text-to-image pipelines: whatever denoises in a diffusers pipeline, fine-tuned and given back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import NoisePrediction, OwnTokenizers, hook
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_text2image import folding, network, process, sampler, text
from gftzoo_text2image.options import PipelineNetwork, PipelineSampler
from gftzoo_text2image.process import WeightedProblem

EXPORTS = ("diffusers", "lora", "kohya", "single-file")

# What takes diffusers, whose import takes seconds, is imported where it is used.


def build_autoencoder(spec: TokenizerSpec, weights: str | None) -> Tokenizer:
    """See `gftzoo_text2image.autoencoders`."""
    from gftzoo_text2image import autoencoders

    return autoencoders.build_autoencoder(spec, weights)


def repeated(network: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, of whatever kinds; of a UNet those of its levels, convolutions and attention."""
    lists = {name: m for name, m in network.named_modules() if isinstance(m, nn.ModuleList)}
    of_levels = [m for name, m in lists.items() if name.endswith((".resnets", ".attentions"))]
    outermost = [m for name, m in lists.items() if "." not in name]
    return [block for found in of_levels or outermost for block in found]


class TextToImageFamily(NoisePrediction[WeightedProblem], OwnTokenizers):
    """The pipelines on the shelf; see `gftzoo_text2image.pipelines`."""

    contract_version = 2
    tokenizers = {"diffusers-autoencoder": build_autoencoder}
    build_network = hook(network.build_denoiser)
    encode_condition = hook(text.encode_prompts)
    temperature_sampler = hook(sampler.sample)
    import_weights = hook(network.fit_weights)
    fold_temperature = hook(folding.fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(
            network=PipelineNetwork,
            sampler=PipelineSampler,
            exports=EXPORTS,
            adapter_exports=("lora", "kohya"),
            slope_blocks=0,
        )

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        return process.draw(model.card, latents, generator)

    @hookimpl
    def predict(self, model: Model, problem: WeightedProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        prompts = text.split(condition, text.shapes_of(model.card))
        return network.predict(model, problem.x_t, problem.t, prompts, beta)

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: WeightedProblem) -> Tensor:
        return problem.weight * super().loss_term(model, prediction, problem)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped.view(-1, 1), text.null_features(model, condition), condition)

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        from gftzoo_text2image.exports import FORMATS

        return FORMATS[to](model, folder) if to in FORMATS else None

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return repeated(network)

    @hookimpl
    def weights_file(self, card: ModelCard, folder: Path, entry: str | None) -> Path:
        from gftzoo_text2image.card import denoiser_file

        return denoiser_file(folder, network.pipeline_of(card), entry)
