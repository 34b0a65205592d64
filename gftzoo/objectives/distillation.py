"""Guidance distillation: one pass of a student learns what classifier-free guidance makes of two of its teacher.

"On Distillation of Guided Diffusion Models", arXiv 2210.03142, stage one. Suffix B: batch.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.contract.objective import Forwards, ObjectiveOptions
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator
from gftzoo.objectives.frozen import FrozenCopy


class DistillationOptions(ObjectiveOptions):
    """Options of guidance distillation."""

    cfg_min: float = Field(1.0, ge=1.0, description="lower end of the uniform draw of the teacher's CFG scale")
    cfg_max: float = Field(5.0, ge=1.0, description="upper end; a scale w is learnt as the temperature 1 / w")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.cfg_min > self.cfg_max:
            raise ValueError(f"cfg_min {self.cfg_min:g} is larger than cfg_max {self.cfg_max:g}")
        return self


class Distillation(FrozenCopy):
    """Regression on the guided prediction of the frozen start weights, at a random CFG scale for each sample.

    The student sees the scale w as the temperature beta = 1 / w, so that it is sampled as a model trained with GFT is.
    """

    name = "distill"
    temperature = True
    forwards = Forwards(1, 2)
    needs = "prediction_distance"
    Options = DistillationOptions

    def loss(self, model: Model, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        low, high = self.options.cfg_min, self.options.cfg_max
        return self.loss_at(model, problem, condition, low + (high - low) * generator.uniform())

    def loss_at(self, model: Model, problem: Problem, condition: Tensor, scale_B: Tensor) -> Tensor:
        """The loss (B,) for given CFG scales >= 1."""
        student = model.family.predict(model, problem, condition, 1 / scale_B).float()
        target = self.guided(problem, condition, scale_B)
        return model.family.prediction_distance(model, student, target, problem)

    @torch.no_grad()
    def guided(self, problem: Problem, condition: Tensor, scale_B: Tensor) -> Tensor:
        """The teacher's prediction (B, ...) under classifier-free guidance, both passes in one batch."""
        teacher = self.frozen
        shown = torch.cat([condition, teacher.null_condition(condition)])
        conditional, unconditional = teacher.family.predict(teacher, problem.repeat(2), shown, None).float().chunk(2)
        weight = scale_B.view(-1, *[1] * (conditional.ndim - 1))
        return unconditional + weight * (conditional - unconditional)
