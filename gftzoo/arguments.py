"""Arguments of the Python API that are not what they can be, as one sentence each and before anything is computed."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence, Set
from numbers import Real
from pathlib import Path
from typing import Any

from gftzoo.errors import UsageError
from gftzoo.printing import plain


def shown(value: object) -> str:
    """A value for a sentence, with its type."""
    return f"{plain(repr(value), 60)} ({type(value).__name__})"


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number of Python or NumPy, or a tensor of one; UsageError for anything else, or below `least`."""
    wanted = "a whole number" if least is None else f"a whole number from {least}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or (least is not None and number < least):
        raise UsageError(f"{name} is {shown(value)}; it is {wanted}.")
    return number


def real(name: str, value: Any) -> float:
    """A number of Python or NumPy, or a tensor of one; UsageError for anything else."""
    single = getattr(value, "ndim", None) == 0 and hasattr(value, "item")  # of NumPy or torch
    number = value.item() if single else value
    if isinstance(number, bool) or not isinstance(number, Real):
        raise UsageError(f"{name} is {shown(value)}; it is a number.")
    return float(number)


def choice(name: str, value: Any, valid: Sequence[str]) -> None:
    """UsageError for what is neither None nor one of some words."""
    if value is not None and value not in valid:
        raise UsageError(f"{name} is {shown(value)}; valid are {', '.join(valid)}.")


def flag(name: str, value: Any) -> bool:
    """True or false; UsageError for anything else."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {shown(value)}; it is True or False.")
    return value


def latents(value: Any, channels: int, side: int, codes: bool) -> None:
    """UsageError for what is no tensor of latents (B, channels, side, side), or of codes (B, N) if there are."""
    shape, floating = tuple(getattr(value, "shape", ())), getattr(value, "is_floating_point", None)
    vectors = len(shape) == 4 and shape[1:] == (channels, side, side)
    if floating is None or not (vectors if floating() else codes and len(shape) == 2):
        coded = " or whole numbers (B, N)" if codes else ""
        got = shown(value) if floating is None else f"{value.dtype} of shape {shape}"
        raise UsageError(
            f"latents are {got}; they are a tensor of numbers (B, {channels}, {side}, {side}){coded}, as the tokenizer "
            "encodes."
        )


def text(name: str, value: Any) -> str:
    """Text; UsageError for anything else."""
    if not isinstance(value, str):
        raise UsageError(f"{name} is {shown(value)}; it is text.")
    return value


def path(name: str, value: Any) -> Path:
    """A path, or its text; UsageError for anything else."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} is {shown(value)}; it is a path or its text.")
    return Path(value)


def conditions(value: Any) -> list[int | str]:
    """Class indices, names or prompts, one for each image; UsageError for anything else, or for none.

    An array or tensor of whole numbers is a list of indices.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bytes | Set | dict) or not isinstance(value, Iterable):
        hint = f"; write [{value!r}] for one image" if isinstance(value, str | int) else ""
        raise UsageError(f"conditions are {shown(value)} and no list of classes or prompts{hint}.")
    found = [each if isinstance(each, str) else whole(f"condition {i}", each) for i, each in enumerate(value)]
    if not found:
        raise UsageError("conditions are empty; give a class or prompt for each image, e.g. [0, 1].")
    return found
