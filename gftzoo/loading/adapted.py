"""Adapters put onto their base, and folded into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gftzoo.adapters.freezing import adapter_tensors, freeze
from gftzoo.adapters.record import ADAPTER_FILE, Adapter, AdapterFile, base_hash, read_adapter_file
from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.family import Family
from gftzoo.families.finding import load_family
from gftzoo.hub import address_of
from gftzoo.loading.files import Located, import_model, locate
from gftzoo.model import Model
from gftzoo.weights import Entry, load_weights, model_folder, own_weights, read_card, read_tensors
from gftzoo.zoo import get_card


def read_adapter(source: str | Path, entry: Entry | None = None) -> AdapterFile:
    """The adapter in a file, in the folder of an export, or the newest of a run.

    Raises GftzooError for a damaged one, and UsageError where there is none.
    """
    path = Path(source)
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"there is no adapter {str(source)!r}; give its file or the run that trained it.")
        return read_adapter_file(path)
    if (path / ADAPTER_FILE).is_file():
        return read_adapter_file(path / ADAPTER_FILE)
    folder = model_folder(path)
    card, provenance = read_card(folder)
    if "adapter" not in provenance:
        raise UsageError(f"{str(source)!r} is no adapter but a model that stands alone; sample it by itself.")
    file = own_weights(folder, entry)
    assert file is not None, "a folder of gftzoo's"
    adapter, tensors = Adapter.model_validate(provenance["adapter"]), read_tensors(file).tensors
    return AdapterFile(adapter, card, tensors, {**provenance, "entry": file.stem, "folder": folder.name})


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and not a model that stands alone."""
    if (folder / ADAPTER_FILE).is_file():
        return True
    try:
        return "adapter" in read_card(model_folder(folder))[1]
    except GftzooError:
        return False


def load_with_adapter(
    source: str | Path, weights: str | Path | None, adapter: str | Path | None, entry: Entry | None = None
) -> Model:
    """The model that `gftzoo.load` makes with an adapter, without a tokenizer.

    Args:
        source: a model's name, a folder with the base, or, without `adapter`, the folder of the adapter itself.
        weights: of the base, for a name; None takes what the adapter was trained on.
        adapter: its file, the folder of an export, or a run.
        entry: which weights of the adapter's run; those of the base are what it was trained on.
    """
    where = str(source if adapter is None else adapter)
    found, folder = read_adapter(where, entry), Path(source)
    family = load_family(found.card.family)
    if folder.is_dir() and weights is not None:
        hint = f"`gftzoo sample {found.card.name} --weights {weights} --adapter {where}` names another base"
        raise UsageError(f"{str(source)!r} has its own weights; leave out --weights {str(weights)!r} ({hint}).")
    if adapter is None:
        return load_adapted(found, family, where)
    name = read_card(model_folder(folder))[0].name if folder.is_dir() else get_card(str(source)).name
    if name != found.card.name:
        raise UsageError(f"{where} is an adapter of {found.card.name} and not of {name}; name that model.")
    if folder.is_dir():
        return load_adapted(found, family, where, own_weights(folder))
    base = None if weights is None else locate(get_card(name), weights, family=family).path
    return load_adapted(found, family, where, base)


def load_adapted(found: AdapterFile, family: Family, where: str, base: Path | None = None) -> Model:
    """The model that an adapter makes of its base, without a tokenizer.

    Args:
        found: the adapter.
        family: of its card.
        where: what to call it in a sentence.
        base: the base's file; None is the one that it was trained on.

    Raises:
        GftzooError: the base is gone or another one, or the adapter does not fit it.
    """
    adapter = found.adapter
    path = base or find_base(adapter, found.card, where, family)
    model = import_model(found.card, path, adapter.base.entry, located=Located(path, found.card, family))
    freeze(model, adapter.way, adapter.lora)
    refuse_other_base(model, adapter, where, path)
    missing = sorted(adapter_tensors(model.network).keys() - found.tensors.keys())
    if missing:
        raise GftzooError(f"{where} lacks tensor {missing[0]!r} of its own adapter; take another checkpoint.")
    load_weights(model.network, {**model.network.state_dict(), **found.tensors}, where)
    return replace(model, provenance=dict(found.provenance))


def find_base(adapter: Adapter, card: ModelCard, where: str, family: Family) -> Path:
    """The file of the base that an adapter was trained on; GftzooError where it is gone."""
    weights = adapter.base.weights
    try:
        known = {**get_card(card.name).checkpoints, **card.checkpoints}
    except UsageError:
        known = dict(card.checkpoints)
    if weights not in known and address_of(weights) is None and not Path(weights).exists():
        raise GftzooError(
            f"the base {weights!r} of {where} is gone (hash {adapter.base.sha256[:12]}); put it back, or sample with "
            f"another copy of it: `gftzoo sample {card.name} --weights PATH --adapter {where}`."
        )
    return locate(card.model_copy(update={"checkpoints": known}), weights, family=family).path


def refuse_other_base(model: Model, adapter: Adapter, where: str, path: str | Path) -> None:
    """GftzooError with both hashes where the frozen part of a model is not what the adapter was trained on."""
    found = base_hash(model.network)
    if found != adapter.base.sha256:
        raise GftzooError(
            f"{where} was trained on {adapter.base.weights!r} with hash {adapter.base.sha256[:12]}, and "
            f"{str(path)!r} has {found[:12]}; give the base that it belongs to."
        )
