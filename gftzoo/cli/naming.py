"""The data that a command is about, as its options name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


def validated(data: str | None, validation: str | None, options: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The data and the options of a run with its validation: a share of the data, or images of their own.

    A share goes into the data's name, so that every command leaves the same images out. UsageError for what is neither.
    """
    if validation is None:
        return data, options
    if re.fullmatch(r"[\d.]+%?", validation):
        if data is None:
            raise UsageError("--validation takes its share from the data; name it with --data SOURCE.")
        return with_settings(data, validation=validation), {**options, "validation": "held-out"}
    source = validation if ":" in validation or not Path(validation).is_dir() else f"imagefolder:{validation}"
    return data, {**options, "validation": source}
