"""Models with weights, ready to use: from a name and a checkpoint, a file, a folder, or an adapter on its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from gftzoo.arguments import choice, path
from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError
from gftzoo.hub import address_of, local_copy
from gftzoo.loading.adapted import is_adapter, load_with_adapter, read_adapter
from gftzoo.loading.files import import_model, load_folder, locate
from gftzoo.model import Model
from gftzoo.weights.folders import model_folder
from gftzoo.weights.names import Entry
from gftzoo.weights.saving import read_card
from gftzoo.zoo import get_card


def load(
    source: str | Path,
    weights: str | Path | None = None,
    *,
    entry: Entry | None = None,
    tokenizer_path: str | None = None,
    tokenizer: bool = True,
    adapter: str | Path | None = None,
) -> Model:
    """A model ready to sample.

    Args:
        source: a model's name, a folder written by `Model.save` or a training run (its newest complete checkpoint), or
            `hub:OWNER/NAME[/FOLDER][@REVISION]`, a model that was pushed to the hub; its commit is in the provenance.
        weights: only for a name: a checkpoint of the card (`base`, `gft`), a local file or folder, `hub:OWNER/NAME`, or
            None for fresh weights.
        entry: `raw` or `ema` where there are both; EMA by default, and the choice is in `model.provenance["entry"]`.
        tokenizer_path: a local folder or file with the tokenizer's weights, where the hub is not reached.
        tokenizer: False leaves it out, for what needs the network alone.
        adapter: an adapter's file or run, to be put on these weights; with a name alone, on its own base. The folder of
            an adapter is a source, too.

    Raises:
        GftzooError: no such model, weights that do not fit or are damaged, or an argument of another type.
    """
    paths = {"weights": weights, "adapter": adapter, "tokenizer_path": tokenizer_path}
    for name, value in {"source": source, **{name: value or "" for name, value in paths.items()}}.items():
        path(name, value)
    choice("entry", entry, get_args(Entry))
    address = address_of(source)
    if address is None:
        return _load(source, weights, entry, tokenizer_path, tokenizer, adapter)
    if weights is not None:
        raise UsageError(f"{str(source)!r} has its own weights; leave out --weights {str(weights)!r}.")
    copy = local_copy(address)
    model = _load(copy.folder, None, entry, tokenizer_path, tokenizer, adapter)
    return replace(model, provenance={**model.provenance, **copy.provenance})


def _load(
    source: str | Path,
    weights: str | Path | None,
    entry: Entry | None,
    tokenizer_path: str | None,
    tokenizer: bool,
    adapter: str | Path | None,
) -> Model:
    """`load` of what is on this machine, or in the catalogue."""
    folder = Path(source)
    if adapter is not None or (folder.is_dir() and is_adapter(folder)):
        model = load_with_adapter(source, weights, adapter, entry)
        if tokenizer:
            model.tokenizer = model.family.build_tokenizer(model.card.tokenizer, tokenizer_path)
        return model
    if folder.is_dir():
        if weights is not None:
            raise UsageError(f"{str(source)!r} has its own weights; leave out --weights {str(weights)!r}.")
        return load_folder(model_folder(folder), entry, tokenizer_path, tokenizer)
    card = get_card(str(source))
    if weights is not None and Path(weights).is_dir() and is_adapter(Path(weights)):
        raise UsageError(f"{str(weights)!r} is an adapter; give it as --adapter, and its base as --weights.")
    if weights is None:
        model = Model.fresh(card)
    else:
        located = locate(card, weights, entry)
        model = import_model(located.card, located.path, entry, located=located)
    # Last, since it may be fetched: weights that do not fit are told of at once.
    if tokenizer:
        model.tokenizer = model.family.build_tokenizer(model.card.tokenizer, tokenizer_path)
    return model


def card_of(
    source: str | Path,
    weights: str | Path | None = None,
    entry: Entry | None = None,
    adapter: str | Path | None = None,
) -> ModelCard:
    """The card of the model that `load` makes of the same arguments; its weights are not read."""
    address = address_of(source)
    source = source if address is None else local_copy(address).folder
    folder = Path(source)
    if adapter is not None or (folder.is_dir() and is_adapter(folder)):
        return read_adapter(adapter or source, entry).card
    if folder.is_dir():
        return read_card(model_folder(folder))[0]
    card = get_card(str(source))
    return card if weights is None else locate(card, weights, entry).card
