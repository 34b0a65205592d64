"""The shelf of networks: what a card names as `network.kind`. A new one is a file here, and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gftzoo.catalogue.cards import ModelCard
from gftzoo.errors import UsageError, nearest
from gftzoo_diffusion.networks.adm import ADMKind
from gftzoo_diffusion.networks.dit import DiTKind
from gftzoo_diffusion.networks.kind import Kind
from gftzoo_diffusion.networks.ldm import LDMKind
from gftzoo_diffusion.networks.mdt import MDTKind
from gftzoo_diffusion.networks.uvit import UViTKind
from gftzoo_diffusion.networks.uvit_text import UViTTextKind
from gftzoo_diffusion.options import NetworkOptions

NETWORKS: Final[Mapping[str, Kind]] = {
    "dit": DiTKind(),
    "uvit": UViTKind(),
    "uvit-text": UViTTextKind(),
    "mdt": MDTKind(),
    "adm": ADMKind(),
    "ldm": LDMKind(),
}


def kind_of(settings: Mapping[str, Any]) -> Kind:
    """The network that network settings name; UsageError for one that is not on the shelf."""
    name = str(settings.get("kind", "dit"))
    if name not in NETWORKS:
        raise UsageError(
            f"network.kind = {name!r} is not valid: it must be one of {', '.join(NETWORKS)}"
            f"{nearest(name, list(NETWORKS))}."
        )
    return NETWORKS[name]


def network_of(card: ModelCard) -> Kind:
    """The network of a card."""
    return kind_of(card.network)


NetworkOptions.choose = staticmethod(lambda settings: kind_of(settings).Options)
