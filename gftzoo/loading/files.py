"""Models with weights: from a name and a checkpoint, a file or a folder of others, or a folder of gftzoo's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gftzoo.catalogue.cards import Checkpoint, ModelCard
from gftzoo.checksums import CARD_FILE
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.hub import address_of, local_copy
from gftzoo.layers.temperature import with_idle_slope
from gftzoo.model import Model
from gftzoo.weights.fetching import fetch
from gftzoo.weights.fitting import check_fit, completed, empty_network, load_weights
from gftzoo.weights.folders import kinds_of, missing, own_weights
from gftzoo.weights.names import Entry
from gftzoo.weights.reading import fingerprint, read_tensors, safetensors_metadata
from gftzoo.weights.saving import holds, read_card, read_own, told_of


@dataclass(frozen=True)
class Located:
    """Weights for a card, on this machine.

    Args:
        path: a file, or the index of shards.
        card: with a temperature input where the weights have one, and the sampler settings that belong to them.
        family: of the card.
        entry: what the file holds where it does not say so itself; None if that is not known.
        objective: what the weights were trained for, where it is known.
        origin: what the provenance says besides, of weights from the hub.
    """

    path: Path
    card: ModelCard
    family: Family
    entry: Entry | None = None
    objective: str | None = None
    origin: dict[str, Any] = field(default_factory=dict)


def locate(card: ModelCard, weights: str | Path, entry: Entry | None = None, family: Family | None = None) -> Located:
    """A named checkpoint or one of the hub (fetched if need be), a file or a folder, and the card that fits it.

    `family` is the card's, where it is at hand.

    A file with a temperature input that gftzoo did not write is taken for one of GFT's released code, and gets the
    sampler settings of the card's published one.

    Raises UsageError for a name that the card has not, no such file, or an entry that is not there.
    """
    family = family or load_family(card.family)
    address = address_of(weights)
    if address is not None:
        copy = local_copy(address)
        return replace(locate(card, copy.folder, entry, family), origin=copy.provenance)
    if str(weights) in card.checkpoints:
        published = card.checkpoints[str(weights)]
        refuse_other_entry(card, str(weights), entry)
        fitting = _with_sampler(card.change(temperature=published.objective == "gft"), published.sampler)
        return Located(fetch(published), fitting, family, published.entry, published.objective)
    path = Path(weights)
    refuse_unknown(card, weights)
    if path.is_dir():
        path = own_weights(path, entry) or family.weights_file(card, path, entry)
    fitting = card.change(temperature=_has_temperature(card, family, path, entry))
    if _is_own(path):
        own, provenance = read_card(path.parent)
        settings = own.sampler if own.family == card.family else {}
        return Located(path, _with_sampler(fitting, settings), family, objective=provenance.get("objective"))
    if safetensors_metadata(path).get("model"):  # of gftzoo's, copied away from its card
        of, settings, objective = told_of(path)
        return Located(path, _with_sampler(fitting, settings if of == card.family else {}), family, objective=objective)
    released = _released(fitting)
    if released is None:
        return Located(path, fitting, family)
    return Located(path, _with_sampler(fitting, released.sampler), family, objective=released.objective)


def refuse_unknown(card: ModelCard, weights: str | Path) -> None:
    """UsageError for weights that are neither a checkpoint of the card nor a file or folder; nothing is fetched."""
    if address_of(weights) is None and str(weights) not in card.checkpoints and not Path(weights).exists():
        names = ", ".join(card.checkpoints) or "none"
        raise UsageError(
            f"{card.name} has no checkpoint {str(weights)!r} and there is no such file; it has: {names}; "
            "--weights takes a file, a folder or hub:OWNER/NAME, too."
        )


def refuse_other_entry(card: ModelCard, name: str, entry: Entry | None) -> None:
    """UsageError for an entry that a published file has not, as far as the catalogue says; nothing is fetched."""
    holds = card.checkpoints[name].entry
    if entry == "ema" and holds == "raw":
        note = card.checkpoints[name].note
        raise UsageError(f"checkpoint {name!r} of {card.name} holds raw weights only; leave --entry out ({note}).")


def _with_sampler(card: ModelCard, settings: dict[str, Any]) -> ModelCard:
    return card.change(sampler={**card.sampler, **settings})


def _is_own(path: Path) -> bool:
    """Whether the file lies in a folder of gftzoo's, as its weights do."""
    return path.name in ("raw.safetensors", "ema.safetensors") and (path.parent / CARD_FILE).is_file()


