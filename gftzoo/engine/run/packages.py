"""The packages beside gftzoo's own that a run asks for."""

from __future__ import annotations

from gftzoo.adapters.quantising import refuse_without_package
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.step.optimizers import refuse_missing_package
from gftzoo.errors import UsageError


def refuse_missing_packages(config: TrainConfig) -> None:
    """UsageError where a tracker, the optimizer or a base in few bits is of a package that is not installed."""
    if config.trackers:
        from gftzoo.engine.record.trackers import refuse_missing  # with mmengine, slow to import

        refuse_missing(config)
    refuse_missing_package(config)
    if config.halves_base:
        refuse_without_package(config.lora.base)


def missing_package(config: TrainConfig) -> str | None:
    """The sentence that such a run would end with, or None."""
    try:
        refuse_missing_packages(config)
    except UsageError as error:
        return str(error)
    return None
