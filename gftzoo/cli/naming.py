"""The data that a command is about, as its options name it."""

from __future__ import annotations

from gftzoo.data.settings import with_settings
from gftzoo.errors import UsageError


def named(data: str | None, background: str | None, allow_outside: bool) -> str | None:
    """The name of the data with what the options say behind it; UsageError where no data is named."""
    if background is None and not allow_outside:
        return data
    if data is None:
        option = "--background" if background is not None else "--allow-outside"
        raise UsageError(f"{option} is about the data; name it with --data SOURCE.")
    return with_settings(data, background=background, outside="yes" if allow_outside else None)
