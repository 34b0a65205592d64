"""How every installed plugin fares: what `gftzoo plugins` says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from gftzoo.catalogue.cards import Registry
from gftzoo.catalogue.registry import read_registry, zoo_registry
from gftzoo.errors import GftzooError, PluginError
from gftzoo.families.finding import find_family, load_family
from gftzoo.objectives import plugin_objective
from gftzoo.plugins.discovery import (
    FAMILIES,
    OBJECTIVES,
    WRAPPERS,
    Plugin,
    blocked,
)
from gftzoo.plugins.guard import attempt
from gftzoo.plugins.loading import load_object, load_wrapper, refuse_faulty


@dataclass(frozen=True)
class PluginReport:
    """What `gftzoo plugins` says of one plugin."""

    plugin: Plugin
    state: str  # "ok", "broken" or "blocked"
    reason: str = ""
    models: int = 0


def report(plugin: Plugin) -> PluginReport:
    """Loads one plugin and says how it fared; never raises."""

    if blocked(plugin):
        return PluginReport(plugin, "blocked", "by GFTZOO_ONLY or GFTZOO_BLOCK")
    try:
        shipped = attempt(partial(_try_out, plugin))
    except GftzooError as error:
        return PluginReport(plugin, "broken", str(error))
    listed = {**zoo_registry().models, **(shipped.models if shipped else {})}
    return PluginReport(plugin, "ok", models=sum(card.family == plugin.name for card in listed.values()))


def _try_out(plugin: Plugin) -> Registry | None:
    """Loads a plugin as its group is loaded, and returns the catalogue that it ships."""

    refuse_faulty(plugin)
    path = plugin.registry_path
    shipped = read_registry(path, zoo_registry()) if path else None
    if plugin.group == FAMILIES:
        chosen = find_family(plugin.name)
        if chosen != plugin:
            raise PluginError(f"family {plugin.name!r} of {plugin.distribution} belongs to {chosen.distribution}.")
        load_family(plugin.name)
    elif plugin.group == OBJECTIVES:
        plugin_objective(plugin)
    elif plugin.group == WRAPPERS:
        load_wrapper(plugin)
    else:
        load_object(plugin)
    return shipped
