"""What every sampler does alike: the network's batch under a guidance, and how far it is.

Suffixes: B images, G rows of the network's batch, B for each pass of the guidance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationInfo, field_validator
from torch import Tensor

from gftzoo.catalogue.cards import Frozen
from gftzoo.contract.guidance import Guidance
from gftzoo.contract.model import Model
from gftzoo.layers.compiling import replay
from gftzoo.layers.temperature import Prediction, each

Item = TypeVar("Item")


class SamplerChoice(Frozen):
    """Settings of several samplers in one, of which the first field, `sampler`, is the choice.

    A setting that the chosen sampler does not have is refused, not ignored.

    Attributes:
        only_of: settings that not all samplers have, and the samplers that do.
    """

    only_of: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @field_validator("*")
    @classmethod
    def _belongs_to_the_sampler(cls, value: Any, info: ValidationInfo) -> Any:
        name, sampler = str(info.field_name), info.data.get("sampler")
        having = cls.only_of.get(name)
        if sampler and having and sampler not in having and value != cls.model_fields[name].default:
            raise ValueError(f"{sampler} does not have it; choose sampler={' or '.join(having)}")
        return value


def ramp(items: Sequence[Item]) -> Iterator[tuple[float, Item]]:
    """Each item with the progress that guidance follows: 0 at the first, 1 at the last."""
    last = max(len(items) - 1, 1)
    return ((index / last, item) for index, item in enumerate(items))


class Steered:
    """The conditions of one call of a sampler, and what guidance makes of them and of a network's predictions.

    Args:
        model: what is sampled.
        condition: (B, ...).
        guidance: decides the number of passes.
        null: what guidance steers away from, in the shape of `condition`; the null condition if it is None.

    Attributes:
        condition_G: (G, ...), the condition of every row of the network's batch.
        compiler: of the model: torch.compile's backend, or None.
    """

    def __init__(self, model: Model, condition: Tensor, guidance: Guidance, null: Tensor | None = None) -> None:
        self.guidance, self.compiler = guidance, model.compiler
        self.replays = model.compiler is not None and model.device.type == "cuda"
        if guidance.passes > 1 and null is None:
            null = model.null_condition(condition)
        self.condition_G = condition if null is None else guidance.expand(condition, null)

    def row(self, index: int) -> Steered:
        """The same for one image."""
        one = copy.copy(self)
        one.condition_G = self.condition_G.unflatten(0, (self.guidance.passes, -1))[:, index]
        return one

    def beta(self, progress: float = 0.0) -> Tensor | None:
        """The temperature input (G,) float32; None for a network without one."""
        return self.guidance.beta(len(self.condition_G), progress, self.condition_G.device)

    def passes(self, network: Callable[..., Prediction], progress: float, *inputs: Tensor) -> Prediction:
        """The predictions (G, ...), float32, of `network(*inputs, condition, beta)` for `inputs` (B, ...)."""
        given = *map(self.guidance.repeat, inputs), self.condition_G, self.beta(progress)
        return each(replay(network, *given) if self.replays else network(*given), Tensor.float)

    def combine(self, prediction_G: Prediction, progress: float = 0.0) -> Tensor:
        """The guided prediction (B, ...)."""
        return self.guidance.combine(prediction_G, progress)

    def predict(self, network: Callable[..., Prediction], progress: float, *inputs: Tensor) -> Tensor:
        """The guided prediction (B, ...), float32, of `network(*inputs, condition, beta)`."""
        return self.combine(self.passes(network, progress, *inputs), progress)
