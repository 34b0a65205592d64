"""Objectives that compare the network with a frozen copy of the weights it starts from."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.contract.objective import Objective, ObjectiveOptions
from gftzoo.errors import UsageError


class FrozenCopy(Objective):
    """An objective with a frozen copy of the start weights.

    The copy is not written into checkpoints: it is the file that `config.yaml` names, whose hash every checkpoint
    records, and a run whose file has changed is not resumed.
    """

    copies: ClassVar[int] = 1

    def __init__(self, options: ObjectiveOptions | None = None) -> None:
        super().__init__(options)
        self._frozen: Model | None = None

    def check(self, card: ModelCard, start: str | None) -> None:
        if start is None:
            raise UsageError(
                f"objective {self.name} starts from a trained model; give its weights with --weights RUN_OR_FILE "
                "(train one with --objective conditional)."
            )

    def prepare(self, model: Model) -> None:
        network = copy.deepcopy(model.network).requires_grad_(False).eval()
        self._frozen = replace(model, network=network)  # type: ignore[type-var]

    @property
    def frozen(self) -> Model:
        """The model as it was at the start, without gradient; UsageError before `prepare`."""
        if self._frozen is None:
            raise UsageError(
                f"objective {self.name} has no frozen copy yet; call prepare(model) with the start weights."
            )
        return self._frozen
