"""The family and its hooks.

Suffixes: B batch, L tokens of an image, V visible ones, M masked ones, C channels of a token, K draws of timestep and
noise for each token. "Autoregressive Image Generation without Vector Quantization" (arXiv 2406.11838).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import ClassConditions, MatrixDecay, OfficialWeights, OwnTokenizers, hook
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator, to_device
from gftzoo.layers.diffusion import STEPS
from gftzoo.layers.temperature import Prediction, each
from gftzoo_mar import folding, sampler
from gftzoo_mar.network import MAR, NetworkOptions, patchify
from gftzoo_mar.sampler import SamplerOptions, learned_variance
from gftzoo_mar.schedule import training_schedule
from gftzoo_mar.tokenizer import KL16

RATIO_STD = 0.25  # of the normal distribution around 1 whose part in [mask_ratio_min, 1] the ratios are drawn from


@dataclass(frozen=True)
class MARProblem(Problem):
    """Masked tokens to be denoised given the visible ones. Both passes of GFT see all of it, noise included.

    Where samples have different numbers of masked tokens, rows are padded: `real_BV` and `weight_BM` tell which count.
    """

    tokens_BVC: Tensor
    visible_BV: Tensor
    real_BV: Tensor | None
    masked_BM: Tensor
    weight_BM: Tensor
    target_BMC: Tensor
    t_BMK: Tensor
    noise_BMKC: Tensor

    def mean(self, value_BMK: Tensor) -> Tensor:
        """The mean (B,) over the masked tokens and their draws."""
        return (value_BMK.mean(-1) * self.weight_BM).sum(1) / self.weight_BM.sum(1)


def pose(tokens_BLC: Tensor, mask_BL: Tensor, t_BLK: Tensor, noise_BLKC: Tensor, hidden_B: Tensor) -> MARProblem:
    """The problem of denoising the tokens where the boolean `mask_BL` is true, `hidden_B` of each image.

    Those numbers decide shapes: on the CPU, they can be looked at without waiting for a device.
    """
    most, least = int(hidden_B.max()), int(hidden_B.min())
    visible_BV = mask_BL.int().argsort(dim=1, stable=True)[:, : mask_BL.shape[1] - least]
    masked_BM = (~mask_BL).int().argsort(dim=1, stable=True)[:, :most]
    rows_B1 = torch.arange(len(mask_BL), device=mask_BL.device)[:, None]
    return MARProblem(
        tokens_BVC=tokens_BLC[rows_B1, visible_BV],
        visible_BV=visible_BV,
        real_BV=None if most == least else ~mask_BL.gather(1, visible_BV),
        masked_BM=masked_BM,
        weight_BM=mask_BL.gather(1, masked_BM).float(),
        target_BMC=tokens_BLC[rows_B1, masked_BM],
        t_BMK=t_BLK[rows_B1, masked_BM],
        noise_BMKC=noise_BLKC[rows_B1, masked_BM],
    )


def mask_ratio(uniform: Tensor, lowest: float) -> Tensor:
    """A normal distribution with mean 1 cut to [lowest, 1], by its inverse distribution function."""
    below = torch.special.ndtr(torch.tensor((lowest - 1) / RATIO_STD))
    return (1 + RATIO_STD * torch.special.ndtri(below + uniform * (0.5 - below))).clamp(lowest, 1)


class MARFamily(ClassConditions, OfficialWeights, MatrixDecay, OwnTokenizers):
    """Masked autoregression with a diffusion head."""

    class_table = "class_emb.weight"
    null_row = "fake_latent"
    embeddings = folding.EMBEDDINGS
    readout = folding.READOUT
    undecayed = ("diffloss",)
    tokenizers = {"kl-16": KL16.load}
    temperature_sampler = hook(sampler.sample)
    fold_temperature = hook(folding.fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=SamplerOptions)

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options = card.network_options(NetworkOptions)
        side, rest = divmod(card.grid, options.patch_size)
        if rest:
            raise UsageError(
                f"patch_size={options.patch_size} does not divide the latent side {card.grid} of {card.name} at "
                f"resolution {card.resolution}; use -o network.patch_size=1."
            )
        channels = card.tokenizer.channels * options.patch_size**2
        return MAR(options, side * side, channels, card.classes, card.temperature)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        options = model.network.options
        tokens_BLC = patchify(latents, options.patch_size)
        tokens, channels = tokens_BLC.shape[1:]
        order_BL = generator.permutation(tokens)
        uniform_B = generator.host.uniform()
        if options.mask_ratio == "batch":  # the first sample draws for all, so that no row has to be padded
            uniform_B = uniform_B[:1].expand_as(uniform_B)
        hidden_B = (tokens * mask_ratio(uniform_B, options.mask_ratio_min)).ceil()
        mask_BL = order_BL.argsort(1) < to_device(hidden_B, order_BL.device)[:, None]
        t_BLK = generator.integers(STEPS, tokens, options.head_repeats)
        noise_BLKC = generator.normal(tokens, options.head_repeats, channels)
        return pose(tokens_BLC, mask_BL, t_BLK, noise_BLKC, hidden_B)

    @hookimpl
    def predict(self, model: Model, problem: MARProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        network: MAR = model.network
        p = problem
        z_BMW = network(p.tokens_BVC, p.visible_BV, p.masked_BM, condition, beta, p.real_BV)
        noisy_BMKC = training_schedule(model.device).noised(p.target_BMC.unsqueeze(2), p.t_BMK, p.noise_BMKC)
        beta_B11 = None if beta is None else beta[:, None, None]
        out_BMKX = network.diffloss.net(noisy_BMKC, p.t_BMK, z_BMW.unsqueeze(2), beta_B11)
        return out_BMKX if learned_variance(model) else each(out_BMKX, lambda out: out[..., : network.channels])

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: MARProblem) -> Tensor:
        channels = model.network.channels
        eps_BMKC, share_BMKC = prediction[..., :channels], prediction[..., channels:]
        loss_BMK = (eps_BMKC - problem.noise_BMKC).square().mean(-1)
        if share_BMKC.shape[-1]:
            schedule, x0_BMKC = training_schedule(model.device), problem.target_BMC.unsqueeze(2)
            noisy_BMKC = schedule.noised(x0_BMKC, problem.t_BMK, problem.noise_BMKC)
            loss_BMK = loss_BMK + schedule.variational_bound(x0_BMKC, noisy_BMKC, problem.t_BMK, eps_BMKC, share_BMKC)
        return problem.mean(loss_BMK)

    @hookimpl
    def prediction_distance(self, model: Model, prediction: Tensor, target: Tensor, problem: MARProblem) -> Tensor:
        distance_BMK = (prediction - target)[..., : model.network.channels].square().mean(-1)
        return problem.mean(distance_BMK)

    @hookimpl
    def blocks(self, network: MAR) -> list[nn.Module]:
        return [*network.encoder_blocks, *network.decoder_blocks, *network.diffloss.net.res_blocks]
