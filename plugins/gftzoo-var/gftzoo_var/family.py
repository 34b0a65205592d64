"""The family and its hooks.

Suffixes: B batch, L codes of all scales, T = L - 1, E width of a code vector, V codebook. "Visual Autoregressive
Modeling: Scalable Image Generation via Next-Scale Prediction" (arXiv 2404.02905).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions, decay_groups
from gftzoo.contract.problem import Problem
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo.tokenizers import build_core_tokenizer
from gftzoo_var import sampler
from gftzoo_var.checkpoints import fit_weights
from gftzoo_var.folding import fold
from gftzoo_var.network import VAR, NetworkOptions
from gftzoo_var.tokenizer import KIND, load_tokenizer

UNDECAYED = ("pos_start", "pos_1LC", "lvl_embed", "ada_gss", "scale_mul", "beta_embed")


@dataclass(frozen=True)
class ScaleProblem(Problem):
    """Predict the codes (B, L), int64, of every scale from the maps (B, T, E) of the scales before."""

    codes_BL: Tensor
    inputs_BTE: Tensor


class VARFamily:
    """Next-scale prediction over the codes of a multi-scale tokenizer."""

    contract_version = 2

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions, reads_tokenizer=True)

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options, spec = card.network_options(NetworkOptions), card.tokenizer
        if spec.codebook is None or not spec.scales or spec.scales[-1] != card.grid:
            raise UsageError(
                f"{card.name} at {card.resolution} px predicts codes on a grid of {card.grid}x{card.grid}, and "
                f"tokenizer {spec.id!r} has codebook={spec.codebook} and scales={spec.scales}; "
                f"choose one whose last scale is {card.grid} with -o tokenizer=NAME, or another -o resolution."
            )
        if options.width % options.heads:
            raise UsageError(
                f"{card.name}: width {options.width} does not divide into {options.heads} heads; "
                "change -o network.width or -o network.heads."
            )
        return VAR(options, card)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        codes_BL = latents.long().flatten(1)
        if codes_BL.is_meta:  # an estimate of the cost reads shapes alone and brings no tokenizer
            shape = (len(codes_BL), codes_BL.shape[1] - 1, model.card.tokenizer.channels)
            return ScaleProblem(codes_BL, torch.empty(shape, device="meta"))
        return ScaleProblem(codes_BL, model.require_tokenizer().teacher_inputs(codes_BL))

    @hookimpl
    def predict(self, model: Model, problem: ScaleProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BLV: Prediction = model.network(problem.inputs_BTE, condition, beta)
        return logits_BLV

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: ScaleProblem) -> Tensor:
        return F.cross_entropy(prediction.transpose(1, 2), problem.codes_BL, reduction="none").mean(1)

    @hookimpl
    def log_likelihood(self, model: Model, prediction: Tensor, problem: ScaleProblem) -> Tensor:
        return -F.cross_entropy(prediction.transpose(1, 2), problem.codes_BL, reduction="none").sum(1)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        return torch.where(dropped, model.card.classes, condition)

    @hookimpl
    def temperature_sampler(
        self,
        model: Model,
        condition: Tensor,
        guidance: Guidance,
        settings: sampler.SamplerOptions,
        generator: SampleGenerator,
    ) -> Tensor:
        return sampler.sample(model, condition, guidance, settings, generator)

    @hookimpl
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer:
        return load_tokenizer(spec, weights) if spec.kind == KIND else build_core_tokenizer(spec, weights)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return fold(model.network, beta)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return fit_weights(card, tensors, card.network_options(NetworkOptions))

    @hookimpl
    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """No weight decay on vectors and on the embeddings of positions, scales and temperature, as the authors do."""

        def decays(name: str, parameter: nn.Parameter) -> bool:
            return parameter.ndim >= 2 and not any(part in name for part in UNDECAYED)

        return decay_groups(network, weight_decay, decays)

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return list(network.blocks)
