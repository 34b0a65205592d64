"""How guidance may change over the sampling: in a module of its own, which help texts import without pydantic."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["constant", "linear", "power-cosine"]
