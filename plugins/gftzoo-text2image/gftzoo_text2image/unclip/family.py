"""The two families of unCLIP: the prior predicts a picture's embedding, the decoder its noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import NoisedProblem, NoisePrediction, OwnTokenizers, hook
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import STEPS
from gftzoo_text2image.glide import folding
from gftzoo_text2image.glide.family import GlideProblem, VariancePrediction
from gftzoo_text2image.glide.sampling import process_on
from gftzoo_text2image.unclip import conditions, decoder, export, folders, prior, sampling
from gftzoo_text2image.unclip.options import DecoderNetwork, DecoderSampler, PriorNetwork, PriorSampler
from gftzoo_text2image.unclip.tokenizers import ClipEmbeddings, SmallPictures, taken_apart


def clip_embeddings(spec: TokenizerSpec, weights: str | None) -> Tokenizer:
    """The prior's tokenizer, whose pictures a decoder draws."""
    return ClipEmbeddings(spec, weights, sampling.picture_of)


class ClipConditions(OwnTokenizers):
    """Prompts as CLIP's features; the null condition is the empty prompt."""

    contract_version = 2
    tokenizers = {"clip-embedding": clip_embeddings, "clip-pictures": SmallPictures}
    encode_condition = hook(conditions.encode_prompts)
    condition_drop = hook(conditions.condition_drop)


class UnclipPriorFamily(ClipConditions, NoisePrediction[NoisedProblem]):
    """Priors: the network predicts the embedding itself, in which guidance is linear as in the noise."""

    build_network = hook(prior.build_prior)
    import_weights = hook(prior.fit_prior)
    temperature_sampler = hook(sampling.sample_prior)
    fold_temperature = hook(prior.fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=PriorNetwork, sampler=PriorSampler, exports=("diffusers",))

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        return export.write_prior(model, folder) if to == "diffusers" else None

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        t_B, noise = generator.integers(STEPS), generator.normal(*latents.shape[1:])
        return NoisedProblem(process_on("cosine", latents.device).noised(latents, t_B, noise), t_B, latents)

    @hookimpl
    def predict(self, model: Model, problem: NoisedProblem, condition: Tensor, beta: Tensor | None) -> Tensor:
        text = conditions.parts_of(model, condition)
        x_BD, shape = problem.x_t.flatten(1), problem.x_t.shape
        predicted: Tensor = model.network(x_BD, problem.t, text["text"], text["states"], text["mask"], beta)
        return predicted.view(shape)

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return list(network.prior.transformer_blocks)  # type: ignore[union-attr, arg-type]

    @hookimpl
    def weights_file(self, card: ModelCard, folder: Path, entry: str | None) -> Path:
        return folders.prior_file(folder)


@dataclass(frozen=True)
class DecoderProblem(GlideProblem):
    """Noise in a small picture whose embedding is `image` (B, D)."""

    image: Tensor | None = None


class UnclipDecoderFamily(ClipConditions, VariancePrediction[DecoderProblem]):
    """Decoders; their null condition leaves out the text and the picture's embedding together."""

    network_options = DecoderNetwork
    build_network = hook(decoder.build_decoder)
    import_weights = hook(decoder.fit_decoder)
    temperature_sampler = hook(sampling.sample_decoder)
    fold_temperature = hook(folding.fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=DecoderNetwork, sampler=DecoderSampler, exports=("diffusers",))

    @hookimpl
    def export(self, model: Model, to: str, folder: Path) -> Path | None:
        return export.write_decoder(model, folder) if to == "diffusers" else None

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        options = model.card.network_options(DecoderNetwork)
        pictures, image_BD = taken_apart(latents, options.clip_width)
        t_B, noise = generator.integers(STEPS), generator.normal(*pictures.shape[1:])
        x_t = process_on(options.schedule, latents.device).noised(pictures, t_B, noise)
        return DecoderProblem(x_t, t_B, noise, pictures, image=image_BD)

    @hookimpl
    def predict(self, model: Model, problem: DecoderProblem, condition: Tensor, beta: Tensor | None) -> Tensor:
        text = conditions.parts_of(model, condition)
        predicted: Tensor = model.network(problem.x_t, problem.t, problem.image, text, beta)
        return predicted

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        from diffusers.models.resnet import ResnetBlock2D  # slow to import

        return [module for module in network.modules() if isinstance(module, ResnetBlock2D)]

    @hookimpl
    def weights_file(self, card: ModelCard, folder: Path, entry: str | None) -> Path:
        return folders.decoder_file(folder)
