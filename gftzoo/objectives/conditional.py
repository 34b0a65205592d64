"""The plain objective, whose models are sampled with classifier-free guidance (arXiv 2207.12598)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.contract.objective import Objective, ObjectiveOptions
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator


class ConditionalOptions(ObjectiveOptions):
    """Options of plain training."""

    p_drop: float = Field(0.1, ge=0.0, lt=1.0, description="share of samples whose condition is dropped")


class Conditional(Objective):
    """The family's own loss, some conditions dropped."""

    name = "conditional"
    temperature = False
    Options = ConditionalOptions

    def loss(self, model: Model, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        dropped_B = generator.uniform() < self.options.p_drop
        condition = model.family.condition_drop(model, condition, dropped_B)
        prediction = model.family.predict(model, problem, condition, None)
        return model.family.loss_term(model, prediction.float(), problem)
