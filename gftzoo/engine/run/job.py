"""A run before its first step: its configuration, and what the configuration names, each found once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from gftzoo.contract.objective import Objective
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.data import Source, open_source
from gftzoo.engine.config import TrainConfig
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.objectives import build_objective


class Job:
    """What goes down the floors of a run in place of names: a configuration whose card has met its family.

    Args:
        config: of the run.
        family: of its card; None looks it up, which is done here and nowhere below.
        source: its data; None opens it when it is first asked for.
    """

    def __init__(self, config: TrainConfig, family: Family | None = None, source: Source | None = None) -> None:
        self.config = config
        self.family = load_family(config.card.family) if family is None else family
        self._source = source

    @property
    def source(self) -> Source:
        """The data to train on."""
        if self._source is None:
            self._source = open_source(self.config.data, split="train")
        return self._source

    @cached_property
    def objective(self) -> Objective:
        """What the run trains for; of this run alone, since it may hold a copy of the start weights."""
        return build_objective(self.config.objective, self.config.objective_options)

    @property
    def tokenizer_at_hand(self) -> bool:
        """Whether the tokenizer's weights need no download."""
        return self.config.tokenizer_path is not None or self.config.card.tokenizer.repo is None

    @property
    def tokenizer_needed(self) -> bool:
        """Whether training calls it; from a cache most families do not, and then none is fetched for samples."""
        return not self.source.is_encoded or self.family.options().reads_tokenizer

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, built anew; None where it is not needed and would have to be fetched."""
        if not (self.tokenizer_at_hand or self.tokenizer_needed):
            return None
        return self.family.build_tokenizer(self.config.card.tokenizer, self.config.tokenizer_path)

    def changed(self, **fields: Any) -> Job:
        """The run with other settings, of the same family and on the same data."""
        return Job(self.config.model_copy(update=fields), self.family, self._source)
