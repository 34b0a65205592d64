"""What `gftzoo plugins` does."""

from __future__ import annotations

from typing import Any

from gftzoo.cli.tables import add_row, show, table
from gftzoo.contract.hookspecs import PROJECT
from gftzoo.installed import PluginReport, report
from gftzoo.plugins.discovery import installed_plugins, malformed_distributions
from gftzoo.printing import LONGEST_NAME, plain, say, say_json


def show_plugins(as_json: bool) -> None:
    """Show what is installed, loading each plugin in turn, with the reason for any that fails."""
    others = [plugin for plugin in installed_plugins() if plugin.distribution != PROJECT]  # gftzoo's own are no news
    rows = [plugin_row(report(plugin)) for plugin in others]
    named = {row["distribution"] for row in rows}
    rows += [malformed_row(*found) for found in malformed_distributions() if found[0] not in named]
    if as_json:
        say_json(rows)
        return
    if not rows:
        say("No plugins are installed; try `pip install gftzoo-diffusion`.")
        return
    result = table(*rows[0])
    for row in rows:
        add_row(result, *(plain(value) for value in row.values()))
    show(result)


def plugin_row(found: PluginReport) -> dict[str, Any]:
    """One row of `gftzoo plugins`."""
    return {
        "plugin": plain(found.plugin.name, LONGEST_NAME),
        "kind": found.plugin.group.removeprefix("gftzoo."),
        "distribution": found.plugin.distribution,
        "version": found.plugin.version,
        "state": found.state,
        "models": found.models,
        "reason": plain(found.reason),
    }


def malformed_row(folder: str, reason: str) -> dict[str, Any]:
    """The row of a distribution whose metadata cannot be read, named by its folder."""
    row = {"plugin": "?", "kind": "unknown", "distribution": folder, "version": "?", "state": "broken"}
    return row | {"models": 0, "reason": f"{reason}; reinstall or remove it"}
