"""The family and its hooks.

Suffixes: B batch, N codes of an image, V codebook. "Autoregressive Model Beats Diffusion: Llama for Scalable Image
Generation" (arXiv 2406.06525).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions, decay_groups
from gftzoo.contract.pieces import (
    AllCodes,
    ClassConditions,
    MatrixDecay,
    OfficialWeights,
    OwnTokenizers,
    hook,
    refuse_continuous,
)
from gftzoo.errors import UsageError
from gftzoo_llamagen import sampler
from gftzoo_llamagen.captions import encode_captions
from gftzoo_llamagen.conditions import CaptionEmbedding
from gftzoo_llamagen.network import NetworkOptions, Transformer
from gftzoo_llamagen.tokenizer import VQ


class LlamaGenFamily(ClassConditions, AllCodes, OfficialWeights, MatrixDecay, OwnTokenizers):
    """Autoregression over the codes of an image."""

    class_table = "cls_embedding.embedding_table.weight"
    embeddings = {"t_embedder": (class_table,)}
    readout = "output"
    tokenizers = {"vq": VQ.load}
    temperature_sampler = hook(sampler.sample)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions, compiles="steps")

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options = card.network_options(NetworkOptions)
        refuse_continuous(card, "vq-16")
        options.check(card.name)
        return Transformer(options, card)

    @hookimpl
    def condition_drop(self, model: Model, condition: Tensor, dropped: Tensor) -> Tensor:
        if condition.ndim == 1:
            return super().condition_drop(model, condition, dropped)
        null_BTF = model.network.cls_embedding.null(condition)
        return torch.where(dropped[:, None, None], null_BTF, condition)

    @hookimpl
    def encode_condition(self, model: Model, conditions: Sequence[int | str]) -> Tensor | None:
        if model.card.condition == "class":
            return None  # the default encodes class indices
        options = model.network.options
        if model.device.type == "meta":  # shapes only: no encoder is loaded, nor may be at hand
            shape = len(conditions), options.caption_tokens, options.caption_features
            return torch.empty(shape, device="meta")
        return encode_captions([str(c) for c in conditions], options.text_encoder, options.caption_tokens, model.device)

    def own_key(self, key: str) -> str | None:
        """Official keys are ours; the table of rotary positions, masks, cached keys and values are no weights."""
        return None if key in ("freqs_cis", "causal_mask") or ".kv_cache." in key else key

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        """UsageError for one embedded beside a caption: the official caption layers have no bias that could hold it."""
        if model.network.t_embedder is not None and isinstance(model.network.cls_embedding, CaptionEmbedding):
            raise UsageError(
                "an embedded temperature is added to every token of a caption, and the plain network has no bias there "
                "that could hold it; sample it with --beta as it is, or train with "
                "-o network.temperature_input=affine."
            )
        return super().fold_temperature(model, beta)

    @hookimpl
    def parameter_groups(self, network: Any, weight_decay: float) -> list[dict[str, Any]]:
        """Weight decay on matrices and embeddings, or (as where the official code shards) on all but the norms."""
        if network.options.decay == "all-but-norms":
            return decay_groups(network, weight_decay, lambda name, _: "norm" not in name)
        return super().parameter_groups(network, weight_decay)
