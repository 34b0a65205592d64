"""What the user says of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """What the user says of a new run; see `gftzoo.engine.resolve`."""

    model: str
    objective: str = "gft"
    data: str | None = None
    recipe: str | None = None
    steps: int | None = None
    horizon: int | None = None
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fine_tunes(self) -> bool:
        """Whether the run starts from weights."""
        return self.weights is not None or self.options.get("train", "all") != "all"
