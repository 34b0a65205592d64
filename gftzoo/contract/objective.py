"""What a network is trained for: the interface of all objectives. Suffix B: batch.

GFT is in `gftzoo.gft`, the others in `gftzoo.objectives`. One of a third party is a subclass of `Objective` behind an
entry point of the group `gftzoo.objectives` whose name is the objective's; `gftzoo train X --objective NAME` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from gftzoo.catalogue.cards import Frozen, ModelCard
from gftzoo.contract.model import Model
from gftzoo.contract.problem import Problem
from gftzoo.generator import SampleGenerator


class ObjectiveOptions(Frozen):
    """Options of an objective, `-o objective.KEY=VALUE`, validated by pydantic. Subclass it."""


class Forwards(NamedTuple):
    """Forward passes of one sample per update: those that a backward pass follows, and those without gradient."""

    with_gradient: int
    without_gradient: int

    @property
    def units(self) -> float:
        """The cost in forward passes; a backward pass counts as two."""
        return 3.0 * self.with_gradient + self.without_gradient


class Objective(ABC):
    """What a network is trained for.

    Attributes:
        name: what `--objective` takes.
        temperature: whether the network it trains has a beta input.
        forwards: passes per update, for estimates of the cost.
        copies: frozen copies of the network that it keeps in memory.
        needs: the optional hook of the family that it calls; families without it are refused.
        Options: the class of `self.options`.
    """

    name: ClassVar[str]
    temperature: ClassVar[bool]
    forwards: ClassVar[Forwards] = Forwards(1, 0)
    copies: ClassVar[int] = 0
    needs: ClassVar[str | None] = None
    Options: ClassVar[type[ObjectiveOptions]] = ObjectiveOptions

    def __init__(self, options: ObjectiveOptions | None = None) -> None:
        self.options: Any = options or self.Options()

    def check(self, card: ModelCard, start: str | None) -> None:
        """UsageError if a run of that card from the weights `start` (None: scratch) cannot have this objective."""

    def prepare(self, model: Model) -> None:
        """Called once before training, also before a resumed one, with the weights that the run starts from."""

    @abstractmethod
    def loss(self, model: Model, problem: Problem, condition: Tensor, generator: SampleGenerator) -> Tensor:
        """The per-sample loss (B,), differentiable with respect to the parameters of `model.network`.

        Args:
            model: what trains.
            problem: from the family's `draw_problem`.
            condition: (B, ...), nothing dropped yet.
            generator: randomness of the samples; the only one an objective may use.
        """
