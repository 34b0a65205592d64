"""Hooks that need no body: a function elsewhere, a table, a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

from torch import nn

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.options import decay_groups
from gftzoo.contract.tokenizer import Tokenizer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def hook(function: Callable[Arguments, Result]) -> staticmethod[Arguments, Result]:
    """The hook that this function is: `temperature_sampler = hook(sampler.sample)` in the body of a family.

    Its arguments have the hook's names; those that it does not need may be left out.
    """
    return staticmethod(hookimpl(function))


class OwnTokenizers:
    """Tokenizers by kind, each built of a specification and a local path; other kinds are the core's.

    Attributes:
        tokenizers: the kind of `TokenizerSpec` to what builds it.
    """

    tokenizers: ClassVar[Mapping[str, Callable[[TokenizerSpec, str | None], Tokenizer]]]

    @hookimpl
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer | None:
        return self.tokenizers[spec.kind](spec, weights) if spec.kind in self.tokenizers else None


class MatrixDecay:
    """Weight decay on matrices and embeddings, none on vectors.

    Attributes:
        undecayed: parameters with one of these in their names have none either.
    """

    undecayed: ClassVar[tuple[str, ...]] = ()

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether a parameter of the network decays."""
        return parameter.ndim > 1 and not any(part in name for part in self.undecayed)

    @hookimpl
    def parameter_groups(self, network: Any, weight_decay: float) -> list[dict[str, Any]]:
        return decay_groups(network, weight_decay, self.decays)
