"""How a sampler is steered: by temperature (GFT, one pass), by classifier-free guidance (two passes), by a classifier's
gradient, or not at all.

A family writes its sampler once against `Guidance`; `progress` in [0, 1] says how far the sampler is and carries the
ramps that VAR and MAR use. Suffixes: B images, G = passes * B rows of the network's batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gftzoo.catalogue.cards import Schedule
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import Affine, Prediction, plain


def power_cosine(progress: float, power: float = 4.0) -> float:
    """(1 - cos(pi progress^power)) / 2: MDT's ramp, little at first and late all (arXiv 2303.14389)."""
    return 0.5 * (1 - math.cos(math.pi * progress**power))


# The share of the guidance at a progress in [0, 1].
RAMPS: Mapping[Schedule, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: progress,
    "power-cosine": power_cosine,
}
BY_TIME: tuple[Schedule, ...] = ("power-cosine",)


def refuse_unknown(schedule: str) -> None:
    """UsageError for a ramp that there is not."""
    if schedule not in RAMPS:
        raise UsageError(f"schedule {schedule!r} is no ramp of the guidance; there are {', '.join(RAMPS)}.")


class Guidance(ABC):
    """What a sampler asks of its guidance."""

    passes: ClassVar[int] = 1
    schedule: Schedule = "constant"

    @property
    def by_time(self) -> bool:
        """Whether progress is that of a process's own time, where it has one, and not the share of the steps."""
        return self.schedule in BY_TIME

    def repeat(self, inputs_B: Tensor) -> Tensor:
        """The network's batch for `inputs_B`, (B, ...) -> (G, ...): once per pass."""
        return inputs_B if self.passes == 1 else torch.cat([inputs_B] * self.passes)

    def expand(self, condition_B: Tensor, null_B: Tensor) -> Tensor:
        """The conditions of the network's batch, (G, ...): the condition, then the null condition if it is used."""
        return condition_B if self.passes == 1 else torch.cat([condition_B, null_B])

    def beta(self, batch: int, progress: float = 0.0, device: torch.device | str = "cpu") -> Tensor | None:
        """The temperature fed to the network, shape (batch,) float32; None for a network without that input."""
        return None

    def push(self, x_B: Tensor, t_B: Tensor, condition_B: Tensor) -> Tensor | None:
        """What else pulls noisy samples (B, ...) to their conditions, as a gradient of log density; None for nothing.

        Only guidance of families with the hook `build_classifier` gives one, and their samplers add it.
        """
        return None

    @abstractmethod
    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        """The guided prediction, (G, ...) -> (B, ...), in the space where guidance is linear (noise or logits)."""


@dataclass(frozen=True)
class Unguided(Guidance):
    """The conditional model as it is."""

    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        return plain(prediction_G)


@dataclass(frozen=True)
class Temperature(Guidance):
    """GFT: one pass of the network that sees the sampling temperature `value` in (0, 1].

    A `schedule` mirrors a ramp of the guidance: beta(progress) = 1 / (1 + (1/value - 1) * ramp(progress)), where
    `linear` is the progress itself. An embedded temperature enters with `beta`, an affine one at the read-out, in
    `combine`. Raises UsageError for a value out of range or an unknown schedule.
    """

    value: float
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        refuse_unknown(self.schedule)
        if not 0.0 < self.value <= 1.0:
            raise UsageError(
                f"beta must lie in (0, 1] and is {self.value:g}; 1 is the plain conditional model, "
                "smaller is stronger guidance (try --beta 0.5)."
            )

    def beta(self, batch: int, progress: float = 0.0, device: torch.device | str = "cpu") -> Tensor:
        return torch.full((batch,), 1.0 / (1.0 + self.strength(progress)), device=device)

    def strength(self, progress: float) -> float:
        """s = 1/beta - 1 at that progress."""
        return (1.0 / self.value - 1.0) * RAMPS[self.schedule](progress)

    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        return prediction_G.at(self.strength(progress)) if isinstance(prediction_G, Affine) else prediction_G


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """CFG: u + w (c - u), the conditional and the null pass in one batch; w = 1 is unguided.

    A `schedule` ramps the guidance, w(progress) = 1 + (w - 1) * ramp(progress): `linear` by the progress itself (VAR
    and MAR), `power-cosine` as MDT does. Raises UsageError for a scale below 0 or an unknown schedule.
    """

    passes: ClassVar[int] = 2
    scale: float
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        refuse_unknown(self.schedule)
        if not 0.0 <= self.scale < float("inf"):
            raise UsageError(f"the CFG scale must be a number >= 0 and is {self.scale:g}; 1 is off (try --cfg 1.5).")

    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        ramp = RAMPS[self.schedule](progress)
        conditional_B, unconditional_B = plain(prediction_G).chunk(2)
        return unconditional_B + (1.0 + (self.scale - 1.0) * ramp) * (conditional_B - unconditional_B)


@dataclass(frozen=True)
class ByClassifier(Guidance):
    """Classifier guidance (arXiv 2105.05233): plain predictions, and a push along the gradient of log p(class | x_t).

    Every step costs a pass of the network, and one forth and back of `classifier`, a network of (x_t, t) that gives
    logits (B, classes); `scale` 0 is unguided.
    """

    classifier: Any
    scale: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < float("inf"):
            raise UsageError(
                f"the classifier's scale must be a number >= 0 and is {self.scale:g}; try --classifier-scale 1."
            )

    def push(self, x_B: Tensor, t_B: Tensor, condition_B: Tensor) -> Tensor:
        with torch.enable_grad():
            x_B = x_B.detach().requires_grad_()
            log_p_BK = F.log_softmax(self.classifier(x_B, t_B).float(), -1)
            chosen_B = log_p_BK.gather(1, condition_B[:, None])
            return self.scale * torch.autograd.grad(chosen_B.sum(), x_B)[0]

    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        return plain(prediction_G)
