"""What `-o KEY=VALUE` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gftzoo.documents import parse_value
from gftzoo.engine.config import TrainConfig
from gftzoo.errors import UsageError, nearest

# Fields of TrainConfig that `-o` has under other names, or not at all: groups are dotted.
_NOT_OPTIONS = {
    "model", "card", "objective_options", "learning_rate", "lora", "optimizer", "score", "horizon_is_length",
}  # fmt: skip
GROUPS = ("network", "objective", "learning_rate", "lora", "optimizer", "score")
CARD_OPTIONS = ("tokenizer", "resolution", "text_encoder")
# What optimizers take in place of a recipe's: a factor of the rate that Prodigy finds; no curve and no second average.
SUITING: dict[str, dict[str, Any]] = {
    "prodigy": {"lr": 1.0},
    "schedule-free": {"learning_rate.kind": "constant", "ema_decay": None},
}


def option_names() -> list[str]:
    """The plain keys `-o` takes; those of `GROUPS` are dotted."""
    return sorted(set(TrainConfig.model_fields) - _NOT_OPTIONS) + list(CARD_OPTIONS)


def parse_options(pairs: Sequence[str], valid: Sequence[str] | None = None) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML; UsageError for an unknown key, with the nearest.

    Args:
        pairs: as given with `-o`.
        valid: the keys that there are; None for all that a run has, with the dotted ones.
    """
    options: dict[str, Any] = {}
    groups = GROUPS if valid is None else ()
    valid = option_names() if valid is None else valid
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"option {pair!r} has no value; write -o key=value.")
        dotted = key.partition(".")[0] in groups and "." in key
        if key not in valid and not dotted:
            raise UsageError(f"unknown option {key!r}{nearest(key, valid)}; valid are {', '.join(valid)}.")
        options[key] = _number(parse_value(value, f"option {key!r}"))
    return options


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def dotted(options: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The options of a group without its name: `lr` of `network.lr`."""
    prefix = f"{group}."
    return {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}


def suiting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that go with the optimizer that is asked for, where nobody says otherwise."""
    return SUITING.get(str(options.get("optimizer.kind")), {})
