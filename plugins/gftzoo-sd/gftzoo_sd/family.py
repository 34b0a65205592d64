"""The Stable Diffusion family: noise prediction in a VAE's latents, conditioned on prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_sd import sampler
from gftzoo_sd.autoencoder import build_autoencoder
from gftzoo_sd.checkpoints import fit_weights, unet_file
from gftzoo_sd.export import export_pipeline
from gftzoo_sd.folding import fold
from gftzoo_sd.network import SDNetwork, build_unet, predict_noise
from gftzoo_sd.text import encode_prompts, null_features

training_process = cache(sampler.training_process)


@dataclass(frozen=True)
class NoiseProblem(Problem):
    """Predict the `noise` in `x_t`, both (B, C, h, w), at timestep `t` (B,) int64 in 0..999."""

    x_t: Tensor
    t: Tensor
    noise: Tensor


class StableDiffusionFamily:
    """Stable Diffusion on diffusers' UNet and VAE and transformers' CLIP text encoder."""

    contract_version = 2

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=SDNetwork, sampler=sampler.SDSampler, exports=("diffusers",))

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        return build_unet(card)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B = generator.integers(sampler.STEPS)
        noise = generator.normal(*latents.shape[1:])
        alpha_bar_B = training_process().alphas_cumprod.to(latents.device)[t_B].view(-1, 1, 1, 1)
        x_t = alpha_bar_B.sqrt() * latents + (1 - alpha_bar_B).sqrt() * noise  # DDPM (arXiv 2006.11239) eq. 4
        return NoiseProblem(x_t, t_B, noise)

    @hookimpl
    def predict(self, model: Model, problem: NoiseProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        return predict_noise(model.network, problem.x_t, problem.t, condition, beta)

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: NoiseProblem) -> Tensor:
        return (prediction - problem.noise).square().flatten(1).mean(1)

    @hookimpl
    def prediction_distance(self, model: Model, prediction: Tensor, target: Tensor, problem: NoiseProblem) -> Tensor:
        return (prediction - target).square().flatten(1).mean(1)

    @hookimpl
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor:
        return encode_prompts(model, conditions)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped.view(-1, 1, 1), null_features(model), condition)

    @hookimpl
    def temperature_sampler(
        self,
        model: Model,
        condition: Tensor,
        guidance: Guidance,
        settings: sampler.SDSampler,
        generator: SampleGenerator,
    ) -> Tensor:
        return sampler.sample(model, condition, guidance, settings, generator)

    @hookimpl
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer | None:
        return build_autoencoder(spec, weights) if spec.kind == "pipeline-vae" else None

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return fold(model.network, beta)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return fit_weights(card, tensors)

    @hookimpl
    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path:
        return unet_file(card, folder, entry)

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        return export_pipeline(model, folder) if to == "diffusers" else None

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return [m for m in network.modules() if isinstance(m, (ResnetBlock2D, BasicTransformerBlock))]
