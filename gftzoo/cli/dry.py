"""What `gftzoo train --dry-run` is asked for. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gftzoo.engine.parallel.gpus import Gpu


@dataclass(frozen=True)
class Machine:
    """What a run is planned for, somewhere else: `count` GPUs of a kind, at a price for each and hour."""

    gpu: Gpu
    count: int = 1
    price: float | None = None
    utilisation: float | Path | None = None


@dataclass(frozen=True)
class Dry:
    """Whether a run is only looked at, with steps that are measured, on another machine, and where it is written to."""

    wanted: bool = False
    measure: bool = False
    out: Path | None = None
    machine: Machine | None = None


TRAINS = Dry()
