"""What a command is refused for before anything is imported that takes its time. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gftzoo.errors import UsageError
from gftzoo.hub.address import address_of
from gftzoo.zoo import get_card


def refuse_unknown(models: Sequence[str | None], package: str | None, extra: str) -> None:
    """UsageError for a model that is no folder, name or address, and for a package of an extra that is not there."""
    for model in models:
        if model is not None and address_of(model) is None and not Path(model).is_dir():
            get_card(model)
    if package is not None and find_spec(package) is None:
        raise UsageError(f"this needs {package}, which is not installed; run `pip install 'gftzoo[{extra}]'`.")
