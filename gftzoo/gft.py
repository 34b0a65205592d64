"""Guidance-Free Training, once for every family.

"Visual Generation Without Guidance", arXiv 2501.15420. Suffix B: batch. `f_s` is the sampling model, which sees the
temperature beta; `f_u` the unconditional one, the same weights without gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.contract.objective import Forwards, Objective, ObjectiveOptions
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator, to_device
from gftzoo.layers.temperature import Affine, Prediction, each, plain, without_slope
from gftzoo.precision import has_bf16


class GFTOptions(ObjectiveOptions):
    """Options of Guidance-Free Training."""

    p_drop: float = Field(0.1, ge=0.0, lt=1.0, description="share of samples whose condition is dropped")
    beta_min: float = Field(0.0, ge=0.0, le=1.0, description="lower end of the uniform temperature draw")
    beta_max: float = Field(1.0, gt=0.0, le=1.0, description="upper end of the uniform temperature draw")
    unconditional_input: Literal["one", "omitted"] = Field(
        "one", description="temperature input of the unconditional pass; `omitted` is the released SD code's"
    )
    weighting: Literal["one", "inverse-beta", "inverse-beta-squared"] = Field(
        "one",
        description="of a sample's loss: 1 as published, 1/beta, which gives every temperature a gradient of the same "
        "size where it is bounded (logits), or 1/beta^2, which does where it is linear in the error (noise); both need "
        "beta_min above 0",
    )
    ends: Literal["drawn", "both"] = Field(
        "drawn",
        description="where a sample meets the line of an affine temperature: at the drawn beta as published, or at "
        "both ends of it, beta 1 and 0, without a draw; needs network.temperature_input=affine",
    )
    slope_weight: float = Field(0.25, gt=0.0, le=100.0, description="of the end at beta 0, where ends=both")
    dropped_mix: Literal["drawn", "one"] = Field(
        "drawn", description="mixing weight of a dropped sample: its drawn beta as published, or 1, the whole gradient"
    )
    unconditional_precision: Literal["auto", "same", "bf16"] = Field(
        "auto",
        description="of the unconditional pass, which no gradient follows: the run's, or bf16 also where the run "
        "computes in fp32; auto is bf16 for networks of 10 million parameters and more, on a device that has it",
    )
    skip_dropped: bool = Field(True, description="no second pass for samples whose condition is dropped anyway")

    @property
    def one_beta(self) -> float | None:
        """The temperature, where only one is trained for."""
        return self.beta_min if self.beta_min == self.beta_max else None

    @model_validator(mode="after")
    def _weights_are_finite(self) -> Self:
        if self.beta_max < self.beta_min:
            raise ValueError(f"beta_max, {self.beta_max}, is below beta_min, {self.beta_min}")
        if self.weighting != "one" and self.beta_min == 0:
            raise ValueError(f"weighting={self.weighting} divides by beta and needs beta_min above 0, e.g. 0.1")
        if self.ends == "both" and self.weighting != "one":
            raise ValueError(f"ends=both draws no beta that weighting={self.weighting} could divide by; leave one out")
        return self


LARGE = 10_000_000  # parameters; a smaller network spends its time on starting operations, which bf16 makes no fewer
POWERS = {"one": 0, "inverse-beta": 1, "inverse-beta-squared": 2}


class GFT(Objective):
    """Guidance-Free Training: the conditional loss on beta f_s + (1 - beta) sg[f_u]."""

    name = "gft"
    temperature = True
    forwards = Forwards(1, 1)
    Options = GFTOptions

    def check(self, card: ModelCard, start: str | None) -> None:
        low, high = self.options.beta_min, self.options.beta_max
        if card.network.get("temperature_input") == "none" and low != high:
            raise UsageError(
                f"network.temperature_input=none trains at one temperature, and objective.beta_min={low:g} and "
                f"beta_max={high:g} are two; make them equal, e.g. -o objective.beta_min=0.5 -o objective.beta_max=0.5."
            )
        if self.options.ends == "both" and card.network.get("temperature_input") != "affine":
            raise UsageError(
                "objective.ends=both trains the two ends of an affine temperature, and "
                f"network.temperature_input of {card.name} is {card.network.get('temperature_input', 'embedding')!r}; "
                "add -o network.temperature_input=affine."
            )

    def loss(self, model: Model, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        low, high = self.options.beta_min, self.options.beta_max
        beta_B = low + (high - low) * generator.uniform()
        # Decided on the CPU: it says which rows take the second pass, and no device is waited for to know them.
        dropped_B = generator.host.uniform() < self.options.p_drop
        return self.loss_at(model, problem, condition, beta_B, dropped_B)

    def loss_at(self, model: Model, problem: Problem, condition: Tensor, beta_B: Tensor, dropped_B: Tensor) -> Tensor:
        """The loss (B,) of Algorithm 1 of the paper.

        Args:
            model: what trains.
            problem: of the batch.
            condition: of the batch, nothing dropped yet.
            beta_B: temperatures in [0, 1].
            dropped_B: samples whose condition is dropped, on the CPU best.
        """
        family = model.family
        rows = self.rows_of_second_pass(dropped_B, beta_B.device)
        dropped_B = to_device(dropped_B, beta_B.device)
        # A dropped sample is an unconditional one: it sees the null condition and beta = 1.
        beta_in_B = torch.where(dropped_B, 1.0, beta_B)
        shown = family.condition_drop(model, condition, dropped_B)
        told_B = beta_in_B if model.card.temperature else None
        prediction = each(family.prediction(model, problem, shown, told_B), torch.Tensor.float)
        u_BX = self.unconditional(model, problem, condition, rows, plain(prediction).detach())
        if self.options.ends == "both":
            return self.at_both_ends(model, prediction, u_BX, dropped_B, problem)
        # Its mixing weight stays the drawn beta, as in the released code, unless `dropped_mix` says otherwise. There an
        # affine network has no slope to learn.
        if self.options.dropped_mix == "one" or isinstance(prediction, Affine):
            beta_B = beta_in_B
        mixed_BX = mix(prediction, u_BX, beta_B)
        del prediction, u_BX  # of logits each is large, and the backward pass needs none of them
        loss_B = family.loss_term(model, mixed_BX, problem)
        # d mixed / d f_s is beta, so that low temperatures learn slowly; the weight moves no minimum, only the pace
        return loss_B / beta_B ** POWERS[self.options.weighting]

    def at_both_ends(
        self, model: Model, prediction: Prediction, u_BX: Tensor, dropped_B: Tensor, problem: Problem
    ) -> Tensor:
        """The loss (B,) of c and, where there is an f_u, of d + sg[f_u]: `mix` at beta 1 and 0, half of each.

        It has the minimum of every draw, f_c and f_c - f_u, and c learns at the full pace of the plain model.
        """
        assert isinstance(prediction, Affine), "ends=both is refused for other networks, see `check`"
        c_B = model.family.loss_term(model, prediction.c, problem)
        slope_B = model.family.loss_term(model, prediction.d + u_BX, problem)
        return (c_B + self.options.slope_weight * torch.where(dropped_B, 0.0, slope_B)) / 2

    def rows_of_second_pass(self, dropped_B: Tensor, device: torch.device) -> Tensor:
        """The samples, as indices on a device, that are not dropped: those take the second pass."""
        run_B = ~dropped_B if self.options.skip_dropped else torch.ones_like(dropped_B)
        run_B[0] |= ~run_B.any()  # every rank runs the pass, so that sharded weights are gathered on all of them
        return to_device(run_B.nonzero().squeeze(1), device)

    def unconditional(
        self, model: Model, problem: Problem, condition: Tensor, rows: Tensor, plain_BX: Tensor
    ) -> Tensor:
        """sg[f_u] (B, ...): `rows` take a pass without gradient, the others have their own prediction in its place.

        It runs after the conditional pass: under autocast the bf16 copies of the weights are cached at first use, and
        a copy made without gradient would cut the conditional pass off from the weights.
        """
        everyone = torch.ones_like(rows, dtype=torch.bool)
        told = model.card.temperature and self.options.unconditional_input == "one"
        beta_in = torch.ones_like(rows, dtype=torch.float32) if told else None
        half = torch.autocast(rows.device.type, torch.bfloat16) if self.lowers(model, rows.device) else nullcontext()
        with torch.no_grad(), deterministic(model.network), without_slope(model.network), half:
            null = model.family.condition_drop(model, condition[rows], everyone)
            u_RX = plain(model.family.prediction(model, problem.select(rows), null, beta_in)).float()
        return plain_BX.index_copy(0, rows, u_RX)

    def lowers(self, model: Model, device: torch.device) -> bool:
        """Whether the unconditional pass computes in bf16 where the run does not compute in half precision."""
        chosen = self.options.unconditional_precision
        large = sum(p.numel() for p in model.network.parameters()) >= LARGE
        lowered = chosen == "bf16" or (chosen == "auto" and large and has_bf16(device))
        return lowered and not torch.is_autocast_enabled(device.type)


def mix(prediction: Prediction, u_BX: Tensor, beta_B: Tensor) -> Tensor:
    """f_c = beta f_s + (1 - beta) f_u, (B, ...): what the data teaches (eq. 6 of the paper).

    With an affine f_s = c + (1/beta - 1) d it is beta c + (1 - beta)(d + f_u), which is finite down to beta = 0.
    """
    beta_BX = beta_B.view(-1, *[1] * (u_BX.ndim - 1))
    if isinstance(prediction, Affine):
        return torch.lerp(prediction.d + u_BX, prediction.c, beta_BX)  # exact at both ends
    return beta_BX * prediction + (1 - beta_BX) * u_BX


@contextmanager
def deterministic(network: nn.Module) -> Iterator[None]:
    """Dropout and the like off for the duration; every module gets its own mode back."""
    training = [module for module in network.modules() if module.training]
    # All of them, and not dropout layers alone: any module may look at its mode. Setting it as an attribute takes a
    # module's slow way, several milliseconds for a large network, twice a step.
    for module in training:
        module.__dict__["training"] = False
    try:
        yield
    finally:
        for module in training:
            module.__dict__["training"] = True
