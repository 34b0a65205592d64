"""Plugins: found by entry-point metadata without importing anything, loaded one by one, each guarded from the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gftzoo.discovery import (
    COMMANDS,
    FAMILIES,
    GROUPS,
    OBJECTIVES,
    SOURCES,
    WRAPPERS,
    Plugin,
    active,
    blocked,
    installed_plugins,
    malformed_distributions,
)
from gftzoo.errors import GftzooError, PluginError, UsageError, nearest
from gftzoo.guard import attempt
from gftzoo.loading import instantiate, load_object, load_wrapper, new_manager, refuse_faulty, register

if TYPE_CHECKING:
    from gftzoo.family import Family
    from gftzoo.zoo import Registry

__all__ = [
    "COMMANDS",
    "FAMILIES",
    "GROUPS",
    "OBJECTIVES",
    "SOURCES",
    "WRAPPERS",
    "Plugin",
    "PluginReport",
    "active",
    "blocked",
    "families_with",
    "find_family",
    "installed_plugins",
    "load_family",
    "load_object",
    "malformed_distributions",
    "plugin_registries",
    "report",
]
REQUIRED_HOOKS = (
    "build_network",
    "draw_problem",
    "predict",
    "loss_term",
    "condition_drop",
    "temperature_sampler",
)


@dataclass(frozen=True)
class PluginReport:
    """What `gftzoo plugins` says of one plugin."""

    plugin: Plugin
    state: str  # "ok", "broken" or "blocked"
    reason: str = ""
    models: int = 0


def plugin_registries() -> Iterator[Registry]:
    """The valid catalogues that active plugins ship."""
    from gftzoo.zoo import read_registry, zoo_registry

    for plugin in active(FAMILIES):
        path = plugin.registry_path
        if path is not None:
            try:
                yield attempt(partial(read_registry, path, zoo_registry()))
            except GftzooError:
                continue  # named, with its reason, by `gftzoo plugins`


def find_family(name: str) -> Plugin:
    """The plugin that provides a family; PluginError with the pip command, or naming both sides of a clash.

    A family of the zoo's own catalogue is provided by the distribution that is named there, whoever else claims it.
    """
    from gftzoo.zoo import catalogue, zoo_registry

    found = [plugin for plugin in active(FAMILIES) if plugin.name == name]
    own = zoo_registry().families.get(name)
    if own is not None:
        found = [plugin for plugin in found if plugin.distribution == own.distribution] or found
    if len(found) > 1:
        both = " and ".join(f"{p.distribution} {p.version}" for p in found)
        raise PluginError(
            f"family {name!r} is claimed by {both}; uninstall one, or set GFTZOO_BLOCK to its distribution."
        )
    if found:
        return found[0]
    for plugin in installed_plugins():
        if plugin.name == name and plugin.group == FAMILIES:
            refuse_faulty(plugin)
            raise PluginError(f"family {name!r} is blocked by GFTZOO_ONLY or GFTZOO_BLOCK.")
    families = catalogue().families
    if name in families:
        raise PluginError(f"family {name!r} is not installed; run `pip install {families[name].distribution}`.")
    raise UsageError(f"unknown family {name!r}{nearest(name, families)}; `gftzoo plugins` shows what is installed.")


@cache
def load_family(name: str) -> Family:
    """The family of that name, imported, checked against the contract and ready to call."""
    from gftzoo.family import Defaults, Family

    plugin = find_family(name)
    manager = new_manager()
    manager.register(Defaults(), "gftzoo defaults")
    register(manager, plugin, instantiate(plugin))
    missing = [hook for hook in REQUIRED_HOOKS if not getattr(manager.hook, hook).get_hookimpls()]
    if missing:
        raise PluginError(f"plugin {plugin.label} lacks the required hook {missing[0]!r}.")
    for wrapper in active(WRAPPERS):
        try:
            instance = load_wrapper(wrapper)
        except PluginError as error:
            warn_once(f"{error} It is left out.")
        else:
            register(manager, wrapper, instance)
    return Family(name, manager)


def warn_once(text: str) -> None:
    """Warns, unless it has been said of these installed plugins before: wrappers are loaded for every family anew."""
    if _said[0] is not installed_plugins():
        _said[:] = [installed_plugins(), set()]
    if text not in _said[1]:
        _said[1].add(text)
        warnings.warn(text, stacklevel=3)


_said: list[Any] = [None, set()]  # the installed plugins, and what has been said of them


def families_with(hook: str) -> list[str]:
    """The installed families that implement an optional hook; those that do not load are passed over."""
    found = []
    for plugin in active(FAMILIES):
        try:
            if load_family(plugin.name).offers(hook):
                found.append(plugin.name)
        except GftzooError:
            continue
    return found


def report(plugin: Plugin) -> PluginReport:
    """Loads one plugin and says how it fared; never raises."""
    from gftzoo.zoo import zoo_registry

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
    from gftzoo.zoo import read_registry, zoo_registry

    refuse_faulty(plugin)
    path = plugin.registry_path
    shipped = read_registry(path, zoo_registry()) if path else None
    if plugin.group == FAMILIES:
        chosen = find_family(plugin.name)
        if chosen != plugin:
            raise PluginError(f"family {plugin.name!r} of {plugin.distribution} belongs to {chosen.distribution}.")
        load_family(plugin.name)
    elif plugin.group == OBJECTIVES:
        from gftzoo.objectives import plugin_objective

        plugin_objective(plugin)
    elif plugin.group == WRAPPERS:
        load_wrapper(plugin)
    else:
        load_object(plugin)
    return shipped
