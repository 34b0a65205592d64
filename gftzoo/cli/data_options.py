"""Options of commands that take data: how its pictures are decoded, and where they may lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gftzoo.errors import UsageError


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --background and --allow-outside, which `named` puts behind the name of the data."""
    options = [
        click.option("--background", help="Colour behind transparent pictures: a name or RRGGBB; white."),
        click.option("--allow-outside", is_flag=True, help="Read files that the data names outside its own folder."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def named(data: str | None, background: str | None, allow_outside: bool) -> str | None:
    """The name of the data with what the options say behind it; UsageError where no data is named."""
    from gftzoo.data.settings import with_settings

    if background is None and not allow_outside:
        return data
    if data is None:
        option = "--background" if background is not None else "--allow-outside"
        raise UsageError(f"{option} is about the data; name it with --data SOURCE.")
    return with_settings(data, background=background, outside="yes" if allow_outside else None)
