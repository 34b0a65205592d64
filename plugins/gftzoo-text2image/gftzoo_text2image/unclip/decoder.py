"""The decoder: diffusers' UNet2DConditionModel on CLIP's features, and weights of the official code (kakaobrain/karlo).

Suffixes: B batch, C channels, H W sides, T tokens, D width of CLIP's embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.temperature import zero_layer
from gftzoo.layers.unet_names import renamed
from gftzoo_text2image.glide.network import BETA, arguments, temperature_embedding, unet_tensors, with_idle_temperature
from gftzoo_text2image.unclip.options import DecoderNetwork

PIXELS = 3
LEARNED = "learned_classifier_free_guidance_embeddings"
FEATURES = {
    "text_feat_proj": "text_proj.embedding_proj",
    "clip_emb": "text_proj.clip_image_embeddings_project_to_time_embeddings",
    "clip_tok_proj": "text_proj.clip_extra_context_tokens_proj",
    "text_seq_proj.0": "text_proj.encoder_hidden_states_proj",
    "text_seq_proj.1": "text_proj.text_encoder_hidden_states_norm",
}


class Features(nn.Module):
    """Karlo's projections of CLIP's features, under the names of diffusers' `UnCLIPTextProjModel`."""

    def __init__(self, width: int, vector: int, text: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.learned_classifier_free_guidance_embeddings = nn.Parameter(torch.zeros(width))
        self.embedding_proj = nn.Linear(width, vector)
        self.clip_image_embeddings_project_to_time_embeddings = nn.Linear(width, vector)
        self.clip_extra_context_tokens_proj = nn.Linear(width, tokens * text)
        self.encoder_hidden_states_proj = nn.Linear(width, text)
        self.text_encoder_hidden_states_norm = nn.LayerNorm(text)

    def forward(
        self, text_BD: Tensor, states_BTD: Tensor, dropped_B1: Tensor, image_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What is attended to, the picture's tokens before the text's, and a vector to add to the timestep's."""
        image_BD = torch.where(dropped_B1 > 0.5, self.learned_classifier_free_guidance_embeddings, image_BD)
        vector = self.embedding_proj(text_BD) + self.clip_image_embeddings_project_to_time_embeddings(image_BD)
        extra = self.clip_extra_context_tokens_proj(image_BD).unflatten(1, (-1, self.tokens)).transpose(1, 2)
        states = self.text_encoder_hidden_states_norm(self.encoder_hidden_states_proj(states_BTD))
        return torch.cat([extra, states], 1), vector


class Decoder(nn.Module):
    """Noise and variance of a noised picture, given CLIP's embedding of the picture and its features of a prompt."""

    def __init__(self, options: DecoderNetwork, temperature: bool) -> None:
        from diffusers import UNet2DConditionModel  # slow to import

        super().__init__()
        vector = 4 * options.width
        self.unet = UNet2DConditionModel(**arguments(options, PIXELS, PIXELS))
        self.text_proj = Features(options.clip_width, vector, options.text_width, options.clip_tokens)
        zero_layer(self.unet.conv_out)
        if temperature and options.temperature_input == "embedding":
            self.beta_embedder = temperature_embedding(vector)

    def forward(
        self,
        x_BCHW: Tensor,
        t_B: Tensor,
        image_BD: Tensor,
        text: Mapping[str, Tensor],
        beta_B: Tensor | None = None,
    ) -> Tensor:
        """The prediction (B, 2C, H, W) at timesteps 0..999, noise before variance; `text` is of `conditions`."""
        states, vector = self.text_proj(text["text"], text["states"], text["dropped"], image_BD)
        if beta_B is not None and hasattr(self, BETA):
            vector = vector + self.beta_embedder(beta_B)
        mask = F.pad(text["mask"], (self.text_proj.tokens, 0), value=1.0)
        predicted: Tensor = self.unet(x_BCHW, t_B, states, class_labels=vector, attention_mask=mask, return_dict=False)[
            0
        ]
        return predicted


def build_decoder(card: ModelCard) -> Decoder:
    """The network of a card."""
    return Decoder(card.network_options(DecoderNetwork), card.temperature)


def fit_decoder(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the official code, of diffusers' classes (decoder and text_proj together) or ours, as ours."""
    options = card.network_options(DecoderNetwork)
    found = {key.removeprefix("model."): value for key, value in tensors.items()}
    if "cf_param" in found:
        found[f"text_proj.{LEARNED}"] = found.pop("cf_param")
        found = unet_tensors(renamed(found, FEATURES, {}), options)
    ours = ("unet.", "text_proj.", f"{BETA}.")
    with torch.device("meta"):
        network = build_decoder(card)
    projections = set(network.text_proj.state_dict())
    for key in [key for key in found if not key.startswith(ours)]:
        found[f"{'text_proj' if key in projections else 'unet'}.{key}"] = found.pop(key)
    return with_idle_temperature(found, network)
