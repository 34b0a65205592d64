"""The Stable Diffusion family: noise prediction in a VAE's latents, conditioned on prompts."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import NoisedProblem, NoisePrediction, OwnTokenizers, PromptConditions, hook
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import STEPS
from gftzoo.layers.temperature import Prediction
from gftzoo_sd import checkpoints, folding, sampler
from gftzoo_sd.network import SDNetwork, predict_noise

# What takes diffusers, whose import takes seconds, is imported where it is used.


def build_autoencoder(spec: TokenizerSpec, weights: str | None) -> Tokenizer:
    """See `gftzoo_sd.autoencoder`."""
    from gftzoo_sd import autoencoder

    return autoencoder.build_autoencoder(spec, weights)


class StableDiffusionFamily(NoisePrediction[NoisedProblem], PromptConditions, OwnTokenizers):
    """Stable Diffusion on diffusers' UNet and VAE and transformers' CLIP text encoder."""

    contract_version = 2
    tokenizers = {"pipeline-vae": build_autoencoder}
    temperature_sampler = hook(sampler.sample)
    fold_temperature = hook(folding.fold_temperature)
    import_weights = hook(checkpoints.fit_weights)
    weights_file = hook(checkpoints.unet_file)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(
            network=SDNetwork,
            sampler=sampler.SDSampler,
            exports=("diffusers",),
            compiles="network",
            channels_last=True,
        )

    def prompt_shape(self, card: ModelCard) -> tuple[int | None, int]:
        return None, card.network_options(SDNetwork).text_width

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        from gftzoo_sd.unet import build_unet

        return build_unet(card)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B = generator.integers(STEPS)
        noise = generator.normal(*latents.shape[1:])
        return NoisedProblem(sampler.training_process(latents.device).noised(latents, t_B, noise), t_B, noise)

    @hookimpl
    def predict(self, model: Model, problem: NoisedProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        return predict_noise(model.network, problem.x_t, problem.t, condition, beta)

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        if to != "diffusers":
            return None
        from gftzoo_sd.export import export_pipeline

        return export_pipeline(model, folder)

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        from gftzoo_sd.unet import blocks_of

        return blocks_of(network)
