"""Plugins: found by entry-point metadata without importing anything, loaded one by one, each isolated from the rest."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from gftzoo.errors import GftzooError, PluginError, UsageError, nearest
from gftzoo.hookspecs import CONTRACT_VERSION, PROJECT, GenerativeFamily

if TYPE_CHECKING:
    from gftzoo.family import Family
    from gftzoo.zoo import Registry

FAMILIES = "gftzoo.families"
WRAPPERS = "gftzoo.wrappers"
OBJECTIVES = "gftzoo.objectives"
SOURCES = "gftzoo.sources"
COMMANDS = "gftzoo.commands"
GROUPS = {
    FAMILIES: "A family of generators: a class with the hooks of `gftzoo.hookspecs.GenerativeFamily`.",
    WRAPPERS: "Wraps hooks of every family: a class with `@hookimpl(wrapper=True)` methods.",
    OBJECTIVES: "Something to train for: a subclass of `gftzoo.objective.Objective`, named as its entry point.",
    SOURCES: "Data, `--data NAME[:ARGUMENT]`: a function (argument, split) to a `gftzoo.data.sources.Source`.",
    COMMANDS: "A command of the command line, `gftzoo NAME`: a `click.Command`, imported only when it is called.",
}
REQUIRED_HOOKS = (
    "build_network",
    "draw_problem",
    "predict",
    "loss_term",
    "condition_drop",
    "temperature_sampler",
)


@dataclass(frozen=True)
class Plugin:
    """An entry point and the distribution it comes from."""

    entry: EntryPoint
    distribution: str
    version: str
    requires: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def group(self) -> str:
        return self.entry.group

    @property
    def label(self) -> str:
        return f"{self.name!r} ({self.distribution} {self.version})"

    @property
    def registry_path(self) -> Path | None:
        """The `registry.yaml` beside the plugin's code, found without importing it."""
        try:
            spec = importlib.util.find_spec(self.entry.value.partition(":")[0].partition(".")[0])
        except (ImportError, ValueError):
            return None
        path = Path(spec.origin).with_name("registry.yaml") if spec and spec.origin else None
        return path if path and path.is_file() else None


@dataclass(frozen=True)
class PluginReport:
    """What `gftzoo plugins` says of one plugin."""

    plugin: Plugin
    state: str  # "ok", "broken" or "blocked"
    reason: str = ""
    models: int = 0


@cache
def installed_plugins() -> tuple[Plugin, ...]:
    """All entry points of gftzoo's groups, from metadata alone."""
    found: dict[tuple[str, str, str], Plugin] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group in GROUPS:
                plugin = _plugin(entry, distribution)
                found.setdefault((entry.group, entry.name, plugin.distribution), plugin)
    return tuple(found[key] for key in sorted(found))


def _plugin(entry: EntryPoint, distribution: Distribution) -> Plugin:
    metadata = distribution.metadata  # parsed anew by every attribute that needs it
    return Plugin(entry, metadata["Name"], metadata["Version"], tuple(metadata.get_all("Requires-Dist") or ()))


def blocked(plugin: Plugin) -> bool:
    """Whether GFTZOO_ONLY or GFTZOO_BLOCK (comma-separated family or distribution names) keeps the plugin out."""
    names = {plugin.name, plugin.distribution}
    only, block = (_names(os.environ.get(variable, "")) for variable in ("GFTZOO_ONLY", "GFTZOO_BLOCK"))
    return bool(only and not names & only) or bool(names & block)


@cache
def _names(listing: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listing.split(",") if name.strip())


def active(group: str) -> Iterator[Plugin]:
    """The plugins of a group that are not blocked."""
    return (plugin for plugin in installed_plugins() if plugin.group == group and not blocked(plugin))


def plugin_registries() -> Iterator[Registry]:
    """The valid catalogues that active plugins ship."""
    from gftzoo.zoo import read_registry, zoo_registry

    for plugin in active(FAMILIES):
        path = plugin.registry_path
        if path is not None:
            try:
                yield read_registry(path, zoo_registry())
            except GftzooError:
                continue  # named, with its reason, by `gftzoo plugins`


def find_family(name: str) -> Plugin:
    """The plugin that provides a family; PluginError with the pip command, or naming both sides of a clash."""
    from gftzoo.zoo import catalogue

    found = [plugin for plugin in active(FAMILIES) if plugin.name == name]
    if len(found) > 1:
        both = " and ".join(f"{p.distribution} {p.version}" for p in found)
        raise PluginError(
            f"family {name!r} is claimed by {both}; uninstall one, or set GFTZOO_BLOCK to its distribution."
        )
    if found:
        return found[0]
    if any(plugin.name == name for plugin in installed_plugins()):
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
            instance = instantiate(wrapper)
            register(new_manager(), wrapper, instance)  # on trial, so that a broken one leaves no hook behind
        except PluginError as error:
            warnings.warn(f"{error} It is left out.", stacklevel=2)
        else:
            register(manager, wrapper, instance)
    return Family(name, manager)


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the contract."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(GenerativeFamily)
    return manager


def register(manager: pluggy.PluginManager, plugin: Plugin, instance: Any) -> None:
    """Adds the plugin's object; PluginError names plugin, distribution and what it breaks."""
    try:
        manager.register(instance, f"{plugin.group}:{plugin.name}")
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PluginError(f"plugin {plugin.label} does not fit the contract: {reason}.") from error


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
    refuse_other_gftzoo(plugin)
    try:
        instance = plugin.entry.load()
        instance = instance() if create else instance
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PluginError(f"plugin {plugin.label} failed to load ({reason}).") from error
    contract = getattr(instance, "contract_version", CONTRACT_VERSION)
    if contract != CONTRACT_VERSION:
        side = "a newer gftzoo" if contract > CONTRACT_VERSION else "an older gftzoo"
        raise PluginError(
            f"plugin {plugin.label} is written for contract {contract} ({side}); "
            f"this gftzoo has contract {CONTRACT_VERSION}."
        )
    return instance


def refuse_other_gftzoo(plugin: Plugin) -> None:
    """PluginError if the distribution requires a gftzoo that this one is not."""
    from packaging.requirements import Requirement

    from gftzoo import __version__

    for requirement in map(Requirement, plugin.requires):
        if requirement.name == PROJECT and not requirement.specifier.contains(__version__, prereleases=True):
            raise PluginError(
                f"plugin {plugin.label} needs gftzoo {requirement.specifier}; this is gftzoo {__version__}."
            )


def report(plugin: Plugin) -> PluginReport:
    """Loads one plugin and says how it fared; never raises."""
    from gftzoo.zoo import read_registry, zoo_registry

    if blocked(plugin):
        return PluginReport(plugin, "blocked", "by GFTZOO_ONLY or GFTZOO_BLOCK")
    try:
        path = plugin.registry_path
        shipped = read_registry(path, zoo_registry()) if path else None
        if plugin.group == FAMILIES:
            load_family(plugin.name)
        elif plugin.group == OBJECTIVES:
            from gftzoo.objectives import plugin_objective

            plugin_objective(plugin)
        elif plugin.group in (SOURCES, COMMANDS):
            load_object(plugin)
        else:
            register(new_manager(), plugin, instantiate(plugin))
    except GftzooError as error:
        return PluginReport(plugin, "broken", str(error))
    listed = {**zoo_registry().models, **(shipped.models if shipped else {})}
    return PluginReport(plugin, "ok", models=sum(card.family == plugin.name for card in listed.values()))
