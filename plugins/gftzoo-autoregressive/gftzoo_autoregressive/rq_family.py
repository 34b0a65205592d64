"""RQ-Transformer's hooks. Suffixes: B batch, N positions, P codes of a position, E width of a code vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import (
    CodeProblem,
    PartSettings,
    Steered,
    decode,
    hook,
    refuse_ramp,
)
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo.layers.temperature import Prediction
from gftzoo_autoregressive.family import AddedNull, AutoregressiveFamily
from gftzoo_autoregressive.residuals import RQVAE, ResidualPatches, ResidualTokenizer
from gftzoo_autoregressive.rq import RQDecoder, RQOptions, RQTransformer


@dataclass(frozen=True)
class ResidualProblem(CodeProblem):
    """Predict the codes (B, N P), position by position, from `given`, their vectors (B, N, P, E) or indices.

    Where codes were drawn for the problem, the loss asks for the chances `soft` (B, N P, V) that they were drawn with.
    """

    given: Tensor
    soft: Tensor | None = field(default=None, kw_only=True)


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: PartSettings, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N P), int64, or what the tokenizer makes of them.

    UsageError for an embedded temperature that changes on the way.
    """
    network: RQTransformer = model.network
    refuse_ramp(model, network.beta_embed is not None, guidance)
    settings.check(network.parts)
    steered = Steered(model, condition, guidance)
    decoder = RQDecoder(network, steered.condition_G, vectors_of(model))
    uniform = generator.uniform(network.positions * network.parts)
    codes_BM = decode(decoder, steered, settings, uniform, settings.progress(network.positions, network.parts))
    return model.tokenizer.latents_of(codes_BM) if isinstance(model.tokenizer, ResidualTokenizer) else codes_BM


def residual_tokenizer(model: Model) -> ResidualTokenizer:
    """The tokenizer; UsageError if it has no vectors that add up."""
    tokenizer = model.require_tokenizer()
    if not isinstance(tokenizer, ResidualTokenizer):
        raise UsageError(
            f"{model.card.name} reads codes by the vectors of its tokenizer, and tokenizer {tokenizer.spec.id!r} has "
            "none; use one of kind 'rq-vae' or 'residual-patches', or -o network.codes_from=table."
        )
    return tokenizer


def vectors_of(model: Model) -> Tensor | None:
    """The tokenizer's code vectors (V, E), which the released networks read codes by; None for one with a table."""
    return None if model.network.options.codes_from == "table" else residual_tokenizer(model).codebook.vectors


def softened(model: Model, vectors_BEhw: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
    """Codes (B, N P) drawn for the vectors of images, and the chances (B, N P, V) that they were drawn with."""
    tokenizer, z_BNE = residual_tokenizer(model), vectors_BEhw.flatten(2).mT
    uniform_BNP = generator.uniform(z_BNE.shape[1], tokenizer.codebook.parts)
    return tokenizer.codebook.soften(
        z_BNE,
        tokenizer.options.soft_temperature,
        lambda part, logits_BNV: categorical.draw(logits_BNV, uniform_BNP[..., part]),
    )


class RQFamily(AddedNull, AutoregressiveFamily[ResidualProblem]):
    """Several codes a position, each of what the ones before it left over."""

    network_options, sampler_options, network_class = RQOptions, PartSettings, RQTransformer
    suggested = "rq-vae-8x8x4"
    class_table = "cond_emb.weight"
    embeddings = {"beta_embed": ("pos_emb_cond",)}
    readout = "classifier.linear"
    tokenizers = {"rq-vae": RQVAE.load, "residual-patches": ResidualPatches.load}
    temperature_sampler = hook(sample)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=RQOptions, sampler=PartSettings, reads_tokenizer=True, compiles="steps")

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        network, spec, soft = model.network, model.card.tokenizer, None
        if latents.is_floating_point():
            codes_BM, soft = softened(model, latents, generator)
        else:
            codes_BM = latents.long().flatten(1)
        codes_BNP = codes_BM.unflatten(1, (-1, network.parts))
        if network.options.codes_from == "table":
            return ResidualProblem(codes_BM, given=codes_BNP, soft=soft)
        if codes_BM.is_meta:  # an estimate of the cost reads shapes alone and brings no tokenizer
            if spec.options.get("soft_temperature"):
                soft = torch.empty(*codes_BM.shape, spec.codebook or 1, device="meta")
            given = torch.empty(*codes_BNP.shape, spec.channels, device="meta")
            return ResidualProblem(codes_BM, given=given, soft=soft)
        vectors_VE = vectors_of(model)
        assert vectors_VE is not None
        return ResidualProblem(codes_BM, given=vectors_VE[codes_BNP], soft=soft)

    @hookimpl
    def predict(self, model: Model, problem: ResidualProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BMV: Prediction = model.network(problem.given, condition, beta)
        return logits_BMV

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: ResidualProblem) -> Tensor:
        """The cross-entropy, of codes or of the chances that they were drawn with, averaged over the codes."""
        if problem.soft is None:
            return super().loss_term(model, prediction, problem)
        return F.cross_entropy(prediction.mT, problem.soft.mT, reduction="none").mean(1)

    @hookimpl
    def parameter_groups(self, network: Any, weight_decay: float) -> list[dict[str, Any]]:
        """All decays, as the authors have it."""
        return [{"params": [p for p in network.parameters() if p.requires_grad], "weight_decay": weight_decay}]

    @hookimpl
    def blocks(self, network: Any) -> list[nn.Module]:
        """The head's, which sees every position, too."""
        return [*network.body_transformer.blocks, *network.head_transformer.blocks]