def _released(card: ModelCard) -> Checkpoint | None:
    """The checkpoint of GFT's released code that a file with a temperature input is like."""
    published = card.checkpoints.values() if card.temperature else ()
    return next((checkpoint for checkpoint in published if checkpoint.objective == "gft"), None)


def _has_temperature(card: ModelCard, family: Family, path: Path, entry: Entry | None) -> bool:
    """Whether the file has every tensor that the temperature input adds to the network."""
    plain, steered = (
        set(empty_network(family, card.change(temperature=temperature)).state_dict()) for temperature in (False, True)
    )
    extra = steered - plain
    return bool(extra) and extra <= set(read_tensors(path, entry, steered | plain).tensors)


def import_model(
    card: ModelCard,
    path: str | Path,
    entry: Entry | None = None,
    tokenizer: Tokenizer | None = None,
    located: Located | None = None,
) -> Model:
    """A model with the weights of an official (or any matching) file.

    Args:
        card: with `temperature` for a network with a beta input; base weights get its fine-tune initialisation.
        path: see `read_tensors`.
        entry: raw or EMA weights, where the file has both.
        tokenizer: of the model.
        located: how the file was found, if it is known; its family is taken, and it goes into the provenance.

    Raises:
        GftzooError: the file is damaged or does not fit the card.
    """
    path = Path(path)
    family = located.family if located else load_family(card.family)
    network = family.build_network(card)
    found = read_tensors(path, entry, network.state_dict())
    fitted = family.import_weights(card, completed(network, found))
    load_weights(network, with_idle_slope(network, fitted), str(path))
    kind = located.entry if located and located.entry and found.entry == "bare" else found.entry
    provenance = _own_provenance(path) if _is_own(path) else {}
    provenance |= {"weights": path.name, "sha256": fingerprint(path), "entry": kind, "container": found.container}
    if located and located.objective:
        provenance["objective"] = located.objective
    provenance |= located.origin if located else {}
    return Model(card, network, tokenizer, family, provenance)


def _own_provenance(path: Path) -> dict[str, Any]:
    """What the card beside a file of gftzoo's says; the file that it was imported from keeps its name and hash."""
    provenance = read_card(path.parent)[1]
    before = {key: provenance.pop(key) for key in ("weights", "sha256", "container") if key in provenance}
    return {"imported_from": before, **provenance} if before else provenance


def load_folder(
    folder: Path, entry: Entry | None = None, tokenizer_path: str | None = None, tokenizer: bool = True
) -> Model:
    """A model saved by gftzoo, with its `tokenizer` or without; EMA weights unless `entry` says otherwise."""
    card, provenance = read_card(folder)
    kept = next((kind for kind in kinds_of(entry) if holds(folder, kind)), None)
    if kept is None:
        raise UsageError(missing(folder, entry))
    family = load_family(card.family)
    tensors, where = read_own(folder, kept), f"{kept} of {folder}"
    check_fit(empty_network(family, card), tensors, where)  # before memory is taken for whatever the card describes
    network = family.build_network(card)
    load_weights(network, tensors, where)
    provenance = {**provenance, "entry": kept, "folder": folder.name}
    built = family.build_tokenizer(card.tokenizer, tokenizer_path) if tokenizer else None
    return Model(card, network, built, family, provenance)
