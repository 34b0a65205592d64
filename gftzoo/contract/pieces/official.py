"""Weights of others in, and the temperature folded out, for networks with a class table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.model import Model
from gftzoo.layers.finetuning import fit_classes, idle_embedding
from gftzoo.layers.folding import fold


class OfficialWeights(ABC):
    """A network whose classes are rows of a table, and whose temperature is embedded by modules of known names.

    Official weights are taken with what a card changes: another number of classes gets rows that start at the null
    condition, which is kept; base weights for a card with a temperature get an embedding without effect, so that the
    network starts as the base model. The temperature is folded into the constants that stand beside its embeddings.

    Attributes:
        class_table: key of the table (rows, D).
        null_row: key of the tensor whose last row is the null condition; None is the table's own.
        embeddings: names of the modules that embed the temperature, where the network has them, and the keys of the
            biases and tables that can hold what each adds.
        readout: prefix of the layer that the slope of an affine temperature stands beside.
    """

    class_table: ClassVar[str]
    null_row: ClassVar[str | None] = None
    embeddings: ClassVar[Mapping[str, tuple[str, ...]]]
    readout: ClassVar[str]

    @abstractmethod
    def build_network(self, card: ModelCard) -> nn.Module:
        """The hook."""

    def own_key(self, key: str) -> str | None:
        """The network's key for one of an official file; None for what is no weight."""
        return key

    def fit_table(self, tensors: Mapping[str, Tensor], network: nn.Module, rows: int) -> dict[str, Tensor]:
        """The tensors of a file with a class table of so many rows, those of the network that the card asks for."""
        return fit_classes(tensors, rows, self.class_table, self.null_row)

    def idle(self, name: str, embedding: nn.Module) -> dict[str, Tensor]:
        """Tensors of an embedding that adds nothing yet: the module of that name, on the meta device."""
        return idle_embedding(name, embedding)

    @hookimpl
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.device("meta"):
            network = self.build_network(card)
        found = {own: value for key, value in tensors.items() if (own := self.own_key(key)) is not None}
        modules = {name: module for name, module in network.named_modules() if name in self.embeddings}
        if not any(key.startswith(tuple(f"{name}." for name in self.embeddings)) for key in found):
            for name, module in modules.items():
                found |= self.idle(name, module)
        table = network.state_dict().get(self.class_table)  # a network of the family may have other conditions
        return found if table is None else self.fit_table(found, network, len(table))

    @hookimpl
    def fold_temperature(self, model: Model, beta: float) -> Mapping[str, Tensor]:
        return fold(model.network, beta, self.embeddings, self.readout)
