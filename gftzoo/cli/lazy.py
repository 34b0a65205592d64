"""Commands that say what they take at once, and import what they do when they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any


def does(place: str) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Makes a function with a command's name and documentation call `module:function` of `gftzoo.cli`.

    It is imported then and not before: what a command does needs torch, its help does not.
    """

    def decorate(declared: Callable[[], None]) -> Callable[..., None]:
        @wraps(declared)
        def call(**options: Any) -> None:
            module, _, name = place.partition(":")
            getattr(import_module(f"gftzoo.cli.{module}"), name)(**options)

        return call

    return decorate
