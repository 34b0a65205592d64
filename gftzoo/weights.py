"""Weights in and out: safetensors of our own, official files of others. Nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gftzoo.errors import GftzooError, UsageError
from gftzoo.family import Family
from gftzoo.layers.temperature import with_idle_slope
from gftzoo.model import Model
from gftzoo.parts import join_parts
from gftzoo.plugins import load_family
from gftzoo.tokenizers import Tokenizer
from gftzoo.zoo import ModelCard, get_card

Entry = Literal["raw", "ema"]

CARD_FILE = "card.json"
# Names under which training codes keep their weights, in the order in which they are looked for.
CONTAINERS: Mapping[Entry, tuple[str, ...]] = {
    "ema": ("ema", "model_ema", "ema_state_dict"),
    "raw": ("model", "module", "state_dict"),
}
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Tensors:
    """A flat state dict and where in the file it was."""

    tensors: Mapping[str, Tensor]
    entry: str


def read_tensors(path: str | Path, entry: Entry | None = None) -> Tensors:
    """The state dict in a `.safetensors` or pickled torch file, read without executing anything in it.

    Args:
        path: a file; a torch file may be a bare state dict or hold one under a usual name, next to optimizer state and
            a pickled `argparse.Namespace` (the one foreign class that is allowed).
        entry: `raw` or `ema`; None takes EMA where the file has it, as the official samplers do.

    Raises:
        GftzooError: no such file, truncated, foreign, or holding anything but plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise GftzooError(f"there is no weights file {str(path)!r}.")
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tensors, name = _choose(path, found, entry)
    cleaned = {_without_prefix(key): value for key, value in tensors.items() if isinstance(value, Tensor)}
    if not cleaned:
        raise GftzooError(f"{str(path)!r} holds no tensors; it is not a checkpoint.")
    return Tensors(cleaned, name)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise GftzooError(f"{str(path)!r} is truncated or no safetensors file ({error}).") from error


