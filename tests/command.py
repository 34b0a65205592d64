"""The command line, called in this process."""

from __future__ import annotations

import pytest

from gftzoo.cli import main


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)
