"""Networks that predict codes of a codebook.

Suffixes: B batch, N codes of an image, V codebook, X any dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import Field
from torch import Tensor

from gftzoo.catalogue.cards import Frozen, ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers import categorical
from gftzoo.layers.temperature import Prediction


@dataclass(frozen=True)
class CodeProblem(Problem):
    """Predict the `codes` (B, N), int64: all of them, or those where the boolean `asked` (B, N) is true.

    Every row asks for one at least.
    """

    codes: Tensor
    asked: Tensor | None = field(default=None, kw_only=True)


Posed = TypeVar("Posed", bound=CodeProblem)


class CodePrediction(Generic[Posed]):
    """The prediction of a `CodeProblem`, or of a subclass, by logits (B, N, V).

    The loss is the cross-entropy in nats, averaged over the codes that are asked for; the likelihood sums over them.
    """

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: Posed) -> Tensor:
        nats_BN = categorical.nats(prediction, problem.codes)
        if problem.asked is None:
            return nats_BN.mean(1)
        return (nats_BN * problem.asked).sum(1) / problem.asked.sum(1)

    @hookimpl
    def log_likelihood(self, model: Model, prediction: Tensor, problem: Posed) -> Tensor:
        nats_BN = categorical.nats(prediction, problem.codes)
        return -(nats_BN if problem.asked is None else nats_BN * problem.asked).sum(1)


class AllCodes(CodePrediction[CodeProblem]):
    """All codes of an image, asked of a network of `(codes, condition, beta)`."""

    @hookimpl
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem:
        return CodeProblem(latents.long().flatten(1))

    @hookimpl
    def predict(self, model: Model, problem: CodeProblem, condition: Tensor, beta: Tensor | None) -> Prediction:
        logits_BNV: Prediction = model.network(problem.codes, condition, beta)
        return logits_BNV


def refuse_continuous(card: ModelCard, suggested: str) -> None:
    """UsageError for a tokenizer without codes; `suggested` is the name of one that has some."""
    if card.tokenizer.codebook is None:
        raise UsageError(
            f"{card.name} predicts codes and tokenizer {card.tokenizer.id!r} has no codebook; "
            f"use one that has, e.g. -o tokenizer=pixel-code-17 or -o tokenizer={suggested}."
        )


class CodeSampling(Frozen):
    """Settings of a sampler that draws codes; a family's own inherit them."""

    top_k: int = Field(0, ge=0, description="draw from the k most likely codes; 0 draws from all, 1 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the smallest set of codes with this probability")

    def likely(self, logits_XV: Tensor) -> Tensor:
        """The logits, -inf for codes that are not drawn from."""
        return categorical.keep_likely(logits_XV, self.top_k, self.top_p)

    def draw(self, logits_XV: Tensor, uniform_X: Tensor) -> Tensor:
        """One code (X,), int64, for each row, of those that the settings leave, by its number in [0, 1)."""
        return categorical.draw(self.likely(logits_XV), uniform_X)
