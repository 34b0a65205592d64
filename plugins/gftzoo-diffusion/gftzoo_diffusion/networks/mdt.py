"""MDTv2, the masked diffusion transformer (Gao et al., arXiv 2303.14389): DiT with skips, biases and a masked pass.

In training every latent is seen twice, whole and with a third to a half of its tokens taken away, which a side
interpolater fills in before the decoder. Module names are those of the official state dict. Suffixes: B batch,
T tokens, K kept tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.generator import SampleGenerator
from gftzoo.layers.temperature import Affine, Prediction, each
from gftzoo.layers.transformer import Mlp
from gftzoo_diffusion import training
from gftzoo_diffusion.networks.adaln import DiTBlock, modulate
from gftzoo_diffusion.networks.dit import DiT, DiTKind, DiTNetwork
from gftzoo_diffusion.networks.patches import sincos_positions, unpatchify
from gftzoo_diffusion.training import DiffusionProblem

SPREAD = 0.2  # the share of masked tokens lies between `mask_ratio` and this much above
INDEX = "relative_position_index"


class MDTNetwork(DiTNetwork):
    """Hyperparameters of an MDTv2."""

    decode_layer: int = Field(4, gt=0, description="blocks behind the side interpolater, of `depth`")
    mask_ratio: float | None = Field(
        0.3, ge=0, le=0.7, description="least share of the tokens that the second pass takes away; null: no such pass"
    )

    @model_validator(mode="after")
    def _has_two_halves(self) -> Self:
        rest = self.depth - self.decode_layer
        if rest <= 0 or rest % 2:
            raise ValueError(f"depth - decode_layer must be even and above 0, and is {rest}")
        return self


@dataclass(frozen=True)
class MaskedProblem(DiffusionProblem):
    """The problem of both passes: the masked one has noise of its own, and keeps the tokens `kept` (B, K), int64."""

    masked_x_t: Tensor
    masked_target: Tensor
    kept: Tensor

    @property
    def whole(self) -> DiffusionProblem:
        """That of the plain pass."""
        return DiffusionProblem(self.x_t, self.t, self.target, self.x_0)

    @property
    def masked(self) -> DiffusionProblem:
        """That of the masked pass."""
        return DiffusionProblem(self.masked_x_t, self.t, self.masked_target, self.x_0)


class RelativeBias(nn.Module):
    """What is added to the attention of a query to a key by their distance; the last three rows are never used."""

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer(INDEX, distances(side), persistent=False)

    def forward(self, kept_BK: Tensor | None) -> Tensor:
        """(H, T, T), or (B, H, K, K) of the kept tokens."""
        index: Tensor = getattr(self, INDEX)
        if kept_BK is None:
            return self.relative_position_bias_table[index].permute(2, 0, 1)
        return self.relative_position_bias_table[index[kept_BK[:, :, None], kept_BK[:, None]]].permute(0, 3, 1, 2)


def distances(side: int) -> Tensor:
    """The row of a bias table for every query and key (T, T), int64."""
    place = torch.arange(side * side)
    row, column = place // side, place % side
    dy, dx = (axis[:, None] - axis[None] + side - 1 for axis in (row, column))
    return dy * (2 * side - 1) + dx


class BiasedAttention(nn.Module):
    """Attention with a relative position bias."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_bias = RelativeBias(side, heads)

    def forward(self, x_BTD: Tensor, kept_BK: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x_BTD).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.rel_pos_bias(kept_BK).to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(q), -1, -1, -1))
        return self.proj(mixed.transpose(1, 2).flatten(2))


