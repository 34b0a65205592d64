"""RAR's hooks. Suffixes: B batch, N codes of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import CodeProblem, DecodingSettings, Steered, cosine_power, decode, hook
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator, to_device
from gftzoo.layers.finetuning import fit_classes
from gftzoo.layers.temperature import Prediction
from gftzoo_autoregressive.family import AutoregressiveFamily
from gftzoo_autoregressive.rar import RAR, RARDecoder, RAROptions


@dataclass(frozen=True)
class OrderedProblem(CodeProblem):
    """Predict the codes in an order; `order` (B, N), int64, says where each stands in the image, row by row."""

    order: Tensor


class RARSampling(DecodingSettings):
    """Settings of the sampler; the defaults are RAR-B's of the published scores."""

    guidance_power: float = Field(
        2.75, ge=0, description="a linear schedule of the guidance follows (1 - cos(pi (n / N)^power)) / 2 at code n"
    )


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: RARSampling, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N), int64, in raster order; every position is given the temperature of its own guidance."""
    steered, codes = Steered(model, condition, guidance), model.network.codes
    decoder = RARDecoder(model.network, steered.condition_G)
    progress = cosine_power(codes, settings.guidance_power)
    return decode(decoder, steered, settings, generator.uniform(codes), progress)


class RARFamily(AutoregressiveFamily[OrderedProblem]):
    """Codes in an order that is random early in training and raster at its end."""

    network_options, sampler_options, network_class = RAROptions, RARSampling, RAR
    suggested = "maskgit-vq"
    class_table = "embeddings.weight"
    embeddings = {"beta_embed": ("timesteps_embeddings",)}
    readout = "lm_head"
    undecayed = ("embed", "adaln_before_head")  # as the authors' names have it
    temperature_sampler = hook(sample)

    def fit_table(self, tensors: Mapping[str, Tensor], network: nn.Module, rows: int) -> dict[str, Tensor]:
        assert isinstance(network, RAR)
        return fit_classes(tensors, rows, self.class_table, first=network.first_class)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        options: RAROptions = model.network.options
        codes_BN = latents.long().flatten(1)
        order_BN = torch.arange(codes_BN.shape[1], device=codes_BN.device).expand_as(codes_BN)
        if options.random_share(0) > 0:
            share_B = torch.tensor([options.random_share(p) for p in generator.positions])
            shuffled_B = to_device(generator.host.uniform() < share_B, codes_BN.device)
            order_BN = torch.where(shuffled_B[:, None], generator.permutation(codes_BN.shape[1]), order_BN)
        return OrderedProblem(codes_BN.gather(1, order_BN), order=order_BN)

    @hookimpl
    def predict(self, model: Model, problem: OrderedProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BNV: Prediction = model.network(problem.codes, problem.order, condition, beta)
        return logits_BNV
