"""VAR's transformer: all scales at once for training, a scale at a time for sampling.

Suffixes: B batch, E width of a code vector, C width, V codebook, K scales, N codes of a scale, L codes of all scales,
T = L - 1. "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction" (arXiv 2404.02905);
state-dict keys, buffers included, are those of FoundationVision/VAR, models/var.py.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from itertools import accumulate

import torch
from pydantic import Field
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo.layers.temperature import (
    Prediction,
    ResidualMLP,
    ScaledTemperatureOptions,
    Slope,
    each,
    start_slope,
    with_slope,
)
from gftzoo_var.layers import Block, Cache, HeadNorm, attention_backend, modulation

LOGGER = logging.getLogger("gftzoo.family")  # goes into the run's log.txt


class NetworkOptions(ScaledTemperatureOptions):
    """Options of the network; codebook, scales and classes follow from tokenizer and data."""

    depth: int = Field(gt=0, description="transformer blocks")
    width: int = Field(gt=0, description="width of the residual stream")
    heads: int = Field(gt=0, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward in units of the width")
    drop_path: float | None = Field(
        None, ge=0, lt=1, description="of the last block, rising linearly from 0 at the first; null: 0.1 depth / 24"
    )
    shared_adaln: bool = Field(False, description="one modulation of the condition for all blocks")
    l2_attention: bool = Field(True, description="queries and keys of unit length")
    gamma_init: float = Field(1e-5, ge=0, description="initial size of the gates, as a share of other weights")

    @property
    def last_drop_path(self) -> float:
        """The drop rate of the last block."""
        return 0.1 * self.depth / 24 if self.drop_path is None else self.drop_path


class VAR(nn.Module):
    """Logits of every scale's codes, given the class, the temperature and the scales before.

    Args:
        options: sizes.
        card: gives scales, codebook and classes, and whether there is a temperature input.
    """

    lvl_1L: Tensor
    attn_bias_for_masking: Tensor

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__()
        spec, width = card.tokenizer, options.width
        assert spec.codebook is not None and spec.scales is not None
        self.options = options
        self.backends: dict[str, str] = {}  # kind of pass: torch's kernel
        sizes = [side * side for side in spec.scales]
        self.ends = list(accumulate(sizes))
        length = self.ends[-1]
        self.word_embed = nn.Linear(spec.channels, width)
        self.class_emb = nn.Embedding(card.classes + 1, width)
        self.pos_start = nn.Parameter(torch.empty(1, sizes[0], width))
        self.pos_1LC = nn.Parameter(torch.empty(1, length, width))
        self.lvl_embed = nn.Embedding(len(sizes), width)
        shared = options.shared_adaln
        self.shared_ada_lin = modulation(width, 6) if shared else None
        self.blocks = nn.ModuleList(
            Block(width, options.heads, round(width * options.mlp_ratio), rate, options.l2_attention, shared)
            for rate in drop_rates(options)
        )
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, spec.codebook)
        self.beta_embed = SinusoidEmbedding(width, options.beta_scale) if card.temperature and options.embeds else None
        self.slope: Slope | None = None
        if card.temperature and options.affine:
            block, norm = partial(ResidualMLP, width), partial(HeadNorm, width)
            self.slope = options.build_slope(width, spec.codebook, block, norm)
        level_L = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes), output_size=length)
        self.register_buffer("lvl_1L", level_L[None])
        self.register_buffer("attn_bias_for_masking", block_causal_bias(level_L))
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """The paper's initialisation (FoundationVision/VAR, VAR.init_weights); the temperature's last layer is zero."""
        options = self.options
        std = math.sqrt(1 / (3 * options.width))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for position in (self.pos_start, self.pos_1LC):
            nn.init.trunc_normal_(position, std=std)
        if self.beta_embed is not None:  # the temperature starts without effect, as in GFT's LlamaGen
            nn.init.zeros_(self.beta_embed.layers[-1].weight)
        self.head.weight.mul_(0.02)
        self.head_nm.get_parameter("ada_lin.1.weight").mul_(0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn.proj.weight.div_(math.sqrt(2 * options.depth))
            block.ffn.fc2.weight.div_(math.sqrt(2 * options.depth))
            gates, rest = block.ada_gss[0, 0].split([2, 4]) if options.shared_adaln else gate_rows(block)
            gates.mul_(options.gamma_init)
            rest.mul_(0.5)
        start_slope(self)

    def condition(self, label_B: Tensor, beta_B: Tensor | None) -> Tensor:
        """What feeds the first token and every modulation (B, C): the class, and the temperature where there is one."""
        condition_BC = self.class_emb(label_B)
        if self.beta_embed is not None and beta_B is not None:
            condition_BC = condition_BC + self.beta_embed(beta_B)
        return condition_BC

    def forward(self, inputs_BTE: Tensor, label_B: Tensor, beta_B: Tensor | None = None) -> Prediction:
        """Logits (B, L, V), float32, of all scales; a token sees its own scale and those before.

        Args:
            inputs_BTE: the map of the scales before, at each scale's side: the tokenizer's `teacher_inputs`.
            label_B: class indices; `card.classes` is the null class.
            beta_B: the temperature in [0, 1]; None adds nothing.
        """
        condition_BC = self.condition(label_B, beta_B)
        x_BLC = torch.cat([self.first_token(condition_BC), self.word_embed(inputs_BTE)], dim=1)
        return self._run(x_BLC, condition_BC, slice(None), self.attn_bias_for_masking, None)

    def new_caches(self, rows: int) -> list[Cache]:
        """Empty keys and values of a batch, for `step`."""
        heads = self.options.heads
        shape = rows, heads, self.ends[-1], self.options.width // heads
        return [Cache(shape, self.head.weight) for _ in self.blocks]

    def step(self, scale: int, inputs_BNE: Tensor | None, condition_BC: Tensor, caches: list[Cache]) -> Prediction:
        """Logits (B, N, V), float32, of one scale, after those before have gone through the same caches.

        Args:
            scale: 0 to K - 1, in order.
            inputs_BNE: the map so far at this scale's side; None for the first scale.
            condition_BC: of `condition`; it may change between scales, earlier keys and values keep theirs.
            caches: of `new_caches`.
        """
        x_BNC = self.first_token(condition_BC) if inputs_BNE is None else self.word_embed(inputs_BNE)
        rows = slice(self.ends[scale] - x_BNC.shape[1], self.ends[scale])
        return self._run(x_BNC, condition_BC, rows, None, caches)

    def first_token(self, condition_BC: Tensor) -> Tensor:
        """The token (B, 1, C) that the first scale is predicted from."""
        return condition_BC[:, None] + self.pos_start

    def _run(
        self, x_BLC: Tensor, condition_BC: Tensor, rows: slice, mask_11LL: Tensor | None, caches: list[Cache] | None
    ) -> Prediction:
        x_BLC = x_BLC + self.lvl_embed(self.lvl_1L[:, rows]) + self.pos_1LC[:, rows]
        steering = condition_BC
        if self.shared_ada_lin is not None:
            steering = self.shared_ada_lin(condition_BC)[:, None].unflatten(-1, (6, -1))
        for index, block in enumerate(self.blocks):
            x_BLC = block(x_BLC, steering, mask_11LL, None if caches is None else caches[index], rows)
        x_BLC, condition_BC = x_BLC.float(), condition_BC.float()
        features_BLC = self.head_nm(x_BLC, condition_BC)
        return each(with_slope(self.slope, self.head(features_BLC), x_BLC, features_BLC, condition_BC), Tensor.float)

    def report_attention(self, masked: bool) -> None:
        """Logs, once for each kind of pass, which kernel computes attention here and now; before the pass."""
        kind = "all scales, masked" if masked else "a scale at a time"
        kind += "" if torch.is_grad_enabled() else ", no gradient"
        device = self.head.weight.device
        if kind in self.backends or device.type == "meta":
            return
        halved = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if halved else self.head.weight.dtype
        width = self.options.width // self.options.heads
        self.backends[kind] = attention_backend(width, device, dtype, masked)
        LOGGER.info(f"attention ({kind}; {device.type}, {dtype}): {self.backends[kind]}")


def drop_rates(options: NetworkOptions) -> list[float]:
    """The drop-path rate of each block."""
    return [options.last_drop_path * index / max(options.depth - 1, 1) for index in range(options.depth)]


def gate_rows(block: Block) -> tuple[Tensor, Tensor]:
    """The rows of a block's modulation that make the gates, and the others."""
    weight = block.get_parameter("ada_lin.1.weight")
    gates = len(weight) // 3
    return weight[:gates], weight[gates:]


def block_causal_bias(level_L: Tensor) -> Tensor:
    """0 where a token may look, -inf at later scales (1, 1, L, L)."""
    later_LL = level_L[:, None] < level_L[None, :]
    return torch.zeros(later_LL.shape, device=level_L.device).masked_fill(later_LL, -torch.inf)[None, None]