class MDTBlock(DiTBlock):
    """DiT's block with biased attention, and a layer that takes in a skip where there is one."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, side: int, skip: bool = False) -> None:
        nn.Module.__init__(self)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = BiasedAttention(width, heads, side)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=lambda: nn.GELU(approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        if skip:
            self.skip_linear = nn.Linear(2 * width, width)

    def forward(
        self, x_BTD: Tensor, c_BD: Tensor, skip_BTD: Tensor | None = None, kept_BK: Tensor | None = None
    ) -> Tensor:
        if skip_BTD is not None:
            x_BTD = self.skip_linear(torch.cat([x_BTD, skip_BTD], dim=2))
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c_BD).chunk(6, dim=1)
        x_BTD = x_BTD + gate_a[:, None] * self.attn(modulate(self.norm1(x_BTD), shift_a, scale_a), kept_BK)
        return x_BTD + gate_m[:, None] * self.mlp(modulate(self.norm2(x_BTD), shift_m, scale_m))


class MDT(DiT):
    """DiT's embeddings and last layer around a trunk with an encoder, a side interpolater and a decoder."""

    def block(self, network: Any, tokens_a_side: int) -> Callable[..., nn.Module]:
        return partial(MDTBlock, network.width, network.heads, network.mlp_ratio, tokens_a_side)

    def build_trunk(self, network: Any, tokens_a_side: int) -> None:
        block, half = self.block(network, tokens_a_side), (network.depth - network.decode_layer) // 2
        self.pos_embed.requires_grad_(True)
        self.decoder_pos_embed = nn.Parameter(sincos_positions(network.width, tokens_a_side))
        self.mask_token = nn.Parameter(torch.randn(1, 1, network.width) * 0.02)
        self.en_inblocks = nn.ModuleList(block() for _ in range(half))
        self.en_outblocks = nn.ModuleList(block(skip=True) for _ in range(half))
        self.de_blocks = nn.ModuleList(block(skip=True) for _ in range(network.decode_layer))
        self.sideblocks = nn.ModuleList([block()])

    @property
    def repeated(self) -> list[nn.Module]:
        return [*self.en_inblocks, *self.en_outblocks, *self.sideblocks, *self.de_blocks]

    def forward(
        self,
        x_BCHW: Tensor,
        t_B: Tensor,
        y_B: Tensor,
        beta_B: Tensor | None = None,
        kept_BK: Tensor | None = None,
    ) -> Prediction:
        """The prediction (B, 2C, H, W), as DiT's; where tokens are `kept`, the encoder sees those alone."""
        first_BTD = x_BTD = self.x_embedder(x_BCHW) + self.pos_embed
        c_BD = self.condition(t_B, y_B, beta_B)
        if kept_BK is not None:
            x_BTD = x_BTD.gather(1, kept_BK[..., None].expand(-1, -1, x_BTD.shape[2]))
        skips: list[Tensor] = []
        for block in self.en_inblocks:
            x_BTD = block(x_BTD, c_BD, None, kept_BK)
            skips.append(x_BTD)
        for block in self.en_outblocks:
            x_BTD = block(x_BTD, c_BD, skips.pop(), kept_BK)
        x_BTD = x_BTD + self.decoder_pos_embed if kept_BK is None else self.filled_in(x_BTD, c_BD, kept_BK)
        for block in self.de_blocks:
            x_BTD = block(x_BTD, c_BD, first_BTD)
        return each(self.read_out(x_BTD, c_BD), partial(unpatchify, patch=self.patch))

    def filled_in(self, x_BKD: Tensor, c_BD: Tensor, kept_BK: Tensor) -> Tensor:
        """All tokens (B, T, D): the kept ones as they are, the others as the side interpolater makes them."""
        tokens = self.decoder_pos_embed.shape[1]
        place = kept_BK[..., None].expand(-1, -1, x_BKD.shape[2])
        masks_BTD = self.mask_token.to(x_BKD.dtype).expand(len(x_BKD), tokens, -1)
        given_BTD = masks_BTD.scatter(1, place, x_BKD) + self.decoder_pos_embed
        made_BTD = self.sideblocks[0](given_BTD, c_BD)
        is_kept_BT1 = torch.zeros_like(made_BTD[..., :1]).scatter(1, kept_BK[..., None], 1.0)
        return made_BTD * (1 - is_kept_BT1) + given_BTD * is_kept_BT1


class MDTKind(DiTKind):
    """MDTv2 on the shelf."""

    Options = MDTNetwork

    def assemble(self, options: Any, side: int, card: ModelCard) -> nn.Module:
        return MDT(options, side, card.tokenizer.channels, card.classes, card.temperature)

    def own_key(self, key: str) -> str | None:
        """The index of the distances follows from the size."""
        return None if key.endswith(INDEX) else key

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Positions are learned, so that those of another resolution do not fit."""
        return super(DiTKind, self).import_weights(card, tensors)

    def pose(self, options: Any, latents: Tensor, generator: SampleGenerator) -> DiffusionProblem:
        """Both passes; the share of masked tokens is one for the batch, and comes from its first sample's stream."""
        whole = super().pose(options, latents, generator)
        if options.mask_ratio is None:
            return whole
        noise = generator.normal(*latents.shape[1:])
        kept = kept_tokens(generator.host.uniform(), generator.uniform(tokens_of(options, latents)), options.mask_ratio)
        way = options.way
        masked_x_t, target = way.noised(latents, whole.t, noise), way.target(latents, noise, whole.t)
        return MaskedProblem(whole.x_t, whole.t, whole.target, latents, masked_x_t, target, kept)

    def predict(self, model: Model, problem: Any, condition: Tensor, beta: Tensor | None) -> Prediction:
        """Those of both passes, one behind the other in the channels."""
        whole = super().predict(model, problem, condition, beta)
        if not isinstance(problem, MaskedProblem):
            return whole
        shown_B = model.card.network_options(self.Options).way.shown(problem.t)
        masked = model.network(problem.masked_x_t, shown_B, condition, beta, problem.kept)
        if isinstance(whole, Affine):
            return Affine(*(torch.cat(parts, dim=1) for parts in zip(whole, masked, strict=True)))
        return torch.cat([whole, masked], dim=1)

    def score(self, card: ModelCard, prediction: Tensor, problem: Any) -> Tensor:
        if not isinstance(problem, MaskedProblem):
            return super().score(card, prediction, problem)
        whole, masked = prediction.chunk(2, dim=1)
        return training.score(card, whole, problem.whole) + training.score(card, masked, problem.masked)


def tokens_of(options: MDTNetwork, latents: Tensor) -> int:
    """T of these latents."""
    return (latents.shape[2] // options.patch) * (latents.shape[3] // options.patch)


def kept_tokens(share_B: Tensor, order_BT: Tensor, mask_ratio: float) -> Tensor:
    """The tokens (B, K) with the smallest of the numbers `order_BT`, so many as the batch's first share leaves."""
    ratio = mask_ratio + SPREAD * float(share_B[0])
    return order_BT.argsort(1)[:, : max(int(order_BT.shape[1] * (1 - ratio)), 1)]
