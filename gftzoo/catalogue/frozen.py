"""Data from disk or the command line as pydantic models. No torch here."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """Data from disk or the command line: immutable; unknown keys, infinities and `true` for a number are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_for_a_number(cls, data: Any) -> Any:
        for key, value in data.items() if isinstance(data, dict) else ():
            field = cls.model_fields.get(key) if isinstance(value, bool) else None
            if field is not None and not _takes_truth(field.annotation):
                raise ValueError(f"{key} = {value} is not valid: input should not be true or false")
        return data


class Choice(Frozen):
    """Options of which one value decides what the others are."""

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> type[Self]:  # noqa: ARG003 (for subclasses)
        """The options that these settings are of."""
        return cls


def _takes_truth(annotation: Any) -> bool:
    """Whether a field's type has room for a boolean that is meant as one."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return any(_takes_truth(part) for part in get_args(annotation))
    return annotation not in (int, float)
