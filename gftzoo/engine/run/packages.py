"""The packages beside gftzoo's own that a run asks for."""

from __future__ import annotations

from importlib.util import find_spec

from gftzoo.adapters.quantising import refuse_without_package
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.step.optimizers import refuse_missing_package
from gftzoo.errors import UsageError


def refuse_missing_packages(config: TrainConfig) -> None:
    """UsageError where a tracker, the optimizer or a base in few bits is of a package that is not installed."""
    refuse_missing_trackers(config)
    refuse_missing_package(config)
    if config.halves_base:
        refuse_without_package(config.lora.base)


def refuse_missing_trackers(config: TrainConfig) -> None:
    """UsageError if a tracker's package is not installed."""
    missing = [name for name in config.trackers if find_spec(name) is None]
    if missing:
        ours = missing[0] in ("tensorboard", "wandb")
        how = "`pip install 'gftzoo[trackers]'`" if ours else f"`pip install {missing[0]}`"
        raise UsageError(
            f"tracker {missing[0]!r} needs the package {missing[0]!r}, which is not installed; "
            f"{how}, or leave it out of -o trackers."
        )


def missing_package(config: TrainConfig) -> str | None:
    """The sentence that such a run would end with, or None."""
    try:
        refuse_missing_packages(config)
    except UsageError as error:
        return str(error)
    return None
