"""The text encoder in a checkpoint of latent diffusion's original code (CompVis/latent-diffusion, x_transformer.py)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.errors import UsageError
from gftzoo.foreign_folders import load_foreign
from gftzoo.weights import load_weights, read_tensors

PREFIX = "cond_stage_model.transformer."
OUTSIDE = {"token_emb.": "embed_tokens.", "pos_emb.emb.": "embed_positions.", "norm.": "layer_norm."}
ATTENTION = {"0": "self_attn_layer_norm"} | {
    f"1.to_{name}": f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")
}
FEED = {"0": "final_layer_norm", "1.net.0.0": "fc1", "1.net.2": "fc2"}


def bert_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's tensors under the names of diffusers' `LDMBertModel`; others are left out."""
    found = {}
    for key, value in tensors.items():
        name = key.removeprefix(PREFIX).removeprefix("transformer.")
        if not key.startswith((PREFIX, "transformer.")) or name.startswith("to_logits."):
            continue
        layer = re.fullmatch(r"attn_layers\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if layer is not None:
            index, inside = int(layer[1]), (ATTENTION, FEED)[int(layer[1]) % 2]
            found[f"model.layers.{index // 2}.{inside[layer[2]]}.{layer[3]}"] = value
        for old, new in OUTSIDE.items():
            if name.startswith(old):
                found[f"model.{name.replace(old, new, 1)}"] = value
    return found


def build_bert(tensors: Mapping[str, Tensor], head_width: int = 64) -> Any:
    """diffusers' `LDMBertModel` with the tensors of a checkpoint, its sizes read off them; UsageError without any."""
    # slow to import
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    found = bert_tensors(tensors)
    if "model.embed_tokens.weight" not in found:
        raise UsageError("the checkpoint holds no text encoder of latent diffusion; name a pipeline's folder instead.")
    vocabulary, width = found["model.embed_tokens.weight"].shape
    config = LDMBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=len(found["model.embed_positions.weight"]),
        encoder_layers=1 + max(int(key.split(".")[2]) for key in found if key.startswith("model.layers.")),
        encoder_ffn_dim=len(found["model.layers.0.fc1.weight"]),
        encoder_attention_heads=len(found["model.layers.0.self_attn.q_proj.weight"]) // head_width,
        head_dim=head_width,
        d_model=width,
    )
    model = LDMBertModel(config)
    load_weights(model.model, {key.removeprefix("model."): value for key, value in found.items()}, "the checkpoint")
    return model.eval()


class CheckpointText:
    """The text encoder of a checkpoint in the place of a pipeline's, with BERT's public tokenizer.

    Args:
        file: of the original code.
        tokenizer: a folder or repository.
    """

    def __init__(self, file: Path, tokenizer: str = "google-bert/bert-base-uncased") -> None:
        from transformers import BertTokenizerFast  # slow to import

        self.bert = build_bert(read_tensors(file).tensors).requires_grad_(False)
        advice = "name a pipeline's folder with -o text_encoder=PATH, which has its own."
        self.tokenizer = load_foreign(BertTokenizerFast, tokenizer, f"the tokenizer {tokenizer!r}", advice)
        self.components = {"bert": self.bert, "tokenizer": self.tokenizer}

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.bert.parameters()).device

    def to(self, device: torch.device) -> None:
        """Moves the encoder."""
        self.bert.to(device)
