"""What gftzoo is told of one pipeline of diffusers: a subclass, one short file each.

Suffixes: B batch, C channels, h w sides of the latent, T tokens, D width of the features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Text = Mapping[str, Tensor]  # what the prompts became, each tensor with the batch first


class Pipeline(ABC):
    """Which part of a pipeline denoises, how text becomes its inputs, and how it is called.

    What it predicts (noise, velocity, or the velocity of a flow) and the shift of its times are in the configuration of
    the pipeline's scheduler, which is data.

    Attributes:
        component: name of the denoiser in the pipeline's folder.
        network: its class in diffusers.
        head: name of its last layer.
        unpacks: whether it makes a picture of its patches itself, channels innermost; of others `predict` does.
        autoencoder: name of the autoencoder in the pipeline's folder.
        tokens: usual length of its prompts.
        temperature: the input of the network that can take a temperature: the scale that an embedded guidance is
            distilled for (`guidance`), or `timestep_cond` of a UNet; None where it has none.
        adapters: whether the stock pipeline loads LoRA files itself (`load_lora_weights`); peft does for the others.
        gives_times: whether the stock pipeline itself gives its scheduler the times 1 to 1/steps, to be shifted.
        off: arguments of the stock pipeline that switch guidance off.
    """

    component: ClassVar[str] = "transformer"
    network: ClassVar[str]
    head: ClassVar[str] = "proj_out"
    unpacks: ClassVar[bool] = True
    autoencoder: ClassVar[str] = "vae"
    tokens: ClassVar[int]
    temperature: ClassVar[Literal["guidance", "timestep_cond"] | None] = None
    adapters: ClassVar[bool] = True
    gives_times: ClassVar[bool] = False
    off: ClassVar[Mapping[str, float]] = {"guidance_scale": 1.0}

    @abstractmethod
    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        """The tensors that a prompt becomes, by name, without the batch; `config` is the network's."""

    @abstractmethod
    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        """These tensors, by the pipeline's own text encoders; shorter ones than `shapes` says are padded by zeros."""

    @abstractmethod
    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        """The prediction, in the sense of the pipeline's scheduler, (B, C, h, w) or with more channels behind.

        Args:
            network: the denoiser.
            x_BChw: the noised latents, patches not yet packed.
            t_B: as the scheduler counts, from 0 (picture) to 1000 (noise).
            text: see `shapes`.
            scale_B: what a network with a guidance input is told, None otherwise.
        """

    def shift(self, scheduler: Mapping[str, Any], config: Mapping[str, Any], side: int, steps: int) -> float:
        """The exponent mu of a shift that depends on the size of the picture, latents of `side` pixels a side."""
        return linear_shift(scheduler, (side // int(config.get("patch_size", 2))) ** 2)


class PatchedFlow(Pipeline):
    """A flow on patches of 2x2 pixels of the latent; the shift of its times grows with their number."""

    tokens = 512
    gives_times = True
    unpacks = False

    def shift(self, scheduler: Mapping[str, Any], config: Mapping[str, Any], side: int, steps: int) -> float:
        return linear_shift(scheduler, (side // 2) ** 2)


def linear_shift(scheduler: Mapping[str, Any], sequence: int, highest: float = 1.15) -> float:
    """mu of a sequence of so many patches, on the line through the scheduler's two ends, as in diffusers."""
    low, high = scheduler.get("base_image_seq_len", 256), scheduler.get("max_image_seq_len", 4096)
    first, last = scheduler.get("base_shift", 0.5), scheduler.get("max_shift", highest)
    slope = (last - first) / (high - low)
    return float(first + slope * (sequence - low))


def pack(x_BChw: Tensor) -> Tensor:
    """Latents as a sequence of 2x2 patches (B, h/2 w/2, 4C), channels outermost, as FLUX has them."""
    B, C, h, w = x_BChw.shape
    patches = x_BChw.view(B, C, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(B, (h // 2) * (w // 2), 4 * C)


def unpack(sequence: Tensor, shape: torch.Size) -> Tensor:
    """The latents (B, C, h, w) of such a sequence, of whatever C, beside latents of that shape."""
    B, _, h, w = shape
    C = sequence.shape[-1] // 4
    patches = sequence.view(B, h // 2, w // 2, C, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(B, C, h, w)


def lengths(mask_BT: Tensor) -> list[int]:
    """How many tokens of each prompt count; all of them where the mask has no values (meta tensors)."""
    B, T = mask_BT.shape
    return [T] * B if mask_BT.is_meta else [max(int(n), 1) for n in mask_BT.sum(1)]
