"""One plugin loaded: imported, created, held against the contract, each step guarded. Finding them is elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Any

import pluggy

from gftzoo import __version__
from gftzoo.contract.hookspecs import CONTRACT_VERSION, OLDEST_CONTRACT, PROJECT, GenerativeFamily
from gftzoo.errors import PluginError
from gftzoo.plugins.discovery import Plugin
from gftzoo.plugins.guard import ForeignError, attempt, guarded
from gftzoo.printing import plain

AFFINE_SINCE = 2  # the contract in which `predict` may return an `Affine`


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
    if not OLDEST_CONTRACT <= contract <= CONTRACT_VERSION:
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
    if plugin.distribution == PROJECT:  # its own data sources and the like
        return
    from packaging.requirements import InvalidRequirement, Requirement  # `gftzoo list` loads no plugin

    for line in plugin.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise PluginError(f"plugin {plugin.label} has a requirement that is none, {plain(line, 100)!r}.") from error
        if requirement.name == PROJECT and not requirement.specifier.contains(__version__, prereleases=True):
            raise PluginError(
                f"plugin {plugin.label} needs gftzoo {requirement.specifier}; this is gftzoo {__version__}."
            )


def refuse_old_predict(plugin: Plugin, instance: Any, hooks: Hooks) -> None:
    """PluginError for a wrapper of `predict` that was written when it always returned a tensor."""
    version = guarded(lambda: getattr(instance, "contract_version", CONTRACT_VERSION), f"plugin {plugin.label}")
    if version < AFFINE_SINCE and hasattr(hooks, "predict"):
        raise PluginError(
            f"plugin {plugin.label} wraps the hook 'predict' and is written for contract {version}; since contract "
            f"{AFFINE_SINCE} that hook may return two outputs (gftzoo.layers.temperature.Affine)."
        )


def load_wrapper(plugin: Plugin) -> Hooks:
    """The hooks of a wrapper, tried on a manager of their own, so that a broken one leaves none behind."""
    instance = instantiate(plugin)
    hooks = hooks_of(plugin, instance)
    refuse_old_predict(plugin, instance, hooks)
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
