"""Pictures from 64 to 256 px in seven steps, the last of which has weights of its own (kakaobrain/karlo, sr_64_256.py).

Suffixes: B batch, C channels, H W sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.diffusion import STEPS, Diffusion, spaced_timesteps
from gftzoo.layers.unet_names import RESIDUAL, places, renamed
from gftzoo.weights import load_weights, read_tensors
from gftzoo_text2image.glide.sampling import process
from gftzoo_text2image.unclip.conditions import load_part
from gftzoo_text2image.unclip.options import EnlargerOptions

VISITED = "7"
PREFIXES = {"first": "model_first_steps.", "last": "model_last_step."}
FOLDERS = {"first": "super_res_first", "last": "super_res_last"}


class Enlarger(nn.Module):
    """Two U-Nets that predict the noise of a picture, given a small one at its size."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    @torch.no_grad()
    def forward(self, small_BCHW: Tensor, generator: SampleGenerator) -> list[Tensor]:
        """What each step makes of pictures that have their size already, (B, C, H, W) each, the last one last."""
        tables: Diffusion = process("cosine").respaced(spaced_timesteps(VISITED, STEPS)).to(small_BCHW.device)
        shape = small_BCHW.shape[1:]
        x_BCHW, seen = generator.normal(*shape), []
        for step in reversed(range(len(tables.beta_K))):
            t_B = torch.full((len(x_BCHW),), step, device=x_BCHW.device)
            network = self.first if step else self.last
            eps = network(torch.cat([x_BCHW, small_BCHW], 1), tables.timestep_K[t_B], return_dict=False)[0]
            x_0 = tables.predicted_x0(x_BCHW, t_B, eps).clamp(-1, 1)
            x_BCHW, noise = tables.posterior_mean(x_0, x_BCHW, t_B), generator.normal(*shape)
            if step:
                x_BCHW = x_BCHW + (0.5 * tables.at(tables.log_small_K, t_B, x_BCHW)).exp() * noise
            seen.append(x_BCHW)
        return seen

    def enlarged(self, small_BCHW: Tensor, factor: int) -> Tensor:
        """Pictures (B, C, factor H, factor W) of small ones; the noise is that of seed 0 for each."""
        size = [factor * side for side in small_BCHW.shape[-2:]]
        wide = F.interpolate(small_BCHW.clamp(-1, 1), size, mode="bicubic", antialias=True)
        return self(wide, SampleGenerator([0] * len(wide), wide.device))[-1]


def build_unet(options: EnlargerOptions) -> nn.Module:
    """One of the two, randomly initialised."""
    from diffusers import UNet2DModel  # slow to import
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    channels, levels = tuple(options.width * m for m in options.multipliers), len(options.multipliers)
    unet = UNet2DModel(
        in_channels=6, out_channels=3, layers_per_block=options.layers, block_out_channels=channels,
        down_block_types=("ResnetDownsampleBlock2D",) * levels, up_block_types=("ResnetUpsampleBlock2D",) * levels,
        add_attention=False, resnet_time_scale_shift="default", flip_sin_to_cos=True, freq_shift=0,
        time_embedding_dim=4 * options.width,
    )  # fmt: skip
    if options.multipliers[0] != 1:  # the official sinusoid is as wide as what the multipliers are of
        unet.time_proj = Timesteps(options.width, True, 0)
        unet.time_embedding = TimestepEmbedding(options.width, 4 * options.width)
    return unet


def from_official(tensors: Mapping[str, Tensor], options: EnlargerOptions) -> Enlarger:
    """Both U-Nets of an official file; UsageError for a file that is none."""
    modules = places([False] * len(options.multipliers), options.layers, residual=True)
    modules["middle_block.1"] = "mid_block.resnets.1"
    built = []
    for which, prefix in PREFIXES.items():
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if not found:
            raise UsageError(
                f"the file has no tensor {prefix}*, which Karlo's super-resolution has; give its checkpoint, or the "
                f"folder of a pipeline with {' and '.join(FOLDERS.values())} in it."
            )
        unet = build_unet(options)
        load_weights(unet, renamed(found, modules, RESIDUAL), f"{which} steps of the super-resolution")
        built.append(unet.eval().requires_grad_(False))
    return Enlarger(*built)


def load_enlarger(source: str, options: EnlargerOptions, advice: str) -> Enlarger:
    """The enlarger of an official file, of a pipeline's folder, or of a pipeline on the hub."""
    from diffusers import UNet2DModel  # slow to import

    if Path(source).is_file():
        return from_official(read_tensors(source).tensors, options)
    what = f"the super-resolution of {source!r}"
    return Enlarger(*(load_part(UNet2DModel, source, part, what, advice) for part in FOLDERS.values()))
