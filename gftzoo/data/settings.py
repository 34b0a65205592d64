"""What a data source's name says about reading it: `imagefolder:photos#background=black#pixels=400000000`.

The settings stand in the name, so that they go wherever it goes: a run's config, a cache's manifest, a score record.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from PIL import ImageColor
from pydantic import Field, ValidationError, field_validator

from gftzoo.catalogue.cards import Frozen, validation_sentence
from gftzoo.errors import UsageError

LARGEST = 178_956_970  # pixels; what Pillow, too, takes for a decompression bomb


class Decoding(Frozen):
    """How the pictures of a source are decoded, and where they may lie."""

    background: tuple[int, int, int] = Field(
        (255, 255, 255), description="what transparent parts show: a colour's name, or RRGGBB"
    )
    pixels: int = Field(LARGEST, gt=0, description="the largest picture, width times height; larger ones are skipped")
    range: tuple[float, float] | None = Field(
        None, description="LOW:HIGH, black and white of pictures with more than 8 bits a channel, in their own units"
    )
    check: Literal["auto", "full", "sampled"] = Field(
        "auto",
        description="which pictures are decoded before the first start, to leave out damaged ones: all (full), or some "
        "(sampled), which auto takes of 10,000 pictures on",
    )
    outside: bool = Field(False, description="files that lie outside the data's folder are read too")

    validation: float | None = Field(
        None, gt=0, le=0.5, description="share of every class, e.g. 5%, that training does not see"
    )

    @field_validator("validation", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"[\d.]+%", value):
            return float(value[:-1]) / 100
        return value

    @field_validator("background", mode="before")
    @classmethod
    def _colour(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        hexadecimal = re.fullmatch(r"[0-9a-fA-F]{6}|[0-9a-fA-F]{3}", value)
        try:
            return ImageColor.getrgb(f"#{value}" if hexadecimal else value)[:3]
        except ValueError:
            raise ValueError("a colour is a name such as white or black, or RRGGBB such as 8080ff") from None

    @field_validator("range", mode="before")
    @classmethod
    def _ends(cls, value: Any) -> Any:
        return tuple(value.split(":")) if isinstance(value, str) else value

    @field_validator("range")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("a range is LOW:HIGH with LOW below HIGH, such as 0:4095")
        return value


_SETTINGS = re.compile(rf"((?:#(?:{'|'.join(Decoding.model_fields)})=[^#]*)+)$")


def split_settings(name: str) -> tuple[str, Decoding]:
    """A source's name, or a path, without its settings, and those; UsageError for a value that there is not."""
    found = _SETTINGS.search(name)
    if found is None:
        return name, Decoding()
    pairs = dict(part.split("=", 1) for part in found[1][1:].split("#"))
    try:
        return name[: found.start()], Decoding.model_validate(pairs)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"data {name!r}", error, Decoding)) from error


def with_settings(name: str, **settings: str | None) -> str:
    """A source's name with settings behind it, those of None left out."""
    return name + "".join(f"#{key}={value}" for key, value in settings.items() if value is not None)


def settings_of(name: str) -> str:
    """The settings in a name, as they are written there."""
    found = _SETTINGS.search(name)
    return found[1] if found else ""
