"""MAR: a masked autoencoder that gives every missing token a vector, and a head that diffuses the token from it.

Suffixes: B batch, L tokens of an image, V visible tokens, M tokens asked for, N buffer tokens, C channels of a token,
W width. "Autoregressive Image Generation without Vector Quantization" (arXiv 2406.11838); module names are those of
LTH14/mar, models/mar.py, so that its state dict loads as it is.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.layers.initialisation import xavier
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import LinearTemperatureOptions
from gftzoo.layers.transformer import Block
from gftzoo_mar.head import BETA_SCALE, DiffusionHead, FinalNorm, ResBlock


class NetworkOptions(LinearTemperatureOptions):
    """Sizes of a MAR network, and how it is trained under GFT."""

    width: int = Field(768, gt=0, description="width of encoder and decoder")
    depth: int = Field(12, gt=0, description="blocks of the encoder, and again of the decoder")
    heads: int = Field(12, gt=0, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0)
    patch_size: int = Field(1, gt=0, description="latent pixels per token along one side")
    buffer: int = Field(64, gt=0, description="tokens that carry the condition in front of the image's")
    head_depth: int = Field(6, gt=0, description="blocks of the diffusion head")
    head_width: int = Field(1024, gt=0, description="width of the diffusion head")
    dropout: float = Field(0.1, ge=0, lt=1, description="of attention weights, projections and MLPs")
    mask_ratio_min: float = Field(0.7, gt=0, lt=1, description="lower end of the share of masked tokens")
    mask_ratio: Literal["batch", "sample"] = Field(
        "batch", description="one share of masked tokens for a batch (official), or one for each sample"
    )
    head_repeats: int = Field(4, gt=0, description="timesteps and noises per token and training step")
    beta_input: Literal["buffer", "head", "both"] = Field("head", description="where an embedded temperature enters")
    gft_variance: Literal["learned", "fixed"] = Field(
        "fixed", description="under GFT: learn the head's variance from the mixed prediction, or leave it out"
    )


class QueryBlock(Block):
    """A block, which can be asked for some of its rows only: the last block of a decoder needs no others."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, rows_BM: Tensor | None = None) -> Tensor:
        if rows_BM is None:
            return super().forward(x, attn_mask)
        x_BMW = _gather(x, rows_BM)
        x_BMW = x_BMW + self._attend(self.norm1(x), rows_BM)
        return x_BMW + self.mlp(self.norm2(x_BMW))

    def _attend(self, x_BSW: Tensor, rows_BM: Tensor) -> Tensor:
        attn = self.attn
        q_BMW, k_v_BSW = self._queries_and_rest(x_BSW, _gather(x_BSW, rows_BM))
        q_BHMD = q_BMW.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        k_BHSD, v_BHSD = k_v_BSW.unflatten(-1, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = attn.attn_drop.p if self.training else 0.0
        out_BHMD = F.scaled_dot_product_attention(q_BHMD, k_BHSD, v_BHSD, dropout_p=dropout)
        return attn.proj_drop(attn.proj(out_BHMD.transpose(1, 2).flatten(2)))

    def _queries_and_rest(self, x_BSW: Tensor, asked_BMW: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of the rows that are asked for, and keys and values of all."""
        qkv, width = self.attn.qkv, asked_BMW.shape[-1]
        if type(qkv) is not nn.Linear:  # LoRA is around it, or it is quantised: to be called as a whole
            return qkv(asked_BMW)[..., :width], qkv(x_BSW)[..., width:]
        weight_q, weight_kv = qkv.weight.split([width, 2 * width])
        bias_q, bias_kv = qkv.bias.split([width, 2 * width])
        return F.linear(asked_BMW, weight_q, bias_q), F.linear(x_BSW, weight_kv, bias_kv)


class MAR(nn.Module):
    """Encoder over the visible tokens, decoder over all, diffusion head over the missing ones.

    Args:
        options: sizes.
        tokens: L, tokens of an image.
        channels: C, channels of a token.
        classes: number of classes; class index `classes` is the null condition.
        temperature: whether the network has a beta input.
    """

    def __init__(self, options: NetworkOptions, tokens: int, channels: int, classes: int, temperature: bool) -> None:
        super().__init__()
        self.options, self.tokens, self.channels, self.classes = options, tokens, channels, classes
        width, positions = options.width, options.buffer + tokens
        self.z_proj = nn.Linear(channels, width)
        self.z_proj_ln = nn.LayerNorm(width, eps=1e-6)
        self.class_emb = nn.Embedding(classes, width)
        self.fake_latent = nn.Parameter(torch.zeros(1, width))
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, width))
        self.encoder_blocks = _blocks(options)
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, width))
        self.decoder_blocks = _blocks(options)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, tokens, width))
        embeds, affine = temperature and options.embeds, temperature and options.affine
        in_buffer = embeds and options.beta_input in ("buffer", "both")
        in_head = embeds and options.beta_input in ("head", "both")
        self.beta_embed = SinusoidEmbedding(width, BETA_SCALE) if in_buffer else None
        self.diffloss = DiffusionHead(channels, width, options.head_width, options.head_depth, in_head)
        if affine:
            block, norm = partial(ResBlock, options.head_width), partial(FinalNorm, options.head_width)
            self.diffloss.net.slope = options.build_slope(options.head_width, 2 * channels, block, norm)
        self.initialise()

    def initialise(self) -> None:
        """Xavier for linear layers, N(0, 0.02) for embeddings and learned tokens, the head as it says itself."""
        xavier(self)
        learned = [self.class_emb.weight, *(p for _, p in self.named_parameters(recurse=False))]
        if self.beta_embed is not None:
            learned += [layer.weight for layer in self.beta_embed.layers]
        for parameter in learned:
            nn.init.normal_(parameter, std=0.02)
        self.diffloss.net.initialise()

    def embed_condition(self, class_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """The vector (B, W) in the buffer tokens: the class (or the null condition), and beta where it enters here."""
        null_B1 = (class_B == self.classes)[:, None]
        condition_BW = torch.where(null_B1, self.fake_latent, self.class_emb(class_B.clamp(max=self.classes - 1)))
        if self.beta_embed is not None and beta_B is not None:
            condition_BW = condition_BW + self.beta_embed(beta_B)
        return condition_BW

    def encode(
        self, tokens_BVC: Tensor, visible_BV: Tensor, condition_BW: Tensor, real_BV: Tensor | None = None
    ) -> Tensor:
        """Buffer and visible tokens, encoded (B, N + V, W).

        Args:
            tokens_BVC: the visible tokens.
            visible_BV: their positions, 0 to L - 1.
            condition_BW: see `embed_condition`.
            real_BV: false where a row is padded because samples have different numbers of visible tokens.
        """
        buffer = self.options.buffer
        position_NW, position_LW = self.encoder_pos_embed_learned[0].split([buffer, self.tokens])
        x_BSW = torch.cat([condition_BW[:, None] + position_NW, self.z_proj(tokens_BVC) + position_LW[visible_BV]], 1)
        x_BSW = self.z_proj_ln(x_BSW)
        mask = None if real_BV is None else F.pad(real_BV, (buffer, 0), value=True)[:, None, None]
        for block in self.encoder_blocks:
            x_BSW = block(x_BSW, attn_mask=mask)
        return self.encoder_norm(x_BSW)

    def decode(
        self, encoded_BSW: Tensor, visible_BV: Tensor, wanted_BM: Tensor, real_BV: Tensor | None = None
    ) -> Tensor:
        """The vectors z (B, M, W) of the tokens at positions `wanted_BM`, from which the head diffuses them."""
        buffer = self.options.buffer
        embedded_BSW = self.decoder_embed(encoded_BSW)
        buffer_BNW, seen_BVW = embedded_BSW[:, :buffer], embedded_BSW[:, buffer:]
        empty_BLW = self.mask_token.to(embedded_BSW.dtype).expand(len(encoded_BSW), self.tokens, -1)
        if real_BV is not None:  # padding points at masked positions, which keep the mask token
            seen_BVW = torch.where(real_BV[..., None], seen_BVW, self.mask_token.to(seen_BVW.dtype))
        image_BLW = empty_BLW.scatter(1, visible_BV[..., None].expand_as(seen_BVW), seen_BVW)
        x_BSW = torch.cat([buffer_BNW, image_BLW], 1) + self.decoder_pos_embed_learned
        for block in self.decoder_blocks[:-1]:
            x_BSW = block(x_BSW)
        x_BMW = self.decoder_blocks[-1](x_BSW, rows_BM=wanted_BM + buffer)
        return self.decoder_norm(x_BMW) + self.diffusion_pos_embed_learned[0][wanted_BM]

    def forward(
        self,
        tokens_BVC: Tensor,
        visible_BV: Tensor,
        wanted_BM: Tensor,
        class_B: Tensor,
        beta_B: Tensor | None = None,
        real_BV: Tensor | None = None,
    ) -> Tensor:
        """z (B, M, W), see `encode` and `decode`."""
        condition_BW = self.embed_condition(class_B, beta_B)
        encoded_BSW = self.encode(tokens_BVC, visible_BV, condition_BW, real_BV)
        return self.decode(encoded_BSW, visible_BV, wanted_BM, real_BV)


def _blocks(options: NetworkOptions) -> nn.ModuleList:
    build = partial(
        QueryBlock,
        options.width,
        options.heads,
        mlp_ratio=options.mlp_ratio,
        qkv_bias=True,
        proj_drop=options.dropout,
        attn_drop=options.dropout,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    return nn.ModuleList(build() for _ in range(options.depth))


def _gather(x_BSW: Tensor, rows_BM: Tensor) -> Tensor:
    return x_BSW.gather(1, rows_BM[..., None].expand(-1, -1, x_BSW.shape[-1]))


def patchify(latents_BCHW: Tensor, patch: int) -> Tensor:
    """Tokens (B, L, C p p) in raster order, channel-major inside a token."""
    return F.unfold(latents_BCHW, patch, stride=patch).transpose(1, 2)


def unpatchify(tokens_BLC: Tensor, patch: int, side: int) -> Tensor:
    """The inverse of `patchify`, for square latents of `side` latent pixels."""
    return F.fold(tokens_BLC.transpose(1, 2), (side, side), patch, stride=patch)
