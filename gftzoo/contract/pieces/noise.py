"""Networks that predict noise or velocity.

Suffixes: B batch, C channels, h w sides of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.problem import Problem
from gftzoo.layers.temperature import Prediction


@dataclass(frozen=True)
class NoisedProblem(Problem):
    """Predict the `target`, noise or velocity, of `x_t`, both (B, C, h, w), at the time or timestep `t` (B,)."""

    x_t: Tensor
    t: Tensor
    target: Tensor


Posed = TypeVar("Posed", bound=NoisedProblem)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error (B,) in the target's channels; those behind them are a variance, which is not steered."""
    return (prediction[:, : target.shape[1]] - target).square().flatten(1).mean(1)


class NoisePrediction(Generic[Posed]):
    """The prediction of a `NoisedProblem`, or of a subclass, by a network of `(x_t, t, condition, beta)`.

    The loss is the mean squared error, and so is the distance of two predictions.
    """

    @hookimpl
    def predict(self, model: Model, problem: Posed, condition: Tensor, beta: Tensor | None) -> Prediction:
        output: Prediction = model.network(problem.x_t, problem.t, condition, beta)
        return output

    @hookimpl
    def loss_term(self, model: Model, prediction: Tensor, problem: Posed) -> Tensor:
        return squared_error(prediction, problem.target)

    @hookimpl
    def prediction_distance(self, model: Model, prediction: Tensor, target: Tensor, problem: Posed) -> Tensor:
        return squared_error(prediction, target[:, : problem.target.shape[1]])
