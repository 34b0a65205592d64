"""Commands that say what they take at once, and import what they do when they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gftzoo.errors import UsageError
from gftzoo.hub.address import address_of
from gftzoo.zoo import get_card


def check_name(model: str | None) -> None:
    """UsageError for a model that is no folder, name or address, before anything is imported that takes its time."""
    if model is not None and address_of(model) is None and not Path(model).is_dir():
        get_card(model)


def needs(package: str, extra: str) -> None:
    """UsageError with the command that installs it where a package of an extra is not there."""
    if find_spec(package) is None:
        raise UsageError(f"this needs {package}, which is not installed; run `pip install 'gftzoo[{extra}]'`.")


def does(
    place: str, package: str | None = None, extra: str = ""
) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Makes a function with a command's name and documentation call `module:function` of `gftzoo.cli`.

    It is imported then and not before: what a command does needs torch, its help does not.

    Args:
        place: what is called.
        package: one of an extra that it cannot do without.
        extra: its name.
    """

    def decorate(declared: Callable[[], None]) -> Callable[..., None]:
        @wraps(declared)
        def call(**options: Any) -> None:
            for name in (options.get("model"), *options.get("models", ())):
                check_name(name)
            if package is not None:
                needs(package, extra)
            module, _, name = place.partition(":")
            getattr(import_module(f"gftzoo.cli.{module}"), name)(**options)

        return call

    return decorate
