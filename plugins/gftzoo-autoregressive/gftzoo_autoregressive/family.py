"""What the families of this package say alike. Suffixes: B batch, N codes of an image, V codebook."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.pieces import (
    ClassConditions,
    CodePrediction,
    CodeProblem,
    MatrixDecay,
    OfficialWeights,
    OwnTokenizers,
    refuse_continuous,
)
from gftzoo.contract.problem import Problem
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo.layers.finetuning import append_null
from gftzoo.layers.sequence import CodeNetworkOptions
from gftzoo.layers.temperature import Prediction

Posed = TypeVar("Posed", bound=CodeProblem)


class AutoregressiveFamily(
    ClassConditions, CodePrediction[Posed], OfficialWeights, MatrixDecay, OwnTokenizers, Generic[Posed]
):
    """A network that predicts each code of an image from the class and the codes before it.

    Attributes:
        network_options: schema of `card.network`.
        sampler_options: schema of the sampler's settings.
        of_codes: network options that follow from the tokenizer's codes.
        network_class: built of network options and card.
        suggested: a tokenizer with a codebook, for the sentence that refuses another.
    """

    network_options: ClassVar[type[CodeNetworkOptions]]
    sampler_options: ClassVar[type]
    of_codes: ClassVar[tuple[str, ...]] = ()
    network_class: ClassVar[type[nn.Module]]
    suggested: ClassVar[str]
    tokenizers = {}

    @hookimpl
    def options(self) -> FamilyOptions:
        return FamilyOptions(
            network=self.network_options, sampler=self.sampler_options, compiles="steps", of_codes=self.of_codes
        )

    @hookimpl
    def build_network(self, card: ModelCard) -> nn.Module:
        options: Any = card.network_options(self.network_options)
        refuse_continuous(card, self.suggested)
        if options.width % options.heads:
            raise UsageError(
                f"{card.name}: width {options.width} does not divide into {options.heads} heads; "
                "change -o network.width or -o network.heads."
            )
        self.check(options, card)
        return self.network_class(options, card)

    def check(self, options: Any, card: ModelCard) -> None:
        """UsageError for what else a card cannot ask for."""

    @hookimpl
    @abstractmethod
    def draw_problem(self, model: Model, latents: Tensor, generator: SampleGenerator) -> Problem: ...

    @hookimpl
    @abstractmethod
    def predict(self, model: Model, problem: Posed, condition: Tensor, beta: Tensor | None) -> Prediction: ...


class AddedNull(OfficialWeights):
    """Networks that have no null class in their released form; it starts as the mean of the classes.

    Attributes:
        released_classes: ImageNet's. A table with so many rows ends with a class, any other one with a null class.
    """

    released_classes: ClassVar[int] = 1000

    def fit_table(self, tensors: Mapping[str, Tensor], network: nn.Module, rows: int) -> dict[str, Tensor]:
        if len(tensors.get(self.class_table, ())) == self.released_classes == rows:
            raise UsageError(
                f"weights with {rows} rows of classes are released ones, or gftzoo's of {rows - 1} and the null class, "
                f"which cannot be told apart for {rows - 1} classes; use data with a class more or less."
            )
        tensors = append_null(tensors, self.class_table, self.released_classes, self.released_classes)
        return super().fit_table(tensors, network, rows)
