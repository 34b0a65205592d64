"""What a run is made of: its data, its settings, and the versions of what computes; kept in every checkpoint."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError

from gftzoo import __version__
from gftzoo.catalogue.cards import Frozen, ModelCard
from gftzoo.data import Source
from gftzoo.data.fingerprint import Fingerprint, fingerprint_of
from gftzoo.engine import checkpoints
from gftzoo.engine.config import CONFIG_FILE, TrainConfig
from gftzoo.engine.step.optimizers import PACKAGES
from gftzoo.errors import UsageError
from gftzoo.plugins.discovery import FAMILIES, OBJECTIVES, SOURCES, WRAPPERS, active

# Settings that decide neither weights nor losses, or that a resumed run may change as the documentation says.
FREE = {
    "model", "card", "data", "steps", "accumulate", "fits", "workers", "compile", "activation_checkpointing",
    "parallel", "offload", "sharded_checkpoints", "device", "log_every", "checkpoint_every", "keep_last", "keep_every",
    "save_on_signal", "sample_every", "sample_grid", "trackers", "tokenizer_path", "weights", "entry",
    "horizon_is_length", "validation", "validation_images", "score", "patience",
}  # fmt: skip
SHOWN = 3  # names in a sentence


class MadeOf(Frozen):
    """In `state.json`, as `made_of`."""

    data: Fingerprint
    settings: dict[str, Any] = Field(description="what of the configuration decides weights and losses")
    card: str = Field(description="hash of the card")
    versions: dict[str, str] = Field(description="of gftzoo, torch and the plugins that take part")


class Origin:
    """What a run is made of, as its next checkpoints say, and what changed since it began; only on the main process."""

    def __init__(self) -> None:
        self.made_of: MadeOf | None = None
        self.changes: list[str] = []

    def look(self, config: TrainConfig, run: Path, source: Source, accept: bool) -> None:
        """Looks at the data; a resumed run keeps what it began with, unless the changes are accepted.

        UsageError as of `compare`.
        """
        self.made_of = made_of(config, source)
        newest = checkpoints.newest(run)
        if newest is not None and not accept:
            recorded = checkpoints.read_state(newest)["made_of"]
            self.made_of, self.changes = compare(recorded, self.made_of, config, run)

    def state(self) -> dict[str, Any]:
        """What of it goes into the state of a checkpoint."""
        return {} if self.made_of is None else {"made_of": self.made_of.model_dump(mode="json")}


def made_of(config: TrainConfig, source: Source) -> MadeOf:
    """What a run with this configuration and data is made of here and now."""
    dumped = config.model_dump(mode="json")
    del dumped["learning_rate"]["horizon"]  # a resume says by itself what becomes of it
    card = config.card.model_dump_json(exclude={"data", "recipes", "scores", "checkpoints"}, exclude_defaults=True)
    return MadeOf(
        data=fingerprint_of(source),
        settings={name: value for name, value in dumped.items() if name not in FREE},
        card=hashlib.sha256(card.encode()).hexdigest()[:16],
        versions=versions(config),
    )


def versions(config: TrainConfig) -> dict[str, str]:
    """Of gftzoo, torch, and the distributions of the plugins and of the optimizer that take part in a run."""
    kind = config.data.partition(":")[0]
    named = {(FAMILIES, config.card.family), (OBJECTIVES, config.objective), (SOURCES, kind)}
    plugins = [
        plugin
        for group in (FAMILIES, OBJECTIVES, SOURCES, WRAPPERS)
        for plugin in active(group)
        if group == WRAPPERS or (group, plugin.name) in named
    ]
    found = {plugin.distribution: plugin.version for plugin in plugins}
    package = PACKAGES.get(config.optimizer.kind)
    if package is not None and find_spec(package) is not None:
        found[package] = version(package)
    return {"gftzoo": __version__, "torch": torch.__version__, **dict(sorted(found.items()))}


def compare(recorded: dict[str, Any], now: MadeOf, config: TrainConfig, run: Path) -> tuple[MadeOf, list[str]]:
    """What a run began with, from its checkpoint, and what is different now, a sentence each.

    Raises:
        UsageError: the classes are others, or a setting that decides the weights.
    """
    try:
        then = MadeOf.model_validate(recorded)
    except ValidationError:
        names = config.card.class_names if now.data.classes else ()
        _refuse_other_classes(names or now.data.classes, now.data.classes, run)
        return now, ["This run was begun by an older gftzoo and does not say what data it had; from now on it does."]
    _refuse_other_classes(then.data.classes, now.data.classes, run)
    _refuse_other_settings(then.settings, now.settings, config, run)
    found = [*_data_sentences(then.data, now.data), *_version_sentences(then.versions, now.versions)]
    if then.card != now.card:
        found.append(f"The model's card in {str(run / CONFIG_FILE)!r} is not the one that the run began with.")
    return then, found and [*found, "With --accept-changes this is said no more."]


def with_classes_of(config: TrainConfig, source: Source) -> ModelCard:
    """The card of a run with the data's names of the classes; UsageError where there are not as many."""
    names = tuple(source.class_names)
    if config.card.condition != "class" or not names:
        return config.card
    if len(names) != config.card.classes:
        raise UsageError(
            f"data {config.data!r} has {len(names)} classes and the run's network {config.card.classes}, which cannot "
            "be accepted; put them back, or start a new run."
        )
    return config.card.model_copy(update={"class_names": names})


