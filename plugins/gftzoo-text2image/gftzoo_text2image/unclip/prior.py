"""The prior: diffusers' PriorTransformer, and weights of the official code (kakaobrain/karlo, prior_model.py, xf.py).

Suffixes: B batch, T tokens, D width of CLIP's embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, fold
from gftzoo.layers.unet_names import renamed
from gftzoo_text2image.glide.network import BETA, temperature_embedding, with_idle_temperature
from gftzoo_text2image.unclip.options import PriorNetwork

MODULES = {
    "clip_img_proj": "proj_in", "text_emb_proj": "embedding_proj", "text_enc_proj": "encoder_hidden_states_proj",
    "final_ln": "norm_out", "out_proj": "proj_to_clip_embeddings",
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
}  # fmt: skip
BLOCK = {
    "ln_1": "norm1", "ln_2": "norm3", "attn.c_proj": "attn1.to_out.0", "mlp.c_fc": "ff.net.0.proj",
    "mlp.c_proj": "ff.net.2",
}  # fmt: skip
STATISTICS = ("clip_mean", "clip_std")  # of embeddings; the tokenizer has them


class Prior(nn.Module):
    """The picture's standardised embedding (B, D), predicted of a noised one, given CLIP's features of a prompt."""

    def __init__(self, options: PriorNetwork, temperature: bool) -> None:
        from diffusers import PriorTransformer  # slow to import

        super().__init__()
        self.prior = PriorTransformer(
            num_attention_heads=options.heads, attention_head_dim=options.head_width, num_layers=options.layers,
            embedding_dim=options.clip_width, num_embeddings=options.tokens, additional_embeddings=4,
        )  # fmt: skip
        for name in STATISTICS:
            delattr(self.prior, name)
        nn.init.normal_(self.prior.positional_embedding, std=0.01)
        nn.init.normal_(self.prior.prd_embedding, std=0.01)
        if temperature and options.temperature_input == "embedding":
            self.beta_embedder = temperature_embedding(options.heads * options.head_width)

    def forward(
        self,
        x_BD: Tensor,
        t_B: Tensor,
        text_BD: Tensor,
        states_BTD: Tensor,
        mask_BT: Tensor,
        beta_B: Tensor | None = None,
    ) -> Tensor:
        """The prediction (B, D) at timesteps 0..999; of the states those count where the mask is 1.

        What diffusers' class computes, with the temperature added to the embedding of the timestep.
        """
        inner = self.prior
        time = inner.time_embedding(inner.time_proj(t_B).to(x_BD.dtype))
        if beta_B is not None and hasattr(self, BETA):
            time = time + self.beta_embedder(beta_B)
        last = torch.stack([inner.embedding_proj(text_BD), time, inner.proj_in(x_BD)], 1)
        asked = inner.prd_embedding.expand(len(x_BD), -1, -1)
        hidden = torch.cat([inner.encoder_hidden_states_proj(states_BTD), last, asked], 1) + inner.positional_embedding
        unseen = F.pad((1 - mask_BT) * -10_000.0, (0, inner.additional_embeddings))
        unseen = (unseen[:, None] + inner.causal_attention_mask).to(hidden.dtype)
        unseen = unseen.repeat_interleave(inner.config.num_attention_heads, 0)
        for block in inner.transformer_blocks:
            hidden = block(hidden, attention_mask=unseen)
        predicted: Tensor = inner.proj_to_clip_embeddings(inner.norm_out(hidden)[:, -1])
        return predicted


def build_prior(card: ModelCard) -> Prior:
    """The network of a card."""
    return Prior(card.network_options(PriorNetwork), card.temperature)


def fit_prior(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the official code, of diffusers' class or ours, as ours."""
    options = card.network_options(PriorNetwork)
    found = {key.removeprefix("model."): value for key, value in tensors.items()}
    if "prd_emb" in found:
        found["prd_embedding"] = found.pop("prd_emb")
        blocks = {f"transformer.resblocks.{n}": f"transformer_blocks.{n}" for n in range(options.layers)}
        found = renamed(apart(found, options), MODULES | blocks, BLOCK)
    if not any(key.startswith("prior.") for key in found):
        found = {f"prior.{key}": value for key, value in found.items() if key not in STATISTICS}
    with torch.device("meta"):
        return with_idle_temperature(found, build_prior(card))


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict: the embedding of the temperature becomes part of the timestep's."""
    return fold(model.network, beta, {BETA: ("prior.time_embedding.linear_2.bias",)}, "prior.proj_to_clip_embeddings")


def apart(tensors: Mapping[str, Tensor], options: PriorNetwork) -> dict[str, Tensor]:
    """The official tensors with q, k and v, which are one matrix for each head, apart."""
    found = {}
    for key, value in tensors.items():
        head, qkv, kind = key.partition("attn.c_qkv.")
        if not qkv:
            found[key] = value
            continue
        parts = value.unflatten(0, (options.heads, 3, -1)).unbind(1)
        for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
            found[f"{head}attn1.{name}.{kind}"] = part.flatten(0, 1)
    return found
