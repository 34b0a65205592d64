"""The shelf of networks: what a card names as `network.kind`. A new one is a file here, and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError, nearest
from gftzoo_diffusion.networks.kind import Kind
from gftzoo_diffusion.options import NetworkOptions

NETWORKS: Final = {  # the file and the class in it, which are imported for a card that names them
    "dit": "dit:DiTKind",
    "uvit": "uvit:UViTKind",
    "uvit-text": "uvit_text:UViTTextKind",
    "mdt": "mdt:MDTKind",
    "adm": "adm:ADMKind",
    "ldm": "ldm:LDMKind",
}


def kind_of(settings: Mapping[str, Any]) -> Kind:
    """The network that network settings name; UsageError for one that is not on the shelf."""
    name = str(settings.get("kind", "dit"))
    if name not in NETWORKS:
        raise UsageError(
            f"network.kind = {name!r} is not valid: it must be one of {', '.join(NETWORKS)}"
            f"{nearest(name, list(NETWORKS))}."
        )
    return _taken(name)


@cache
def _taken(name: str) -> Kind:
    file, _, kind = NETWORKS[name].partition(":")
    found: Kind = getattr(import_module(f"{__name__}.{file}"), kind)()
    return found


def network_of(card: ModelCard) -> Kind:
    """The network of a card."""
    return kind_of(card.network)


NetworkOptions.choose = staticmethod(lambda settings: kind_of(settings).Options)
