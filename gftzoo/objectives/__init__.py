"""The objectives there are: the zoo's own and those of plugins, found by name and configured."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from gftzoo.catalogue.cards import ModelCard, validation_sentence
from gftzoo.contract.objective import Objective
from gftzoo.errors import PluginError, UsageError, nearest
from gftzoo.families.family import Family
from gftzoo.families.finding import families_with
from gftzoo.gft import GFT
from gftzoo.objectives.cca import CCA
from gftzoo.objectives.conditional import Conditional
from gftzoo.objectives.distillation import Distillation
from gftzoo.plugins.discovery import OBJECTIVES, Plugin, active
from gftzoo.plugins.guard import ForeignError, attempt
from gftzoo.plugins.loading import load_object

BUILT_IN: dict[str, type[Objective]] = {o.name: o for o in (GFT, Conditional, CCA, Distillation)}


def objective_names() -> list[str]:
    """The names `--objective` takes, from metadata alone."""
    return [*BUILT_IN, *sorted({plugin.name for plugin in active(OBJECTIVES)} - set(BUILT_IN))]


def find_objective(name: str) -> type[Objective]:
    """The objective of that name; UsageError for an unknown one, PluginError for a broken or ambiguous plugin."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = [plugin for plugin in active(OBJECTIVES) if plugin.name == name]
    if len(found) > 1:
        raise PluginError(f"objective {name!r} is claimed by {' and '.join(p.label for p in found)}; uninstall one.")
    if found:
        return plugin_objective(found[0])
    names = objective_names()
    raise UsageError(f"unknown objective {name!r}{nearest(name, names)}; valid are {', '.join(names)}.")


def plugin_objective(plugin: Plugin) -> type[Objective]:
    """The class behind an entry point; PluginError if it does not load or is not an objective of that name."""
    found = load_object(plugin)
    try:
        return attempt(partial(_checked, plugin, found))
    except ForeignError as error:
        raise PluginError(f"plugin {plugin.label} cannot be looked at ({error}).") from error


def _checked(plugin: Plugin, found: Any) -> type[Objective]:
    if not (inspect.isclass(found) and issubclass(found, Objective)):
        raise PluginError(
            f"plugin {plugin.label} is no objective: it must name a subclass of gftzoo.contract.objective.Objective."
        )
    lacking = [*sorted(found.__abstractmethods__), *(a for a in ("name", "temperature") if not hasattr(found, a))]
    if lacking:
        raise PluginError(f"plugin {plugin.label} is an objective that lacks {lacking[0]!r}.")
    if found.name != plugin.name or plugin.name in BUILT_IN:
        raise PluginError(
            f"plugin {plugin.label} holds an objective named {found.name!r}; entry point and class must have one name, "
            f"and not one of the zoo's own ({', '.join(BUILT_IN)})."
        )
    return found


def build_objective(name: str, options: dict[str, Any] | None = None) -> Objective:
    """The objective of that name, configured; UsageError for an unknown name, option or value."""
    objective = find_objective(name)
    try:
        return objective(objective.Options.model_validate(options or {}))
    except ValueError as error:
        raise UsageError(validation_sentence(f"objective {name}", error, objective.Options)) from error


def refuse_unfit(objective: Objective, family: Family, card: ModelCard, start: str | None) -> None:
    """UsageError if a run of `card` from the weights `start` (None: from scratch) cannot have the objective."""
    if objective.needs is not None and not family.offers(objective.needs):
        having = ", ".join(families_with(objective.needs)) or "none that is installed"
        raise UsageError(
            f"objective {objective.name} needs the hook {objective.needs}, which family {family.name!r} does not have; "
            f"families that have it: {having}."
        )
    objective.check(card, start)
