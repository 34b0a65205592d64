"""The hooks of VQGAN's transformer and of ViT-VQGAN's. Suffixes: B batch, N codes of an image, D width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import CodeProblem, DecodingSettings, Steered, decode, hook, refuse_ramp
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.finetuning import append_null
from gftzoo.layers.folding import add, constant
from gftzoo.layers.temperature import Prediction
from gftzoo_autoregressive.family import AddedNull, AutoregressiveFamily
from gftzoo_autoregressive.gpt import CodeGPT, GPTDecoder, GPTOptions, MinGPT, ShiftGPT
from gftzoo_autoregressive.tokenizers import VQGAN
from gftzoo_autoregressive.vit_tokenizer import load_vit_vqgan


@dataclass(frozen=True)
class ShownProblem(CodeProblem):
    """Predict the codes, each from those `shown` (B, N), int64, before it."""

    shown: Tensor


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: DecodingSettings, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N), int64; UsageError for an embedded temperature that changes on the way."""
    network: CodeGPT = model.network
    refuse_ramp(model, network.beta_embed is not None, guidance)
    steered = Steered(model, condition, guidance)
    return decode(GPTDecoder(network, steered.condition_G), steered, settings, generator.uniform(network.codes))


class GPTFamily(AutoregressiveFamily[ShownProblem]):
    """What both say alike."""

    network_options, sampler_options = GPTOptions, DecodingSettings
    readout = "head"
    temperature_sampler = hook(sample)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        codes_BN, network = latents.long().flatten(1), model.network
        if network.options.keep == 1:
            return ShownProblem(codes_BN, shown=codes_BN)
        kept_BN = generator.uniform(network.codes) < network.options.keep
        return ShownProblem(
            codes_BN, shown=torch.where(kept_BN, codes_BN, generator.integers(network.codebook, network.codes))
        )

    @hookimpl
    def predict(self, model: Model, problem: ShownProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BNV: Prediction = model.network(problem.shown, condition, beta)
        return logits_BNV

    def own_key(self, key: str) -> str | None:
        """Lightning's files hold the first stage, too, and the causal masks."""
        if key.startswith(("first_stage_model.", "stage1_model.")) or key.endswith("attn.mask"):
            return None
        return key.removeprefix("transformer.")


class VQGANFamily(GPTFamily):
    """VQGAN's transformer. Its classes share the table of codes; a null class is added to that table."""

    network_class = MinGPT
    suggested = "vqgan-16-16384"
    tokenizers = {"vqgan": VQGAN.load}
    class_table = "tok_emb.weight"
    embeddings = {"beta_embed": ()}  # folded into the first position, which is the class's alone
    undecayed = ("tok_emb", "pos_emb")

    def check(self, options: Any, card: ModelCard) -> None:
        assert card.tokenizer.codebook is not None
        if card.classes > card.tokenizer.codebook:
            raise UsageError(
                f"{card.name} looks its {card.classes} classes up in the table of its {card.tokenizer.codebook} codes, "
                "one in each row; use data with fewer classes, or a tokenizer with more codes."
            )

    def fit_table(self, tensors: Mapping[str, Tensor], network: nn.Module, rows: int) -> dict[str, Tensor]:
        """Whatever the classes mean, their rows are codes' and stay."""
        assert isinstance(network, MinGPT)
        return append_null(tensors, self.class_table, network.codebook, network.classes)

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        tensors = dict(super().fold_temperature(model, beta))
        embedding = model.network.beta_embed
        if embedding is not None:
            added_1ND = torch.zeros_like(tensors["pos_emb"], dtype=torch.float64)
            added_1ND[:, 0] = constant(embedding, torch.tensor([beta]))
            add(tensors, "pos_emb", added_1ND)
        return tensors


class ViTVQGANFamily(AddedNull, GPTFamily):
    """A transformer over ViT-VQGAN's codes, as in its public code; the authors' own, VIM, is not published."""

    network_class = ShiftGPT
    suggested = "vit-vqgan-base"
    tokenizers = {"vit-vqgan": load_vit_vqgan}
    class_table = "tok_emb_cond.weight"
    embeddings = {"beta_embed": ("pos_emb_cond",)}
    undecayed = ("tok_emb", "pos_emb", "time_mix")