def _refuse_other_classes(then: tuple[str, ...], now: tuple[str, ...], run: Path) -> None:
    if then == now:
        return
    added, gone = set(now) - set(then), set(then) - set(now)
    changes = [f"{_names(gone)} is gone"] if gone else []
    changes += [f"{_names(added)} is new"] if added else []
    where = next((i for i, pair in enumerate(zip(then, now, strict=False)) if pair[0] != pair[1]), None)
    if where is not None:
        changes.append(f"class {where} was {then[where]!r} and is {now[where]!r}")
    if len(then) != len(now):
        advice = f"the network has {len(then)} classes, so put them back"
    else:
        advice = f"put them back, or go on with `gftzoo train --resume {quote(str(run))} --accept-changes`"
    raise UsageError(
        f"the data of run {str(run)!r} has other classes than at its start ({'; '.join(changes)}); {advice}."
    )


def _names(names: set[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _refuse_other_settings(then: dict[str, Any], now: dict[str, Any], config: TrainConfig, run: Path) -> None:
    for name in sorted(then.keys() & now.keys()):
        if with_new_fields(then[name], now[name], getattr(config, name)) != now[name]:
            raise UsageError(
                f"{name} is {now[name]!r} in {str(run / CONFIG_FILE)!r} and the run was begun with {then[name]!r}; "
                f"put it back, go on with --accept-changes, or train on from these weights in a run of its own: "
                f"{from_these_weights(config, run)} with it."
            )


def with_new_fields(then: Any, now: Any, value: Any) -> Any:
    """A setting as an older gftzoo recorded it, with the defaults of the fields that it has gained since."""
    if not isinstance(value, BaseModel):
        return then
    gained = {name: type(value).model_fields[name].default for name in now.keys() - then.keys()}
    return {**then, **gained}


def from_these_weights(
    config: TrainConfig, run: Path, options: tuple[str, ...] = (), horizon: int | None = None
) -> str:
    """The command that starts a new run from the newest weights of another."""
    words = ["gftzoo", "train", config.model, "--objective", config.objective, "--data", quote(config.data)]
    words += ["--weights", quote(str(run)), *(f"-o {quote(option)}" for option in options)]
    return f"`{' '.join([*words, *([f'--horizon {horizon}'] if horizon else [])])}`"


def _data_sentences(then: Fingerprint, now: Fingerprint) -> list[str]:
    counts = [
        f"class {name!r} had {before:,} images and has {after:,}"
        for name, before, after in zip(now.classes, then.counts, now.counts, strict=False)
        if before != after
    ]
    if counts:
        more = f" and {len(counts) - SHOWN} more classes" if len(counts) > SHOWN else ""
        return [f"The data is not what the run began with: {'; '.join(counts[:SHOWN])}{more}."]
    if then.images != now.images:
        return [f"The data is not what the run began with: it had {_count(then)} images and has {_count(now)}."]
    if then.content != now.content:
        return ["The data is not what the run began with: as many images, and others among them."]
    if then.times != now.times:
        return ["Files of the data were written again since the run began; those that were looked at hold the same."]
    return []


def _count(data: Fingerprint) -> str:
    return "an unknown number of" if data.images is None else f"{data.images:,}"


def _version_sentences(then: dict[str, str], now: dict[str, str]) -> list[str]:
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if not names:
        return []
    changes = [f"{name} {then.get(name, 'was not there')} (now {now.get(name, 'not there')})" for name in names]
    return [f"The run began with {', '.join(changes)}; weights may differ in their last digits, or more."]
