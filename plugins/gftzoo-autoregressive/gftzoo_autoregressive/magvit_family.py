"""The hooks of Open-MAGVIT2's transformer. Suffixes: B batch, N codes of an image, V values of both parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import AllCodes, CodeProblem, PartSettings, Steered, decode, hook, refuse_ramp
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo.layers.folding import fold, fold_slope
from gftzoo.layers.temperature import without_slope
from gftzoo_autoregressive.family import AutoregressiveFamily
from gftzoo_autoregressive.magvit import PARTS, MagvitDecoder, MagvitOptions, MagvitTransformer

JOINED = "head"


@torch.no_grad()
def sample(
    model: Model, condition: Tensor, guidance: Guidance, settings: PartSettings, generator: SampleGenerator
) -> Tensor:
    """Codes (B, N), int64; UsageError for an embedded temperature that changes on the way."""
    network: MagvitTransformer = model.network
    refuse_ramp(model, network.beta_embed is not None, guidance)
    settings.check(PARTS)
    steered = Steered(model, condition, guidance)
    decoder = MagvitDecoder(network, steered.condition_G)
    uniform, progress = generator.uniform(network.codes * PARTS), settings.progress(network.codes, PARTS)
    return network.join(decode(decoder, steered, settings, uniform, progress).unflatten(1, (-1, PARTS)))


class OpenMagvitFamily(AllCodes, AutoregressiveFamily[CodeProblem]):
    """Codes in two parts, of which the second is drawn given the first."""

    network_options, sampler_options, network_class = MagvitOptions, PartSettings, MagvitTransformer
    suggested, of_codes = "open-magvit2-18", ("parts",)
    class_table = "class_emb.embedding_table.weight"
    embeddings = {"beta_embed": (class_table,)}
    temperature_sampler = hook(sample)

    def check(self, options: Any, card: ModelCard) -> None:
        low, high = options.parts
        if low * high != card.tokenizer.codebook or low < 1:
            raise UsageError(
                f"{card.name} draws a code in parts of {low} and {high} values, {low * high} codes, and tokenizer "
                f"{card.tokenizer.id!r} has {card.tokenizer.codebook}; change -o network.parts or -o tokenizer."
            )
        options.check(card.name)

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: CodeProblem) -> Tensor:
        """The sum of both parts' cross-entropies, each averaged over the codes."""
        return self.nats(model, prediction, problem).mean(1)

    @hookimpl
    def log_likelihood(self, model: Model, prediction: Tensor, problem: CodeProblem) -> Tensor:
        return -self.nats(model, prediction, problem).sum(1)

    def nats(self, model: Model, prediction: Tensor, problem: CodeProblem) -> Tensor:
        """-log p of every code (B, N), of both parts together."""
        network: MagvitTransformer = model.network
        parts = zip(prediction.split(network.options.parts, -1), network.split(problem.codes), strict=True)
        losses = [categorical.nats(logits, part) for logits, part in parts]
        return torch.stack(losses).sum(0)

    @hookimpl
    def blocks(self, network: Any) -> list[nn.Module]:
        """Those of the parts, which see every position, too."""
        return [*network.spatial_blocks, *network.factorized_blocks]

    def own_key(self, key: str) -> str | None:
        """Lightning's files hold the first stage, too."""
        return None if key.startswith("first_stage_model.") or key == "freqs_cis" else key.removeprefix("transformer.")

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        """The slope stands beside both heads together."""
        slope = model.network.slope
        with without_slope(model.network):
            tensors = fold(model.network, beta, self.embeddings, JOINED)
        keys = [f"{JOINED}.{part}.weight" for part in range(PARTS)]
        joined = {f"{JOINED}.weight": torch.cat([tensors[key] for key in keys])}
        fold_slope(joined, slope, beta, JOINED)
        halves = joined[f"{JOINED}.weight"].split(model.network.options.parts)
        return {**tensors, **dict(zip(keys, (half.clone() for half in halves), strict=True))}
