"""The family and its hooks.

Suffixes: B batch, N codes of an image, M parts of an image's codes, V values of a part. "MaskGIT" (arXiv 2202.04200),
"MAGE" (arXiv 2211.09117), "MaskBit" (arXiv 2409.16211).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import ClassConditions, CodePrediction, CodeProblem, MatrixDecay, hook
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo.layers.temperature import Prediction
from gftzoo_maskgit import masking, sampler
from gftzoo_maskgit.checkpoints import fit_weights
from gftzoo_maskgit.folding import fold_temperature
from gftzoo_maskgit.layers import MaskedNetwork
from gftzoo_maskgit.mage import MAGE
from gftzoo_maskgit.maskbit import MaskBit
from gftzoo_maskgit.maskgit import MaskGIT
from gftzoo_maskgit.options import NetworkOptions

NETWORKS: Mapping[str, type[MaskedNetwork]] = {"maskgit": MaskGIT, "mage": MAGE, "maskbit": MaskBit}


@dataclass(frozen=True)
class MaskedProblem(CodeProblem):
    """Predict parts of codes, `codes` (B, M), where `asked` (B, M) is true: those are masked.

    Both passes of GFT see the same mask, and MAGE's encoder the same codes left out (B, N).
    """

    left_out: Tensor | None = None


class MaskGITFamily(ClassConditions, CodePrediction[MaskedProblem], MatrixDecay):
    """Masked codes predicted from those that are shown; the likelihood is that of the masked ones given the others."""

    undecayed = (".bias",)
    temperature_sampler = hook(sampler.sample)
    fold_temperature = hook(fold_temperature)

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(network=NetworkOptions, sampler=sampler.SamplerOptions, compiles="network")

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options = card.network_options(NetworkOptions)
        if card.tokenizer.codebook is None:
            raise UsageError(
                f"{card.name} predicts codes and tokenizer {card.tokenizer.id!r} has no codebook; "
                "use one that has, e.g. -o tokenizer=pixel-code-17 or -o tokenizer=maskgit-vq."
            )
        for width, heads, which in (
            (options.width, options.heads, ""),
            (options.decoder_width, options.decoder_heads, "decoder_"),
        ):
            if width % heads and (options.kind == "mage" or not which):
                raise UsageError(
                    f"{card.name}: {which}width {width} is no multiple of {heads} heads; change "
                    f"-o network.{which}width or -o network.{which}heads."
                )
        return NETWORKS[options.kind](options, card)

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        network: MaskedNetwork = model.network
        options, parts_BM = network.options, network.split(latents.long().flatten(1))
        if options.mask == "mage":
            masked_BN, left_out_BN = masking.draw_mage(generator, network.codes)
            masked_BM = masked_BN.repeat_interleave(network.splits, 1)
            return MaskedProblem(parts_BM, left_out_BN if options.kind == "mage" else None, asked=masked_BM)
        draw = masking.draw_count if options.mask == "count" else masking.draw_each
        masked_BM = draw(generator, options.mask_schedule, network.codes, network.splits)
        return MaskedProblem(parts_BM, asked=masked_BM)

    @hookimpl
    def predict(self, model: Model, problem: MaskedProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BMV: Prediction = model.network(problem.codes, problem.asked, condition, beta, problem.left_out)
        return logits_BMV

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: MaskedProblem) -> Tensor:
        """The smoothed cross-entropy, averaged over the masked parts of a sample, or over all of them."""
        options: NetworkOptions = model.network.options
        nats_BM = categorical.nats(prediction, problem.codes, options.label_smoothing)
        if options.loss == "all":
            return nats_BM.mean(1)
        assert problem.asked is not None
        return (nats_BM * problem.asked).sum(1) / problem.asked.sum(1).clamp(min=1)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return fit_weights(card, tensors, card.network_options(NetworkOptions))

    @hookimpl
    def blocks(self, network: MaskedNetwork) -> list[nn.Module]:
        return network.repeated()
