"""The family and its hooks.

Suffixes: B batch, N codes of an image, V codebook. "Autoregressive Model Beats Diffusion: Llama for Scalable Image
Generation" (arXiv 2406.06525).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from gftzoo_llamagen import sampler
from gftzoo_llamagen.captions import encode_captions
from gftzoo_llamagen.checkpoints import fit_weights
from gftzoo_llamagen.folding import fold
from gftzoo_llamagen.network import NetworkOptions, Transformer
from gftzoo_llamagen.tokenizer import PixelCode, load_vq


@dataclass(frozen=True)
class CodeProblem(Problem):
    """Predict every code (B, N), int64, from those before it."""

    codes_BN: Tensor


class LlamaGenFamily:
    """Autoregression over the codes of an image."""

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions)

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options = card.network_options(NetworkOptions)
        if card.tokenizer.codebook is None:
            raise UsageError(
                f"{card.name} predicts codes and tokenizer {card.tokenizer.id!r} has no codebook; "
                "use one that has, e.g. -o tokenizer=pixel-code-17 or -o tokenizer=vq-16."
            )
        if options.width % (4 * options.heads):
            raise UsageError(
                f"{card.name}: width {options.width} over {options.heads} heads gives a head width that is no multiple "
                "of 4; change -o network.width or -o network.heads."
            )
        return Transformer(options, card)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        return CodeProblem(latents.long().flatten(1))

    @hookimpl
    def predict(self, model: Model, problem: CodeProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BNV: Prediction = model.network(problem.codes_BN, condition, beta)
        return logits_BNV

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: CodeProblem) -> Tensor:
        return F.cross_entropy(prediction.transpose(1, 2), problem.codes_BN, reduction="none").mean(1)

    @hookimpl
    def log_likelihood(self, model: Model, prediction: Tensor, problem: CodeProblem) -> Tensor:
        return -F.cross_entropy(prediction.transpose(1, 2), problem.codes_BN, reduction="none").sum(1)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        if condition.ndim == 1:
            return torch.where(dropped, model.card.classes, condition)
        null_BTF = model.network.cls_embedding.null(condition)
        return torch.where(dropped[:, None, None], null_BTF, condition)

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
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor:
        if model.card.condition == "class":
            return torch.tensor([model.card.class_index(c) for c in conditions], device=model.device)
        options = model.network.options
        if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
            shape = len(conditions), options.caption_tokens, options.caption_features
            return torch.empty(shape, device="meta")
        return encode_captions([str(c) for c in conditions], options.text_encoder, options.caption_tokens, model.device)

    @hookimpl
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer:
        if spec.kind == "vq":
            return load_vq(spec, weights)
        return PixelCode(spec) if spec.kind == "pixel-code" else build_core_tokenizer(spec, weights)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return fold(model.network, beta)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return fit_weights(card, tensors, card.network_options(NetworkOptions))

    @hookimpl
    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Weight decay on matrices and embeddings, or (as where the official code shards) on all but the norms."""
        if network.options.decay == "all-but-norms":
            return decay_groups(network, weight_decay, lambda name, _: "norm" not in name)
        return decay_groups(network, weight_decay, lambda _, parameter: parameter.ndim >= 2)

    @hookimpl
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        return list(network.layers)
