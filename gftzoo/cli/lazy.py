"""Commands that say what they take at once, and import what they do when they are called."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any


def does(
    place: str, package: str | None = None, extra: str = ""
) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Makes a function with a command's name and documentation call `module:function` of `gftzoo.cli`.

    It is imported then and not before: what a command does needs the catalogue and torch, its help does not.

    Args:
        place: what is called.
        package: one of an extra that it cannot do without.
        extra: its name.
    """

    def decorate(declared: Callable[[], None]) -> Callable[..., None]:
        @wraps(declared)
        def call(**options: Any) -> None:
            names = (options.get("model"), *options.get("models", ()))
            _function("refusing:refuse_unknown")(names, package, extra)
            _function(place)(**options)

        return call

    return decorate


def completes(name: str) -> Callable[..., Any]:
    """What a shell completes an argument with: a function of `gftzoo.cli.completing`, imported when a shell asks."""

    def complete(*asked: Any) -> Any:
        return _function(f"completing:{name}")(*asked)

    return complete


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(_imported(f"gftzoo.cli.{module}"), name)
    return found


def _imported(name: str) -> ModuleType:
    """A module of which all that its import makes, torch with it, is taken to live as long as the process.

    Looking for garbage among that takes a tenth of the time to import torch, and again in every full collection.
    """
    if name in sys.modules:
        return sys.modules[name]
    enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
