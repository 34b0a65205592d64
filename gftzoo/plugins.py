"""Plugins: found by entry-point metadata without importing anything, loaded one by one, each guarded from the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pluggy

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
from gftzoo.guard import ForeignError, attempt, guarded
from gftzoo.hookspecs import CONTRACT_VERSION, PROJECT, GenerativeFamily
from gftzoo.printing import plain

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
            warnings.warn(f"{error} It is left out.", stacklevel=2)
        else:
            register(manager, wrapper, instance)
    return Family(name, manager)


def load_wrapper(plugin: Plugin) -> Hooks:
    """The hooks of a wrapper, tried on a manager of their own, so that a broken one leaves none behind."""
    hooks = hooks_of(plugin, instantiate(plugin))
    trial = new_manager()
    register(trial, plugin, hooks)
    for caller in trial.get_hookcallers(hooks) or ():
        if not all(found.wrapper or found.hookwrapper for found in caller.get_hookimpls()):
            raise PluginError(
                f"plugin {plugin.label} takes the hook {caller.name!r} over from every family; "
                "it must wrap it, with @hookimpl(wrapper=True)."
            )
    return hooks


class Hooks:
    """The hooks of a plugin's object, looked up once: pluggy then never touches the object, which may bite."""

    def __init__(self, instance: Any) -> None:
        for name in dir(instance):
            method = getattr(instance, name)
            if getattr(method, f"{PROJECT}_impl", None) is not None:
                setattr(self, name, method)


def hooks_of(plugin: Plugin, instance: Any) -> Hooks:
    """What pluggy may see of a plugin's object; PluginError if it cannot be looked at."""
    if isinstance(instance, Hooks):
        return instance
    try:
        return guarded(partial(Hooks, instance), f"plugin {plugin.label}")
    except ForeignError as error:
        raise PluginError(f"plugin {plugin.label} cannot be looked at ({error}).") from error


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the contract."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(GenerativeFamily)
    return manager


def register(manager: pluggy.PluginManager, plugin: Plugin, instance: Any) -> None:
    """Adds the plugin's object; PluginError names plugin, distribution and what it breaks."""
    hooks = hooks_of(plugin, instance)
    try:
        attempt(partial(manager.register, hooks, f"{plugin.group}:{plugin.name}"))
        attempt(manager.check_pending)
    except ForeignError as error:
        cause = error.__cause__
        known = isinstance(cause, pluggy.PluginValidationError | ValueError)
        reason = plain(cause, 500) if known else str(error)
        raise PluginError(f"plugin {plugin.label} does not fit the contract: {reason.rstrip('.')}.") from error


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


def instantiate(plugin: Plugin) -> Any:
    """Imports the plugin and creates its object, whatever it may throw."""
    return load_object(plugin, create=True)


def load_object(plugin: Plugin, create: bool = False) -> Any:
    """What the entry point names, imported; with `create`, called. PluginError whatever the plugin may throw."""
    refuse_faulty(plugin)
    refuse_other_gftzoo(plugin)

    def load() -> tuple[Any, Any]:
        found = plugin.entry.load()
        found = found() if create else found
        return found, getattr(found, "contract_version", CONTRACT_VERSION)

    try:
        instance, contract = guarded(load, f"plugin {plugin.label}")
    except ForeignError as error:
        raise PluginError(f"plugin {plugin.label} failed to load ({error}).") from error
    if type(contract) is not int:
        raise PluginError(
            f"plugin {plugin.label} has the contract_version {plain(contract, 50)!r}, which is no whole number; "
            f"this gftzoo has contract {CONTRACT_VERSION}."
        )
    if contract != CONTRACT_VERSION:
        side = "a newer gftzoo" if contract > CONTRACT_VERSION else "an older gftzoo"
        raise PluginError(
            f"plugin {plugin.label} is written for contract {plain(contract, 50)} ({side}); "
            f"this gftzoo has contract {CONTRACT_VERSION}."
        )
    return instance


def refuse_faulty(plugin: Plugin) -> None:
    """PluginError if the metadata of its distribution is not sound."""
    if plugin.fault:
        raise PluginError(f"plugin {plugin.label} is left out: {plugin.fault}.")


def refuse_other_gftzoo(plugin: Plugin) -> None:
    """PluginError if the distribution requires a gftzoo that this one is not, or what it requires cannot be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    from gftzoo import __version__

    for line in plugin.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise PluginError(f"plugin {plugin.label} has a requirement that is none, {plain(line, 100)!r}.") from error
        if requirement.name == PROJECT and not requirement.specifier.contains(__version__, prereleases=True):
            raise PluginError(
                f"plugin {plugin.label} needs gftzoo {requirement.specifier}; this is gftzoo {__version__}."
            )


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
