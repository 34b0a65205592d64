"""The family and its hooks.

Suffixes: B batch, L codes of all scales, T = L - 1, E width of a code vector, V codebook. "Visual Autoregressive
Modeling: Scalable Image Generation via Next-Scale Prediction" (arXiv 2404.02905).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import (
    ClassConditions,
    CodePrediction,
    CodeProblem,
    MatrixDecay,
    OfficialWeights,
    OwnTokenizers,
    hook,
)
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Prediction
from gftzoo_var import sampler
from gftzoo_var.network import VAR, NetworkOptions
from gftzoo_var.tokenizer import KIND, MultiScaleVQ


@dataclass(frozen=True)
class ScaleProblem(CodeProblem):
    """Predict the codes (B, L), int64, of every scale from the maps (B, T, E) of the scales before."""

    inputs_BTE: Tensor


class VARFamily(ClassConditions, CodePrediction[ScaleProblem], OfficialWeights, MatrixDecay, OwnTokenizers):
    """Next-scale prediction over the codes of a multi-scale tokenizer."""

    contract_version = 2
    class_table = "class_emb.weight"
    embeddings = {"beta_embed": (class_table,)}
    readout = "head"
    # The embeddings of positions, scales and temperature do not decay, as the authors do it.
    undecayed = ("pos_start", "pos_1LC", "lvl_embed", "ada_gss", "scale_mul", "beta_embed")
    tokenizers = {KIND: MultiScaleVQ.load}
    temperature_sampler = hook(sampler.sample)

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
        return ScaleProblem(codes_BL, cast(MultiScaleVQ, model.require_tokenizer()).teacher_inputs(codes_BL))

    @hookimpl
    def predict(self, model: Model, problem: ScaleProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        model.network.report_attention(masked=True)
        logits_BLV: Prediction = model.network(problem.inputs_BTE, condition, beta)
        return logits_BLV
