"""Families: the plugin of one found, loaded, held against the contract and ready to call."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from gftzoo.catalogue.registry import zoo_registry
from gftzoo.errors import GftzooError, PluginError, UsageError, nearest
from gftzoo.families.defaults import Defaults
from gftzoo.families.family import Family
from gftzoo.plugins.discovery import (
    FAMILIES,
    WRAPPERS,
    Plugin,
    active,
    installed_plugins,
)
from gftzoo.plugins.loading import instantiate, load_wrapper, new_manager, refuse_faulty, register
from gftzoo.zoo import catalogue

REQUIRED_HOOKS = (
    "build_network",
    "draw_problem",
    "predict",
    "loss_term",
    "condition_drop",
    "temperature_sampler",
)


def find_family(name: str) -> Plugin:
    """The plugin that provides a family; PluginError with the pip command, or naming both sides of a clash.

    A family of the zoo's own catalogue is provided by the distribution that is named there, whoever else claims it.
    """

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
