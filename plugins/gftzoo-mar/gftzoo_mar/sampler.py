"""MAR's sampler: reveal the tokens in a random order, a cosine's worth at a time, each drawn by the diffusion head.

Suffixes: B images, G rows of the network's batch (B for each pass of the guidance), L tokens of an image, V visible
ones, M drawn in this iteration, C channels of a token, H width of the head, K steps of the head.
Official loop: LTH14/mar, models/mar.py, sample_tokens.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered
from gftzoo.generator import SampleGenerator
from gftzoo.layers.compiling import compiled
from gftzoo.layers.temperature import each, plain
from gftzoo_mar.network import MAR, unpatchify
from gftzoo_mar.schedule import Schedule, Spacing, sampling_schedule


class SamplerOptions(Frozen):
    """Settings of the sampler; the defaults are the official ones."""

    steps: int = Field(64, gt=0, description="rounds in which tokens are revealed; at most one for each token")
    head_steps: int = Field(100, gt=1, description="diffusion steps of a token")
    head_spacing: Spacing = Field("even", description="which of the 1000 training steps: spread evenly, or by a stride")
    head_temperature: float = Field(1.0, ge=0, description="factor on the noise of the head's reverse steps")
    variance_share: float = Field(
        -1.0, ge=-1, le=1, description="of a head without learned variance: from its lower (-1) to its upper bound (1)"
    )


class HeadSampler:
    """Draws tokens from the backbone's vectors; what all of them share is computed once.

    Args:
        network: the network.
        guidance: how the predicted noise is steered.
        settings: steps, temperature and variance.
        learned_variance: whether the head's variance output was trained.
        compiler: torch.compile's backend, or None.
    """

    def __init__(
        self,
        network: MAR,
        guidance: Guidance,
        settings: SamplerOptions,
        learned_variance: bool,
        compiler: str | None = None,
    ) -> None:
        device = network.mask_token.device
        self.net, self.guidance, self.settings = network.diffloss.net, guidance, settings
        self.denoise = self.net.denoise
        if compiler is not None:
            self.denoise = compiled(self.net.denoise, device.type == "cuda", compiler)
        self.learned_variance = learned_variance
        self.schedule: Schedule = sampling_schedule(settings.head_steps, settings.head_spacing, device)
        self.time_KH = self.net.embed_time(self.schedule.timestep_K)  # the same for every token and iteration

    def draw(self, z_GMW: Tensor, beta_G: Tensor | None, noise_BNMC: Tensor, progress: float) -> Tensor:
        """Tokens (B, M, C); `noise_BNMC` holds the initial noise and then one row for each of the K steps."""
        channels, batch = noise_BNMC.shape[-1], len(noise_BNMC)
        condition_GMH = self.net.embed_condition(z_GMW, None if beta_G is None else beta_G[:, None])
        x_BMC, scaled_BNMC = noise_BNMC[:, 0], self.settings.head_temperature * noise_BNMC
        for row, k in enumerate(reversed(range(self.settings.head_steps)), start=1):
            out_GMX = self.denoise(self.guidance.repeat(x_BMC), self.time_KH[k] + condition_GMH)
            out_GMX = each(out_GMX, Tensor.float)
            eps_BMC = self.guidance.combine(each(out_GMX, lambda out: out[..., :channels]), progress)
            # The variance is the conditional pass's: guidance is for the noise only.
            share = plain(out_GMX)[:batch, ..., channels:] if self.learned_variance else self.settings.variance_share
            x_BMC = self.schedule.step(x_BMC, k, eps_BMC, share, scaled_BNMC[:, row])
        return x_BMC


def masked_counts(tokens: int, iterations: int) -> list[int]:
    """How many tokens are still masked after each iteration: a cosine, at least one fewer each time, 0 at the end."""
    counts, masked = [], tokens
    rounds = min(iterations, tokens)
    for i in range(1, rounds):
        masked = max(1, min(masked - 1, math.floor(tokens * math.cos(math.pi / 2 * i / rounds))))
        counts.append(masked)
    return [*counts, 0]


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: SamplerOptions, generator: SampleGenerator
) -> Tensor:
    """Latents (B, C, h, w). Orders and noise come from each sample's own stream.

    The progress that guidance sees is the share of tokens revealed after the iteration, before the last token (the
    official linear ramp, which ends at (L - 1) / L).
    """
    network: MAR = model.network
    head = HeadSampler(network, guidance, settings, learned_variance(model), model.compiler)
    steered = Steered(model, condition, guidance)
    tokens, batch = network.tokens, len(condition)
    order_BL = generator.permutation(tokens)
    tokens_BLC = torch.zeros(batch, tokens, network.channels, device=model.device)
    before = tokens
    for after in masked_counts(tokens, settings.steps):
        progress = 1 - max(after, 1) / tokens
        visible_BV, wanted_BM = order_BL[:, before:].sort().values, order_BL[:, after:before].sort().values
        seen_BVC = tokens_BLC.gather(1, visible_BV[..., None].expand(-1, -1, network.channels))
        z_GMW = plain(steered.passes(network, progress, seen_BVC, visible_BV, wanted_BM))
        noise_BNMC = generator.normal(settings.head_steps + 1, before - after, network.channels)
        drawn_BMC = head.draw(z_GMW, steered.beta(progress), noise_BNMC, progress)
        tokens_BLC = tokens_BLC.scatter(1, wanted_BM[..., None].expand_as(drawn_BMC), drawn_BMC)
        before = after
    return unpatchify(tokens_BLC, network.options.patch_size, model.card.grid)


def learned_variance(model: Model) -> bool:
    """Whether the head's variance output is trained: always but under GFT without the variational term."""
    return not model.card.temperature or model.network.options.gft_variance == "learned"
