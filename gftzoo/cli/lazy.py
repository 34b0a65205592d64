"""Commands that say what they take at once, and import what they do when they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from gftzoo.hub.address import address_of
from gftzoo.zoo import get_card


def check_name(model: str | None) -> None:
    """UsageError for a model that is no folder, name or address, before anything is imported that takes its time."""
    if model is not None and address_of(model) is None and not Path(model).is_dir():
        get_card(model)


def does(place: str) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Makes a function with a command's name and documentation call `module:function` of `gftzoo.cli`.

    It is imported then and not before: what a command does needs torch, its help does not.
    """

    def decorate(declared: Callable[[], None]) -> Callable[..., None]:
        @wraps(declared)
        def call(**options: Any) -> None:
            check_name(options.get("model"))
            module, _, name = place.partition(":")
            getattr(import_module(f"gftzoo.cli.{module}"), name)(**options)

        return call

    return decorate