def _read_own(folder: Path, kind: Entry) -> Mapping[str, Tensor]:
    """The weights in a folder of gftzoo's, one file or the parts of several ranks."""
    if not (folder / kind).is_dir():
        return _read_safetensors(folder / f"{kind}.safetensors")
    try:
        return join_parts(folder / kind)
    except Exception as error:  # damage shows in many types of error
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise GftzooError(f"{str(folder / kind)!r} is damaged ({why[-1]}).") from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises many types for many kinds of damage
        reason = str(error).split("\n", 1)[0][:160]
        raise GftzooError(
            f"{str(path)!r} is truncated, or holds more than tensors and plain data and is not executed "
            f"({type(error).__name__}: {reason})."
        ) from error
    if not isinstance(found, Mapping):
        raise GftzooError(f"{str(path)!r} holds a {type(found).__name__}, not a state dict.")
    return found


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _choose(path: Path, found: Mapping[str, Any], entry: Entry | None) -> tuple[Mapping[str, Any], str]:
    wanted: list[Entry] = [entry] if entry else ["ema", "raw"]
    for kind in wanted:
        for name in CONTAINERS[kind]:
            if isinstance(found.get(name), Mapping):
                return found[name], name
    if entry == "ema" and path.stem != "ema":
        held = [name for name in CONTAINERS["raw"] if isinstance(found.get(name), Mapping)]
        raise UsageError(f"{str(path)!r} has no EMA weights{f', only {held[0]!r}' if held else ''}; use --entry raw.")
    return found, "bare"


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def load_weights(network: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Strictly loads a state dict.

    GftzooError names the first tensor that is missing, unexpected, misshapen or holds what is no number.
    """
    check_fit(network, tensors, where)
    broken = next((key for key, value in tensors.items() if value.is_floating_point() and value.isnan().any()), None)
    if broken is not None:
        raise GftzooError(f"{where} holds NaN in tensor {broken!r}; take an earlier checkpoint or fetch it again.")
    network.load_state_dict(dict(tensors))


def check_fit(network: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """GftzooError that names the first tensor that is missing, unexpected or misshapen."""
    own = network.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    wrong = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if wrong:
        key = wrong[0]
        fault = f"tensor {key!r} has shape {tuple(tensors[key].shape)} and the model needs {tuple(own[key].shape)}"
    elif missing:
        fault = f"tensor {missing[0]!r} is missing ({len(missing)} in all)"
    elif unexpected:
        fault = f"tensor {unexpected[0]!r} is not part of the model ({len(unexpected)} in all)"
    else:
        return
    raise GftzooError(f"{where} does not fit this model: {fault}; check the model's name and resolution.")


def import_model(
    card: ModelCard, path: str | Path, entry: Entry | None = None, tokenizer: Tokenizer | None = None
) -> Model:
    """A model with the weights of an official (or any matching) file.

    Args:
        card: with `temperature` for a network with a beta input; base weights get its fine-tune initialisation.
        path: see `read_tensors`.
        entry: raw or EMA weights, where the file has both.

    Raises:
        GftzooError: the file is damaged or does not fit the card.
    """
    family = load_family(card.family)
    found = read_tensors(path, entry)
    network = family.build_network(card)
    load_weights(network, with_idle_slope(network, family.import_weights(card, found.tensors)), str(path))
    provenance = {"weights": Path(path).name, "sha256": sha256(path), "entry": found.entry}
    return Model(card, network, tokenizer, family, provenance)


def sha256(path: str | Path) -> str:
    """The hash of a file, hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_model(model: Model, folder: str | Path, entry: Entry = "raw") -> None:
    """Writes `<entry>.safetensors` and `card.json` into the folder, creating it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    save_file(state, folder / f"{entry}.safetensors", metadata={"model": model.card.name, "entry": entry})
    write_card(model.card, folder, model.provenance)


def write_card(card: ModelCard, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Writes the card and the provenance of weights beside them."""
    text = json.dumps({"card": card.model_dump(mode="json"), "provenance": dict(provenance)}, indent=1)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> tuple[ModelCard, dict[str, Any]]:
    """The card and provenance in a folder; GftzooError if there is none or it is damaged."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise GftzooError(f"{str(folder)!r} holds no gftzoo model (no {CARD_FILE}).")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return ModelCard.model_validate(found["card"]), dict(found.get("provenance", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise GftzooError(f"{str(path)!r} is damaged ({str(error).splitlines()[0]}).") from error


def load_folder(folder: Path, entry: Entry | None = None, tokenizer_path: str | None = None) -> Model:
    """A model saved by gftzoo; EMA weights where there are any, unless `entry` says otherwise."""
    card, provenance = read_card(folder)
    kinds: list[Entry] = [entry] if entry else ["ema", "raw"]
    kept = next(
        (kind for kind in kinds if (folder / kind).is_dir() or (folder / f"{kind}.safetensors").is_file()), None
    )
    if kept is None:
        raise GftzooError(f"{str(folder)!r} holds no {' or '.join(f'{kind}.safetensors' for kind in kinds)}.")
    family = load_family(card.family)
    network = family.build_network(card)
    load_weights(network, _read_own(folder, kept), f"{kept} of {folder}")
    provenance = {**provenance, "entry": kept, "folder": folder.name}
    return Model(card, network, family.build_tokenizer(card.tokenizer, tokenizer_path), family, provenance)


def load(
    source: str | Path,
    weights: str | Path | None = None,
    *,
    entry: Entry | None = None,
    tokenizer_path: str | None = None,
) -> Model:
    """A model ready to sample.

    Args:
        source: a model's name, or a folder written by `Model.save` or a training run (its newest complete checkpoint).
        weights: only for a name: a checkpoint of the card (`base`, `gft`), a local file, or None for fresh weights.
        entry: `raw` or `ema` where there are both; EMA by default, and the choice is in `model.provenance["entry"]`.
        tokenizer_path: a local folder or file with the tokenizer's weights, where the hub is not reached.
    """
    folder = Path(source)
    if folder.is_dir():
        if weights is not None:
            raise UsageError(f"{str(source)!r} has its own weights; leave out --weights {str(weights)!r}.")
        return load_folder(model_folder(folder), entry, tokenizer_path)
    card = get_card(str(source))
    if weights is None:
        model = Model.fresh(card)
    else:
        path, fitting = resolve_weights(card, weights)
        model = import_model(fitting, path, entry)
    if str(weights) in card.checkpoints:
        model.provenance["objective"] = card.checkpoints[str(weights)].objective
    # Last, since it may be fetched: weights that do not fit are told of at once.
    model.tokenizer = model.family.build_tokenizer(model.card.tokenizer, tokenizer_path)
    return model


def card_of(source: str | Path, weights: str | Path | None = None) -> ModelCard:
    """The card of the model that `load` makes of the same arguments; its weights are not read."""
    if Path(source).is_dir():
        return read_card(model_folder(Path(source)))[0]
    card = get_card(str(source))
    return card if weights is None else resolve_weights(card, weights)[1]


def resolve_weights(card: ModelCard, weights: str | Path) -> tuple[Path, ModelCard]:
    """The local file of a named checkpoint (fetched if need be), of a file or of a folder, and the card that fits it.

    That card has the temperature input where the weights do, and a named checkpoint's own sampler settings.
    """
    if str(weights) in card.checkpoints:
        checkpoint = card.checkpoints[str(weights)]
        steered = checkpoint.objective == "gft"
        fitting = card.change(temperature=steered, sampler={**card.sampler, **checkpoint.sampler})
        return _fetch(checkpoint.repo, checkpoint.file), fitting
    path = Path(weights)
    if path.is_dir():
        path = own_weights(path) or load_family(card.family).weights_file(card, path)
    if not path.is_file():
        names = ", ".join(card.checkpoints) or "none"
        raise UsageError(f"{card.name} has no checkpoint {str(weights)!r} and there is no such file; it has: {names}.")
    return path, card.change(temperature=_has_temperature(card, path))


def _has_temperature(card: ModelCard, path: Path) -> bool:
    """Whether the file has every tensor that the temperature input adds to the network."""
    family: Family = load_family(card.family)
    with torch.device("meta"):
        plain = set(family.build_network(card.change(temperature=False)).state_dict())
        extra = set(family.build_network(card.change(temperature=True)).state_dict()) - plain
    return bool(extra) and extra <= set(read_tensors(path).tensors)


def _fetch(repo: str, file: str | None) -> Path:
    """A file of a hub repository, or below an https address, in the library's cache."""
    from huggingface_hub import hf_hub_download

    if file is None:
        raise UsageError(f"the weights in {repo!r} are a folder; give its local path.")
    try:
        return _download(f"{repo}/{file}") if repo.startswith("https://") else Path(hf_hub_download(repo, file))
    except Exception as error:
        raise GftzooError(
            f"{file!r} could not be fetched from {repo!r} ({type(error).__name__}); "
            "download it where there is a network and give its path with --weights PATH."
        ) from error


def _download(url: str) -> Path:
    target = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not target.is_file():  # it appears there only when it is complete
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target))
    return target


def own_weights(folder: Path, entry: Entry | None = None) -> Path | None:
    """The file with a model's weights in a folder of gftzoo's (EMA before raw, unless `entry` says which), or None."""
    try:
        inside = model_folder(folder)
    except GftzooError:
        return None
    kinds: list[Entry] = [entry] if entry else ["ema", "raw"]
    if any((inside / kind).is_dir() for kind in kinds):
        raise UsageError(
            f"the weights in {str(folder)!r} are in the parts of several ranks; put them together with "
            f"`gftzoo export {folder} OUT --to safetensors` and give OUT."
        )
    return next((file for kind in kinds if (file := inside / f"{kind}.safetensors").is_file()), None)


def model_folder(folder: Path) -> Path:
    """The folder itself if it holds a model, or the newest complete checkpoint of a run."""
    if (folder / CARD_FILE).is_file():
        return folder
    steps = sorted((folder / "checkpoints").glob("step-*/" + CARD_FILE))
    if not steps:
        raise GftzooError(
            f"{str(folder)!r} holds no model and no complete checkpoint; give a run folder or a model's name."
        )
    return steps[-1].parent
