"""U-ViT (Bao et al., arXiv 2209.12152): time, class and patches are tokens of one sequence, with long skips.

Module names are those of the official state dict. Suffixes: B batch, C channels, H W latent sides, T tokens, D width.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.layers.folding import Tensors, constant, fold
from gftzoo.layers.sinusoid import SinusoidEmbedding, sinusoid
from gftzoo.layers.temperature import Affine, Prediction, Slope, start_slope, with_slope
from gftzoo.layers.transformer import Mlp, PatchEmbed
from gftzoo_diffusion.networks.kind import Kind
from gftzoo_diffusion.networks.patches import unpatchify
from gftzoo_diffusion.options import BETA_LAYERS, TransformerOptions

FILES = {"ema": "nnet_ema.pth", "raw": "nnet.pth"}  # in a checkpoint folder of the official trainer


class UViTNetwork(TransformerOptions):
    """Hyperparameters of a U-ViT."""

    conv: bool = Field(True, description="a 3x3 convolution behind the patches, as the L models have it")
    mlp_time_embed: bool = Field(False, description="an MLP on the timestep's sinusoid")
    qkv_bias: bool = Field(False, description="biases of queries, keys and values")

    @field_validator("depth")
    @classmethod
    def _has_two_halves(cls, depth: int) -> int:
        if depth % 2:
            raise ValueError("it must be even: half of the blocks lie before the middle one, half behind it")
        return depth


class Attention(nn.Module):
    """Attention in float32, whatever the precision of the rest."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BTD).float().unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and MLP behind norms, and a layer that takes in a skip where there is one."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, qkv_bias: bool, skip: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        if skip:
            self.skip_linear = nn.Linear(2 * width, width)

    def forward(self, x_BTD: Tensor, skip_BTD: Tensor | None = None) -> Tensor:
        if skip_BTD is not None:
            x_BTD = self.skip_linear(torch.cat([x_BTD, skip_BTD], dim=2))
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD))
        return x_BTD + self.mlp(self.norm2(x_BTD))


class UViT(nn.Module):
    """Noise prediction of a noised latent.

    Args:
        network: hyperparameters.
        side: of the square latent, a multiple of the patch.
        channels: of the latent.
        classes: without the null class, which is the index `classes`; 0 for a network without conditions.
        temperature: whether there is a beta input.
    """

    def __init__(self, network: UViTNetwork, side: int, channels: int, classes: int, temperature: bool) -> None:
        super().__init__()
        width, self.patch = network.width, network.patch
        block = partial(Block, width, network.heads, network.mlp_ratio, network.qkv_bias)
        self.patch_embed = PatchEmbed(side, network.patch, channels, width)
        layers = [nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)]
        self.time_embed = nn.Sequential(*layers) if network.mlp_time_embed else nn.Identity()
        self.extra = 1 + self.build_condition(network, classes)  # tokens before the patches
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extra + (side // network.patch) ** 2, width))
        self.in_blocks = nn.ModuleList(block() for _ in range(network.depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(block(skip=True) for _ in range(network.depth // 2))
        self.norm = nn.LayerNorm(width)
        outputs = network.patch**2 * channels
        self.decoder_pred = nn.Linear(width, outputs)
        self.final_layer = nn.Conv2d(channels, channels, 3, padding=1) if network.conv else nn.Identity()
        if temperature and network.embeds:
            layers_of_beta = BETA_LAYERS[network.beta_embedding]
            self.beta_embedder = SinusoidEmbedding(width, network.beta_scale, layers=layers_of_beta)
        self.slope: Slope | None = None
        if temperature and network.affine:
            self.slope = network.build_slope(width, outputs, block, partial(nn.LayerNorm, width))
        self.initialise()

    def build_condition(self, network: Any, classes: int) -> int:
        """Makes what embeds the condition; returns how many tokens it becomes."""
        self.label_emb = nn.Embedding(classes + 1, network.width) if classes else None
        return 1 if classes else 0

    @property
    def time_place(self) -> int:
        """Where the time's token stands: last of those before the patches."""
        return self.extra - 1

    @property
    def repeated(self) -> list[nn.Module]:
        """The blocks, in the order in which they run."""
        return [*self.in_blocks, self.mid_block, *self.out_blocks]

    def forward(self, x_BCHW: Tensor, t_B: Tensor, y_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """The noise (B, C, H, W) at the times that the process shows; `beta_B` None leaves the temperature out."""
        x_BTD = torch.cat([*self.told(self.time_token(t_B, beta_B), y_B), self.patch_embed(x_BCHW)], dim=1)
        x_BTD = x_BTD + self.pos_embed
        skips: list[Tensor] = []
        for block in self.in_blocks:
            x_BTD = block(x_BTD)
            skips.append(x_BTD)
        x_BTD = self.mid_block(x_BTD)
        for block in self.out_blocks:
            x_BTD = block(x_BTD, skips.pop())
        features_BTD = self.norm(x_BTD)
        return self.read_out(with_slope(self.slope, self.decoder_pred(features_BTD), x_BTD, features_BTD))

    def told(self, time_BD: Tensor, y_B: Tensor) -> list[Tensor]:
        """The tokens (B, T, D) before the patches, time and condition."""
        label = [] if self.label_emb is None else [self.label_emb(y_B)]
        return [token_BD[:, None] for token_BD in (*label, time_BD)]

    def time_token(self, t_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """Time and temperature (B, D)."""
        time_BD = self.time_embed(sinusoid(t_B.float(), self.pos_embed.shape[2]))
        if beta_B is not None and hasattr(self, "beta_embedder"):
            return time_BD + self.beta_embedder(beta_B)
        return time_BD

    def read_out(self, tokens: Prediction) -> Prediction:
        """Latents of the tokens' numbers, the extra tokens left out; a slope goes through the convolution's matrix."""
        if not isinstance(tokens, Affine):
            return self.final_layer(unpatchify(tokens[:, self.extra :], self.patch))
        c, d = (unpatchify(part[:, self.extra :], self.patch) for part in tokens)
        if isinstance(self.final_layer, nn.Conv2d):
            return Affine(self.final_layer(c), F.conv2d(d, self.final_layer.weight, padding=1))
        return Affine(c, d)

    def initialise(self) -> None:
        """As the official code does; embeddings and convolutions keep torch's start."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        start_slope(self)


class UViTKind(Kind):
    """U-ViT on the shelf."""

    Options = UViTNetwork
    class_table = "label_emb.weight"
    embeddings = {"beta_embedder": ()}
    readout = "decoder_pred"

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        return UViT(options, side, card.tokenizer.channels, card.classes, card.temperature)

    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path | None:
        """The average in a checkpoint folder of the official trainer, or the raw weights."""
        found = folder / FILES[entry or "ema"]
        return found if found.is_file() else None

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Tensors:
        """The temperature is held by the position of the time's token."""
        tensors = fold(model.network, beta, self.embeddings, self.readout)
        if hasattr(model.network, "beta_embedder"):
            positions = tensors["pos_embed"].double().clone()
            positions[0, model.network.time_place] += constant(model.network.beta_embedder, torch.tensor([beta]))
            tensors["pos_embed"] = positions.to(tensors["pos_embed"].dtype)
        return tensors
