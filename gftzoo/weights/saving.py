"""gftzoo's own folders: safetensors, the card, and where the weights come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from gftzoo.atomic import written_whole
from gftzoo.catalogue.cards import ModelCard, validation_sentence
from gftzoo.checksums import CARD_FILE, verify
from gftzoo.contract.model import Model
from gftzoo.documents import DocumentError, read_json
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import words
from gftzoo.weights.folders import kinds_of
from gftzoo.weights.names import Entry
from gftzoo.weights.reading import read_safetensors, reason, safetensors_metadata


def save_model(model: Model, folder: str | Path, entry: Entry | None = None) -> None:
    """Writes `<entry>.safetensors` and `card.json` into the folder, creating it.

    `entry` None is what was read: an average is saved as `ema.safetensors`, everything else as `raw.safetensors`, which
    weights are too that were trained further since they were read.

    Raises:
        DiskError: the folder cannot be written; what was there is as it was.
        UsageError: it holds the other of raw and averaged weights, which could be taken for these.
    """
    folder = Path(folder)
    provenance = trained_further(model.provenance) if model.changed else model.provenance
    kind: Entry = entry or ("ema" if provenance.get("entry") == "ema" else "raw")
    other = next(each for each in kinds_of(None) if each != kind)
    if holds(folder, other):
        raise UsageError(f"{str(folder)!r} holds {other!r} weights already and these are {kind!r}; name a new folder.")
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    with written_whole(folder / f"{kind}.safetensors") as partial:
        save_file(state, partial, metadata=metadata_of(model.card, kind, provenance))
    write_card(model.card, folder, {**provenance, "entry": kind})


def metadata_of(card: ModelCard, entry: str, provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a weights file says of itself, should it be copied away from its card; read by `told_of`."""
    objective = provenance.get("objective")
    about = {"model": card.name, "family": card.family, "entry": entry, "sampler": json.dumps(card.sampler)}
    return about | ({"objective": objective} if isinstance(objective, str) else {})


def told_of(path: Path) -> tuple[str | None, dict[str, Any], str | None]:
    """The family, sampler settings and objective that a weights file of gftzoo's names; nothing of any other file.

    Raises GftzooError where its settings are damaged.
    """
    found = safetensors_metadata(path)
    if not found.get("model"):
        return None, {}, None
    try:
        sampler = json.loads(found.get("sampler", "{}"))
    except (ValueError, RecursionError):
        sampler = None
    if not isinstance(sampler, dict):
        raise GftzooError(f"{str(path)!r} names sampler settings that are none; copy it again.")
    return found.get("family"), sampler, found.get("objective")


def write_card(card: ModelCard, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Writes the card and the provenance of weights beside them."""
    text = json.dumps({"card": card.model_dump(mode="json"), "provenance": dict(provenance)}, indent=1)
    with written_whole(folder / CARD_FILE) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def trained_further(start: Mapping[str, Any], **training: Any) -> dict[str, Any]:
    """The provenance of weights that a run has changed: the run, and what it started from.

    Args:
        start: provenance of the model that trained; its objective is the run's, and so are the record of an adapter and
            the one temperature of a network that is told none.
        training: of the run, e.g. its name and step.
    """
    own = {key: start[key] for key in ("adapter", "one_beta") if key in start}
    before = {key: value for key, value in start.items() if key not in own and key != "objective"}
    return {"objective": start.get("objective"), **training, **own, "started_from": before}


def read_card(folder: Path) -> tuple[ModelCard, dict[str, Any]]:
    """The card and provenance in a folder; GftzooError if there is none or it is damaged."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise GftzooError(f"{str(folder)!r} holds no gftzoo model (no {CARD_FILE}).")
    verify(path)
    try:
        found = read_json(path)
    except DocumentError as error:
        raise GftzooError(f"{str(folder)!r} is damaged: {error}") from error
    try:
        return ModelCard.model_validate(found["card"]), dict(found.get("provenance", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = error if isinstance(error, ValidationError) else ValueError(f"it holds no {words(error)}")
        raise GftzooError(validation_sentence(f"{str(path)!r} is damaged", fault, ModelCard)) from error


def holds(folder: Path, kind: Entry) -> bool:
    """Whether a folder of gftzoo's has these weights, in one file or in parts."""
    return (folder / kind).is_dir() or (folder / f"{kind}.safetensors").is_file()


def read_own(folder: Path, kind: Entry) -> Mapping[str, Tensor]:
    """The weights in a folder of gftzoo's, one file or the parts of several ranks."""
    if not (folder / kind).is_dir():
        return read_safetensors(folder / f"{kind}.safetensors")
    from gftzoo.parts import join_parts  # slow to import, and most weights are one file

    verify(folder / kind)
    try:
        return join_parts(folder / kind)
    except Exception as error:  # damage shows in many types of error
        raise GftzooError(f"{str(folder / kind)!r} is damaged ({reason(error)}).") from error
