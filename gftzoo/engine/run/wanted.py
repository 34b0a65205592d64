"""What the user says of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gftzoo.arguments import path, shown, text
from gftzoo.errors import UsageError


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
    unseen: bool = False  # a plan of the recipe itself, where no data is named: no demonstration takes its place

    def __post_init__(self) -> None:
        for name in ("model", "objective"):
            text(name, getattr(self, name))
        for name in ("data", "recipe"):
            text(name, getattr(self, name) or "")
        path("weights", self.weights or "")
        if not isinstance(self.options, Mapping) or not all(isinstance(key, str) for key in self.options):
            raise UsageError(f"options are {shown(self.options)}; they are a mapping of names to values.")

    @property
    def fine_tunes(self) -> bool:
        """Whether the run starts from weights."""
        return self.weights is not None or self.options.get("train", "all") != "all"
