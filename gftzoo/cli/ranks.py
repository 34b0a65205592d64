"""What is printed once, however many ranks there are."""

from __future__ import annotations

import os

from gftzoo import printing


def first_rank() -> bool:
    """Whether this process is the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str, err: bool = False) -> None:
    """Prints once, made safe for a terminal."""
    if first_rank():
        printing.say(text, err=err)
