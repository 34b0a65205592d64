"""A run that is wanted by a file: the whole configuration that a run writes, or what of it somebody wrote by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gftzoo.catalogue.cards import validation_sentence
from gftzoo.documents import read_yaml
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.run.options import GROUPS as OPTION_GROUPS
from gftzoo.engine.run.options import dotted, option_names, suiting
from gftzoo.engine.run.wanted import Wanted
from gftzoo.errors import UsageError, nearest

FIELDS = {"objective": "objective_options"}  # groups of options that a configuration calls otherwise
GROUPS = {FIELDS.get(group, group): group for group in OPTION_GROUPS}
NAMED = ("model", "objective", "data", "recipe", "weights", "steps", "horizon")  # what `Wanted` has fields for


def read_run(path: Path) -> TrainConfig | Wanted:
    """The run that a YAML file describes.

    With a `card` it is a whole configuration, as a run's `config.yaml`, `--out` and `--print-config` have it. Without
    one it says what is wanted: `model` and whatever else `gftzoo train` takes, by the names of the configuration.

    Raises UsageError for a field that there is not or a value that is not valid.
    """
    found = read_yaml(path)
    if not isinstance(found, dict) or "model" not in found:
        raise UsageError(
            f"{str(path)!r} describes no run: it has no `model`; `gftzoo train MODEL --print-config` does."
        )
    if "card" not in found:
        return _wanted(found, path)
    try:
        return TrainConfig.model_validate(found)
    except ValidationError as error:
        raise UsageError(validation_sentence(repr(str(path)), error, TrainConfig)) from error


def _wanted(found: Mapping[str, Any], path: Path) -> Wanted:
    options: dict[str, Any] = {}
    for key, value in found.items():
        if key in GROUPS and isinstance(value, dict):
            options |= {f"{GROUPS[key]}.{inner}": each for inner, each in value.items()}
        elif key not in NAMED:
            options[key] = value
    plain = [key for key in options if "." not in str(key)]
    unknown = next((key for key in plain if key not in option_names()), None)
    if unknown is not None:
        valid = [*NAMED, *GROUPS, *option_names()]
        meant = nearest(str(unknown), valid)
        raise UsageError(f"{str(path)!r} has an unknown field {unknown!r}{meant}; valid are {', '.join(valid)}.")
    return Wanted(options=options, **{name: found[name] for name in NAMED if found.get(name) is not None})


def overridden(
    run: TrainConfig | Wanted, options: Mapping[str, Any], steps: int | None = None, horizon: int | None = None
) -> TrainConfig | Wanted:
    """The run of a file with what was said beside it, which comes first.

    UsageError for an option that a whole configuration has decided already, since its card and weights follow from it.
    """
    if isinstance(run, Wanted):
        steps = run.steps if steps is None else steps
        horizon = run.horizon if horizon is None else horizon
        return replace(run, options={**run.options, **options}, steps=steps, horizon=horizon)
    decided = [key for key in options if key.startswith("network.") or key not in _fields_of(run, options)]
    if decided:
        raise UsageError(
            f"option {decided[0]!r} changes what the card of a whole configuration says; edit the file, or name the "
            "model and its options without it."
        )
    options = {**suiting(options), **options}
    changes: dict[str, Any] = {key: value for key, value in options.items() if "." not in key}
    for field, group in GROUPS.items():
        inner = dotted(options, group)
        if inner:
            changes[field] = {**_dumped(run)[field], **inner}
    if steps is not None:
        changes["steps"] = steps
    changes |= {"fits": tuple(name for name in run.fits if name not in options)}
    return _with_curves(run, changes, horizon)


def _dumped(run: TrainConfig) -> dict[str, Any]:
    return run.model_dump(mode="json")


def _fields_of(run: TrainConfig, options: Mapping[str, Any]) -> set[str]:
    """The options that a whole configuration takes: its own fields, and those of its groups."""
    groups = [group for group in GROUPS.values() if group != "network"]
    return {key for key in options if key.partition(".")[0] in groups and "." in key} | set(_dumped(run)) - {
        "card",
        "model",
    }


def _with_curves(run: TrainConfig, changes: dict[str, Any], horizon: int | None) -> TrainConfig:
    """The changed configuration, its curves over a new horizon, or over the new number of steps where it was that."""
    fields = {**_dumped(run), **changes}
    if horizon is not None:
        fields |= {"learning_rate": {**fields["learning_rate"], "horizon": horizon}, "horizon_is_length": False}
    elif run.horizon_is_length and fields["learning_rate"].get("horizon") == run.learning_rate.horizon:
        fields["learning_rate"] = {**fields["learning_rate"], "horizon": fields["steps"]}
    try:
        return TrainConfig.model_validate(fields)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"training {run.model}", error, TrainConfig)) from error
