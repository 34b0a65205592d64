"""Condition Contrastive Alignment: fine-tuning towards guided samples with a likelihood ratio.

"Toward Guidance-Free AR Visual Generation via Condition Contrastive Alignment", arXiv 2410.09347, in the form of the
released code (thu-ml/CCA). Suffixes: B batch, G = 2B rows: every image with its own condition, then with a wrong one.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from gftzoo.contract.model import Model
from gftzoo.contract.objective import Forwards, ObjectiveOptions
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.objectives.frozen import FrozenCopy


class CCAOptions(ObjectiveOptions):
    """Options of Condition Contrastive Alignment; what the paper calls beta and lambda is named for what it does."""

    sharpness: float = Field(0.02, gt=0.0, description="factor of the log-likelihood ratio (the paper's beta)")
    negative_weight: float = Field(
        300.0, ge=0.0, description="weight of wrong conditions (the paper's lambda; 50 to 1000 there)"
    )
    p_drop: float = Field(0.1, ge=0.0, lt=1.0, description="share of images whose two conditions are dropped")
    reference_dropout: bool = Field(True, description="dropout also in the frozen reference, as in the released code")


class CCA(FrozenCopy):
    """Raises p(x | c) against the frozen reference and lowers p(x | c') for conditions c' of other images.

    The wrong condition of an image is that of its neighbour in the micro-batch, which must have two or more images.
    """

    name = "cca"
    temperature = False
    forwards = Forwards(2, 2)
    needs = "log_likelihood"
    Options = CCAOptions

    def prepare(self, model: Model) -> None:
        super().prepare(model)
        self.frozen.network.train(self.options.reference_dropout)

    def loss(self, model: Model, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        if len(condition) < 2:
            raise UsageError(
                "a micro-batch of 1 image has no wrong condition to contrast with; use a batch_size of at least "
                "2 * accumulate * ranks."
            )
        dropped_B = generator.uniform() < self.options.p_drop
        return self.loss_at(model, problem, condition, condition.roll(-1, 0), dropped_B)

    def loss_at(self, model: Model, problem: Problem, condition: Tensor, wrong: Tensor, dropped_B: Tensor) -> Tensor:
        """The loss (B,) for given wrong conditions and dropped images."""
        options, drop = self.options, model.family.condition_drop
        shown_G = torch.cat([drop(model, shown, dropped_B) for shown in (condition, wrong)])
        problem_G = problem.repeat(2)
        own_G = log_likelihood(model, problem_G, shown_G)
        with torch.no_grad():
            reference_G = log_likelihood(self.frozen, problem_G, shown_G)
        right_B, wrong_B = (options.sharpness * (own_G - reference_G)).chunk(2)
        # A condition that is not wrong after all, or dropped, counts as a second right one.
        same_B = dropped_B | (condition == wrong).view(len(condition), -1).all(1)
        second_B = torch.where(same_B, F.logsigmoid(wrong_B), options.negative_weight * F.logsigmoid(-wrong_B))
        return -(F.logsigmoid(right_B) + second_B) / max(options.negative_weight, 1.0)


def log_likelihood(model: Model, problem: Problem, condition: Tensor) -> Tensor:
    """log p(x | c), shape (B,) float32: the sum over everything that the family predicts."""
    prediction = model.family.predict(model, problem, condition, None)
    return model.family.log_likelihood(model, prediction.float(), problem)
